"""Two branches: their limits, equations and refusals."""

from dataclasses import replace

import pytest
import torch
from small import small_generator

from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.seeds import stream

NAMES = ("smile", "age", "yaw")


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


def build(G, relevance: str = "cosine", trained: bool = True) -> TwoBranch:
    channels = dict(zip(G.config.resolutions, G.config.channels, strict=True))
    config = TwoBranchConfig(NAMES, G.num_ws, G.w_dim, (4, 8), (channels[4], channels[8]), seen=5, width=6,
                             relevance=relevance)  # fmt: skip
    network = TwoBranch(config, seed=1)
    if trained:
        with torch.no_grad():
            for i, weight in enumerate(network.parameters()):
                weight.add_(0.3 * torch.randn(weight.shape, generator=stream(i, "trained")))
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def seen(G):
    """Codes, the encoder's levels of the images, and targets."""
    draw = stream(0, "seen")
    w = G.broadcast(G.mapping(torch.randn(2, G.z_dim, generator=draw)))
    levels = [torch.randn(2, 5, r, r, generator=draw) for r in (2, 4, 8)]
    return w, levels, torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.5, 0.0]])


def draw(G, network, w, levels, s, relevance: float | None = None):
    """The refined picture; ``relevance`` sets all relevance maps to a number."""
    before, after = G.features(w), G.features(w + network.style_shift(s))
    fusion = network.fusion(before, after, network.contents(levels, s))
    if relevance is not None:
        fusion = {r: lambda x, f=f: (1 - relevance) * x + relevance * f.content for r, f in fusion.items()}
    return G.synthesis(w + network.style_shift(s), replace=fusion)


def test_relevance_0_is_the_style_branch_and_1_without_edit_the_content(G, seen):
    w, levels, s = seen
    network = build(G)
    style = G.synthesis(w + network.style_shift(s))
    torch.testing.assert_close(draw(G, network, w, levels, s, relevance=0.0), style)
    assert not torch.allclose(draw(G, network, w, levels, s), style, atol=1e-2)
    # untrained content is that of the inversion, at the finest fused block
    plain = build(G, trained=False)
    torch.testing.assert_close(draw(G, plain, w, levels, 0 * s, relevance=1.0), G.synthesis(w))
    content = G.features(w)[8] + network.contents(levels, 0 * s)[8]
    made = G.features(w, replace={r: f.content for r, f in network.fusion(
        G.features(w), G.features(w), network.contents(levels, 0 * s)).items()})  # fmt: skip
    torch.testing.assert_close(made[8], content)


@pytest.mark.parametrize("relevance", ["cosine", "attention"])
def test_untrained_branches_reconstruct(G, seen, relevance):
    w, levels, s = seen
    network = build(G, relevance, trained=False)
    torch.testing.assert_close(draw(G, network, w, levels, 0 * s), G.synthesis(w), rtol=1e-4, atol=1e-4)


def test_relevance_falls_where_the_edit_changes_features(G, seen):
    w, _, _ = seen
    before = G.features(w)
    after = {r: torch.cat([x[..., : r // 2], -x[..., r // 2 :]], 3) for r, x in before.items()}
    for r, m in build(G, trained=False).relevance(before, after).items():
        assert m.shape == (2, 1, r, r) and (m[..., : r // 2] > 0.99).all() and (m[..., r // 2 :] < 0.01).all()


def test_attention_is_a_matrix_between_positions(G, seen):
    w, levels, s = seen
    network = build(G, "attention")
    module, features = network.fuse["8"], G.features(w)[8]
    matrix = module.matrix(features, features)
    torch.testing.assert_close(matrix.sum(2), torch.ones(2, 64))
    style, content = features, features + 1
    fused = module(features, features, style, content)
    expected = (torch.eye(64) - matrix) @ style.flatten(2).mT + matrix @ content.flatten(2).mT  # Eq. 7
    torch.testing.assert_close(fused.flatten(2).mT, expected, rtol=1e-4, atol=1e-4)
    assert network.relevance(G.features(w), G.features(w))[8].shape == (2, 1, 8, 8)
    assert not torch.allclose(draw(G, network, w, levels, s), G.synthesis(w), atol=1e-2)


def test_style_directions_add_up_and_shrink_to_zeros(G):
    network = build(G)
    s = torch.tensor([[1.0, 0.0, -2.0]])
    expected = network.style_directions[0] - 2 * network.style_directions[2]
    torch.testing.assert_close(network.style_shift(s)[0], expected)
    assert torch.equal(network.targets("yaw", torch.tensor([0.5])), torch.tensor([[0.0, 0.0, 0.5]]))
    before = network.style_directions.clone()
    assert (network.sparsity == 0).all()
    network.shrink(0.1)
    after = network.style_directions
    assert torch.equal(after == 0, before.abs() <= 0.1) and 0 < network.sparsity.mean() < 1
    torch.testing.assert_close(after[before > 0.1], before[before > 0.1] - 0.1)


def test_a_flat_colour_passes_through_the_content_branch():
    """What is added to a whole map arrives, as large as it is; instance normalisation would remove it."""
    module, draw = build(small_generator(1, 32)).extract["8"], stream(1, "colours")
    x, direction = torch.randn(2, 5, 8, 8, generator=draw), torch.randn(2, 16, generator=draw)
    colour = torch.randn(2, 5, 1, 1, generator=draw)
    plain, once, twice = (module.modulated(x + k * colour, direction) for k in (0, 1, 2))
    change = (once - plain)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(change, change.mean((2, 3), keepdim=True).expand_as(change), rtol=1e-4, atol=1e-4)
    assert (change.abs() > 0.1).float().mean() > 0.5
    torch.testing.assert_close(twice - plain, 2 * (once - plain), rtol=1e-4, atol=1e-4)


def test_the_direction_says_which_channels_count_and_not_how_much(G):
    """Demodulation: noise of variance 1 leaves with variance 1, and scales of twice the size change nothing."""
    module, draw = build(G).extract["8"], stream(2, "colours")
    x, direction = torch.randn(200, 5, 8, 8, generator=draw), torch.randn(1, 16, generator=draw).expand(200, -1)
    inside = (module.modulated(x, direction) - module.modulated(0 * x, direction))[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside.std((0, 2, 3)), torch.ones(6), rtol=0.1, atol=0)
    module.affine.weight.zero_()
    module.affine.bias.zero_()
    before = module.modulated(x, direction)
    module.affine.bias[:5] = 1.0  # of scales, to which 1 is added
    torch.testing.assert_close(module.modulated(x, direction), before, rtol=1e-4, atol=1e-4)
    module.affine.bias[:5] = torch.tensor([0.0, -1, -1, -1, -1])  # the first channel alone
    alone = x * torch.tensor([1.0, 0, 0, 0, 0]).view(-1, 1, 1)
    torch.testing.assert_close(module.modulated(x, direction), module.modulated(alone, direction))


def test_the_style_branch_alone_has_the_same_directions(G):
    network = build(G)
    alone = network.style_branch()
    assert torch.equal(alone.style_directions, network.style_directions) and alone.config.resolutions == ()
    assert {name for name, _ in alone.named_parameters()} == {"style_directions", "content_directions"}
    assert not alone.style_directions.requires_grad
    alone.style_directions.zero_()
    assert network.style_directions.abs().max() > 0


def test_content_depends_on_the_targets(G, seen):
    w, levels, s = seen
    network = build(G)
    a, b = network.contents(levels, 0 * s), network.contents(levels, s)
    assert not torch.allclose(a[8], b[8]) and torch.allclose(a[8], network.contents(levels, 0 * s)[8])
    whole = torch.full_like(s, network.config.most)  # Eq. 4: no direction is left
    without = build(G)
    without.content_directions.zero_()
    torch.testing.assert_close(network.contents(levels, whole)[8], without.contents(levels, 0 * s)[8])


def test_bad_targets_and_settings_are_refused(unchecked, G):
    network = build(G)
    with pytest.raises(ValueError, match="attribute: expected one of smile, age, yaw, got 'wings'"):
        network.targets("wings", torch.zeros(2))
    with pytest.raises(ValueError, match=r"targets: expected shape \(N, 3\), got \(2, 2\)"):
        network.check(torch.zeros(2, 2))
    for bad in (3.5, float("nan")):
        with pytest.raises(ValueError, match="targets: expected -3 to 3 standard deviations, got .*; choose a smaller"):
            network.check(torch.full((2, 3), bad))
    for wrong, message in (({"relevance": "dot"}, "relevance: expected one of cosine, attention, got 'dot'"),
                           ({"attributes": ("a", "a")}, "attributes: expected different names, got a, a"),
                           ({"channels": (1,)}, "channels: expected one for each of 2 resolutions"),
                           ({"std": (1.0, 0.0, 1.0)}, "std: expected a positive number for each of 3 attributes"),
                           ({"std": (1.0,)}, "std: expected a positive number for each of 3")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            replace(network.config, **wrong)
    for config in (network.config, replace(network.config, std=(0.5, 1.0, 12.0))):
        assert TwoBranchConfig.from_dict(config.to_dict()) == config
