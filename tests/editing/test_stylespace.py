"""S: its statistics, its edits, and the channels that were planted in a small world."""

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing.edit import State, apply_edit
from latentlab.editing.samples import Samples, draw_samples
from latentlab.editing.stylespace import (
    Channel,
    StyleDirection,
    channel_edit,
    rank_channels,
    rank_channels_by_region,
    style_statistics,
)
from latentlab.spaces import measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def G() -> StyleWorld:
    return StyleWorld(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def statistics(G):
    return measure_statistics(G, 50_000)


def test_statistics_are_those_of_many_codes(G, statistics):
    found = style_statistics(G, statistics)
    styles = G.styles(G.broadcast(G.mapping(torch.randn(50_000, 6, generator=torch.Generator().manual_seed(9)))))
    for mean, std, s in zip(found.mean, found.std, styles, strict=True):
        torch.testing.assert_close(mean, s.mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(std, s.std(0), atol=0, rtol=0.02)
    z = torch.cat(found.standardise(styles), 1)
    torch.testing.assert_close(z.std(0), torch.ones(20), atol=0.02, rtol=0)


def test_a_channel_moves_alone_by_one_deviation(G, statistics):
    edit = channel_edit(G, Channel(1, 3, 2.0, -1), "planted", statistics=statistics)
    assert edit.space == "S" and edit.layers == (1,) and "channel 3 of second" in edit.source
    state = State(G.broadcast(torch.randn(2, 6, generator=torch.Generator().manual_seed(1))))
    before, after = state.draw(G), edit(state, torch.tensor([2.0, 0.0]), G).draw(G)
    change = (after - before).flatten(1)[:, :20]
    expected = torch.zeros(2, 20)
    expected[0, 8 + 3] = -2 * style_statistics(G, statistics).std[1][3]
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-5)


def test_edits_of_s_and_of_w_go_together():
    """On a real generator: styles that are held move, a later edit of the codes moves them on, and features follow."""
    G = Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1).requires_grad_(False).eval()
    draw = torch.Generator().manual_seed(0)
    state = State(torch.randn(2, G.num_ws, 16, generator=draw))
    edit = StyleDirection("s", tuple(0.3 * torch.randn(s.channels, generator=draw) for s in G.style_layers))
    once = apply_edit(edit, state, torch.ones(2), G)
    twice = apply_edit(edit, once, torch.ones(2), G)
    torch.testing.assert_close(twice.draw(G), apply_edit(edit, state, torch.full((2,), 2.0), G).draw(G))
    held = State(state.w_plus, features={8: G.features(state.w_plus)[8]})
    torch.testing.assert_close(apply_edit(edit, held, torch.ones(2), G).draw(G), once.draw(G), atol=1e-5, rtol=1e-4)


def test_the_planted_channel_is_ranked_first(G, statistics):
    """Attribute b falls with channel 5 of the second layer, which no other channel of a convolution follows."""
    samples = draw_samples(G, lambda x: -x.flatten(1)[:, 13:14] * 3, ["b"], n=2_000)
    best = rank_channels(G, samples, "b", statistics=statistics)
    assert (best[0].layer, best[0].channel, best[0].sign) == (1, 5, -1) and best[0].score > best[1].score
    assert all(channel.layer < 2 for channel in best) and len(best) == 16
    examples = G.styles(G.broadcast(samples.w[samples.of("b").topk(40).indices]))  # 2 % of 2,000
    population = style_statistics(G, statistics)
    for found in best[:4]:
        s = examples[found.layer][:, found.channel]
        far = (s.mean() - population.mean[found.layer][found.channel]).abs()
        assert found.score == pytest.approx(float(far / s.std()), rel=1e-3)
    assert len(rank_channels(G, samples, "b", torgb=True, statistics=statistics)) == 20
    by_colour = draw_samples(G, lambda x: x.flatten(1)[:, 17:18], ["b"], n=2_000)
    best = rank_channels(G, by_colour, "b", torgb=True, statistics=statistics)
    assert (best[0].layer, best[0].channel, best[0].sign) == (2, 1, 1)


def test_regions_know_their_channels(G, statistics):
    """Channel c paints pixel c of the first two planes, row by row, so the masks name their channels exactly."""
    w, top = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(6, 1, 4, 4)
    top[:, :, :2] = 1
    found = rank_channels_by_region(G, w, {"top": top, "bottom": 1 - top}, statistics=statistics, count=8)
    assert {(c.layer, c.channel) for c in found["top"]} == {(0, c) for c in range(8)}
    assert {(c.layer, c.channel) for c in found["bottom"]} == {(1, c) for c in range(8)}
    assert all(c.score == pytest.approx(1) for c in found["top"])
    half = rank_channels_by_region(G, w, {"half": 0.5 * top}, statistics=statistics, count=16)["half"]
    assert [round(c.score, 3) for c in half] == [0.5] * 8 + [0.0] * 8


def test_bad_input(unchecked, G, statistics):
    samples = draw_samples(G, first(2), ["a", "b"], n=100)
    with pytest.raises(ValueError, match="share: expected .*2 examples or more"):
        rank_channels(G, samples, "a", share=0.01)
    with pytest.raises(ValueError, match="got 'c'; read are: a, b"):
        rank_channels(G, samples, "c")
    with pytest.raises(ValueError, match="expected a to vary"):
        rank_channels(G, Samples(samples.w, torch.zeros(100, 1), ("a",)), "a", share=0.1)
    with pytest.raises(ValueError, match="statistics: expected those of the mapping network"):
        rank_channels(G, samples, "a", share=0.1, statistics=measure_statistics(StyleWorld(), 100))
    with pytest.raises(ValueError, match=r"masks: expected shape \(100, 1, 4, 4\)"):
        rank_channels_by_region(G, samples.w, {"top": torch.ones(1, 1, 4, 4)}, statistics=statistics)
    with pytest.raises(ValueError, match=r"expected \[8, 8, 4\] channels .*, got \[8, 8\]"):
        StyleDirection("x", (torch.zeros(8), torch.zeros(8)))(State(G.broadcast(samples.w)), torch.ones(100), G)
