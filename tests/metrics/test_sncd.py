"""SNCD of codes, its anchors and their error bars, and the properties of S^N that LSAP proves (and their limits)."""

from dataclasses import replace

import pytest
import torch

from latentlab import spaces
from latentlab.metrics import sncd, sncd_error, sncd_of_codes, sncd_references
from latentlab.seeds import stream
from latentlab.spaces import Anchors, Statistics, anchors_for, measure_anchors, measure_statistics, s_to_sn, w_to_s
from latentlab.stylegan import Generator, GeneratorConfig

NARROW = GeneratorConfig(16, 12, 10, 2, (8, 8, 8))  # every layer has at most as many channels as a code
WIDE = GeneratorConfig(16, 12, 10, 2, (16, 16, 8))


def generator(config: GeneratorConfig = WIDE, seed: int = 3) -> Generator:
    return Generator(config, seed=seed).double().requires_grad_(False)


def codes(G: Generator, n: int, seed: int = 1) -> torch.Tensor:
    return G.broadcast(G.mapping(torch.randn(n, G.z_dim, generator=stream(seed, "z"), dtype=torch.float64)))


@pytest.fixture(scope="module")
def G() -> Generator:
    return generator()


@pytest.fixture(scope="module")
def anchors(G: Generator) -> Anchors:
    return measure_anchors(G, 10_000)


def test_anchors_are_means_of_directions(G):
    found = measure_anchors(G, 600, parts=3, batch_size=70, seed=5)
    draw = stream(5, "anchors")
    z = torch.cat([torch.randn(n, 12, generator=draw) for _ in range(3) for n in (70, 70, 60)])
    styles = w_to_s(G.broadcast(G.mapping(z)), G)
    for mu, parts, s in zip(found.means(), found.parts, styles, strict=True):
        unit = s / s.norm(dim=1, keepdim=True)
        torch.testing.assert_close(mu, unit.mean(0))
        torch.testing.assert_close(parts, unit.unflatten(0, (3, 200)).mean(1))
    assert len(found.means(torgb=False)) == G.num_ws - 1 and found.n == 600
    for n, parts in ((605, 10), (5, 10), (600, 1)):
        with pytest.raises(ValueError, match=f"n: expected a multiple of {parts} parts, .* got {n}"):
            measure_anchors(G, n, parts=parts)


def test_samples_score_the_second_floor(G, anchors):
    w_plus = codes(G, 20_000)
    for torgb in (True, False):
        average = sncd_references(anchors.means(torgb=torgb))[1]
        found = sncd_of_codes(w_plus, G, anchors, torgb=torgb)
        torch.testing.assert_close(found.mean(), average.mean(), rtol=0.01, atol=0)
    assert not torch.equal(sncd_of_codes(w_plus, G, anchors), sncd_of_codes(w_plus, G, anchors, torgb=False))


def test_metric_is_a_mean_and_loss_a_sum_over_layers(G, anchors):
    w_plus = codes(G, 4)
    each = sncd(s_to_sn(w_to_s(w_plus, G)), anchors.means())
    torch.testing.assert_close(sncd_of_codes(w_plus, G, anchors), each.mean(1))
    torch.testing.assert_close(sncd_of_codes(w_plus, G, anchors, reduction="sum"), each.sum(1))
    torch.testing.assert_close(sncd_of_codes(w_plus, G, anchors, reduction="sum", layers=2), each[:, :2].sum(1))


def test_descent_on_sncd_reaches_its_first_floor():
    G = generator(NARROW)  # here every direction of a layer's style is the style of some code
    anchors = measure_anchors(G, 2_000)
    w_plus = (3 * codes(G, 2)).requires_grad_()
    lowest = sncd_references(anchors.means(torgb=False))[0].mean()
    adam = torch.optim.Adam([w_plus], lr=0.3)
    for _ in range(150):
        value = sncd_of_codes(w_plus, G, anchors, torgb=False)
        adam.zero_grad()
        value.sum().backward()
        adam.step()
    assert (value >= lowest - 1e-9).all()
    torch.testing.assert_close(value.detach(), lowest.expand(2), rtol=0.05, atol=0)


def test_error_bars_are_the_spread_over_samples_of_codes(G):
    styles = s_to_sn(w_to_s(1.5 * codes(G, 8), G))
    several = [measure_anchors(G, 1_000, seed=seed) for seed in range(30)]
    values = torch.stack([sncd(styles, a.means()).mean(0) for a in several])  # (30, L)
    claimed = torch.stack([sncd_error(styles, a) for a in several]).square().mean(0).sqrt()
    ratio = claimed / values.std(0)
    assert ((0.6 < ratio) & (ratio < 1.6)).all(), ratio
    whole = torch.stack([sncd_error(styles, a, reduction="mean") for a in several]).square().mean().sqrt()
    assert 0.6 < whole / values.mean(1).std() < 1.6
    larger = torch.stack([sncd_error(styles, measure_anchors(G, 16_000, seed=seed)) for seed in range(3)])
    assert 2.5 < (claimed / larger.square().mean(0).sqrt()).mean() < 6  # 4 expected for 16 times the codes
    assert len(sncd_error(styles[:-1], several[0])) == G.num_ws - 1


def test_anchors_are_stored_with_the_statistics(G, anchors, monkeypatch):
    statistics = replace(measure_statistics(G, 1_000), anchors=anchors)
    tensors, metadata = statistics.to_tensors()
    again = Statistics.from_tensors(tensors, metadata).anchors
    assert (again.n, again.fingerprint) == (anchors.n, anchors.fingerprint)
    assert all(torch.equal(a, b) for a, b in zip(again.parts, anchors.parts, strict=True))
    assert Statistics.from_tensors(*replace(statistics, anchors=None).to_tensors()).anchors is None
    stored = {("statistics", spaces.fingerprint(G)): "own.statistics.safetensors"}
    monkeypatch.setattr(spaces.weights, "find", lambda *key: stored.get(key))
    monkeypatch.setattr(spaces.weights, "read_weights", lambda file: (tensors, metadata))
    assert anchors_for(G).n == 10_000
    tuned = generator()
    tuned.blocks["8"].conv0.affine.weight.mul_(1.1)  # the same W, other styles
    assert spaces.fingerprint(tuned) == spaces.fingerprint(G)
    assert anchors_for(tuned).n == 50_000
    anchors.check(G)
    with pytest.raises(ValueError, match="anchors: expected those of the generator"):
        anchors.check(tuned)


def test_properties_3_1_and_3_2_lengths_of_convolutions_styles_do_not_matter(G, anchors):
    """Another S, the same picture, the same SNCD."""
    w_plus = codes(G, 3)
    styles, before = G.styles(w_plus), sncd(s_to_sn(w_to_s(w_plus, G)), anchors.means())
    factors = 0.5 + torch.rand(len(styles), 3, 1, generator=stream(0, "factors"), dtype=torch.float64)
    other = [s * a if layer.kind == "conv" else s for s, a, layer in zip(styles, factors, G.style_layers, strict=True)]
    torch.testing.assert_close(G.synthesis(None, styles=other), G.synthesis(None, styles=styles))
    wanted = [s for s, layer in zip(other, G.style_layers, strict=True) if layer in spaces.style_layers(G)]
    torch.testing.assert_close(sncd(s_to_sn(wanted), anchors.means()), before)


@pytest.mark.parametrize("config, solvable", [(NARROW, True), (WIDE, False)])
def test_property_3_3_another_code_has_the_same_direction(config, solvable):
    """A (w' - w) = (a - 1) (A w + b) makes s' = a s; it can be solved where A has full row rank, C <= D."""
    G, a = generator(config), 1.7
    w_plus = codes(G, 3)
    for layer in spaces.style_layers(G, torgb=False):
        affine = G.get_submodule(layer.name).affine
        A, w = affine.weight * affine.weight_gain, w_plus[:, layer.w_index]
        s = affine(w)
        other = w + (a - 1) * s @ torch.linalg.pinv(A).T
        assert (other - w).norm(dim=1).min() > 0.1
        fits = bool(((affine(other) - a * s).norm(dim=1) < 1e-6 * s.norm(dim=1)).all())
        assert fits == (layer.channels <= G.w_dim) and (fits or not solvable), layer


def test_corollary_3_1_in_w_plus_holds_where_no_torgb_reads_the_code():
    """The pictures of both codes are the same at even layers; at odd ones toRGB reads the code too, and differs."""
    G, a = generator(NARROW), 1.7
    w_plus = codes(G, 2)
    picture = G.synthesis(w_plus)
    for layer in spaces.style_layers(G, torgb=False):
        affine, other = G.get_submodule(layer.name).affine, w_plus.clone()
        A = affine.weight * affine.weight_gain
        other[:, layer.w_index] += (a - 1) * affine(w_plus[:, layer.w_index]) @ torch.linalg.pinv(A).T
        change = (G.synthesis(other) - picture).abs().max()
        assert change < 1e-6 if layer.w_index % 2 == 0 else change > 1e-3, layer


def test_styles_without_a_direction_are_refused(G, anchors, unchecked):
    styles = w_to_s(codes(G, 3), G)
    styles[2][1] = 0
    with pytest.raises(ValueError, match="styles: expected lengths above 0, got length 0 in layer 2"):
        s_to_sn(styles)
    silent = generator()
    affine = silent.blocks["8"].conv0.affine
    affine.weight.zero_()
    affine.bias.zero_()
    with pytest.raises(ValueError, match="got length 0 in layer 1"):
        measure_anchors(silent, 100)
    with pytest.raises(ValueError, match="got length 0 in layer 1"):
        sncd_of_codes(codes(silent, 2), silent, anchors)
    for reduce in (lambda r: sncd_of_codes(codes(G, 2), G, anchors, reduction=r),
                   lambda r: sncd_error(s_to_sn(w_to_s(codes(G, 2), G)), anchors, reduction=r)):  # fmt: skip
        with pytest.raises(ValueError, match="reduction: expected .* got 'median'"):
            reduce("median")
