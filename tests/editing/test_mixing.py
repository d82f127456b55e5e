"""Interpolation and style mixing: ends, midpoint and layers."""

from dataclasses import replace

import pytest
import torch

from latentlab.editing.edit import State
from latentlab.editing.mixing import blend_states, interpolate, mix
from latentlab.spaces import statistics_for
from latentlab.weights.generators import load


@pytest.fixture(scope="module")
def G():
    return load("faces-64")


@pytest.fixture(scope="module")
def statistics(G):
    return statistics_for(G)


@pytest.fixture(scope="module")
def codes(G) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.randn(4, G.z_dim, generator=torch.Generator().manual_seed(2))
    a, b = G.broadcast(G.mapping(z)).double().split(2)
    return a.clone(), b.clone()


@pytest.mark.parametrize("space", ["W+", "PN+"])
def test_ends_are_the_given_codes(codes, statistics, space):
    a, b = codes
    knobs = {"space": space, "statistics": statistics if space == "PN+" else None}
    torch.testing.assert_close(interpolate(a, b, 0, **knobs), a)
    torch.testing.assert_close(interpolate(a, b, 1, **knobs), b)
    both = interpolate(a, b, torch.tensor([0.0, 1.0]), **knobs)
    torch.testing.assert_close(both, torch.stack([a[0], b[1]]))


def test_midpoint_is_the_mean_in_its_space(codes, statistics):
    a, b = codes
    in_w, in_pn = interpolate(a, b, 0.5), interpolate(a, b, 0.5, space="PN+", statistics=statistics)
    torch.testing.assert_close(in_w, (a + b) / 2)
    torch.testing.assert_close(statistics.w_to_pn(in_pn), (statistics.w_to_pn(a) + statistics.w_to_pn(b)) / 2)
    assert (in_w - in_pn).norm() > 0.01 * in_w.norm()


def test_mixing_takes_layers_of_the_other(G, codes):
    a, b = codes
    mixed = mix(a, b, range(4, 6))
    assert torch.equal(mixed[:, 4:6], b[:, 4:6]) and torch.equal(mixed[:, :4], a[:, :4])
    assert torch.equal(mixed[:, 6:], a[:, 6:]) and torch.equal(mix(a, b, slice(None)), b)
    half = interpolate(a, b, 0.5, layers=[0])
    torch.testing.assert_close(half[:, 0], (a + b)[:, 0] / 2)
    assert torch.equal(half[:, 1:], a[:, 1:])


def test_fine_layers_change_the_colour_and_keep_the_shape(G, codes):
    """Edges of a mix in the last layers correlate with those of a's image rather than b's."""
    a, b = (c.float() for c in codes)
    fine = G.synthesis(mix(a, b, slice(7, None)))
    edges = [G.synthesis(c).mean(1).diff(dim=-1).flatten(1) for c in (a, b)]
    own, other = (torch.cosine_similarity(fine.mean(1).diff(dim=-1).flatten(1), e).mean() for e in edges)
    assert own > other + 0.2


@pytest.mark.parametrize("replace_rgb", [True, False])
def test_the_ends_of_a_blend_draw_the_given_states(G, codes, replace_rgb):
    """Maps of both at other resolutions: what a finer block makes of a replaced one is its own map."""
    plain = [State(c.float()) for c in codes]
    maps = [1.3 * plain[0].feature_maps(G)[8], 0.7 * plain[1].feature_maps(G)[16]]
    a, b = (replace(state, features={x.shape[-1]: x}, replace_rgb=replace_rgb)
            for state, x in zip(plain, maps, strict=True))  # fmt: skip
    for first, second in ((a, b), (b, a), (a, plain[1])):
        for t, end in ((0.0, first), (1.0, second)):
            drawn = blend_states(first, second, t, G).draw(G)
            torch.testing.assert_close(drawn, end.draw(G), rtol=1e-4, atol=1e-4)
    half = blend_states(a, b, 0.5, G)
    assert set(half.features) == {8, 16} and half.replace_rgb == replace_rgb
    with pytest.raises(ValueError, match="a, b: expected feature maps that toRGB reads in both or in neither, got"):
        blend_states(a, replace(b, replace_rgb=not replace_rgb), 0.5, G)


def test_styles_are_in_the_maps_of_a_blend(G, codes):
    a, b = (State(c.float()) for c in codes)
    edited = replace(a, styles=[s + torch.linspace(-1, 1, s.shape[1]) for s in G.styles(a.w_plus)])
    b = replace(b, features={16: b.feature_maps(G)[16]})
    assert torch.equal(blend_states(edited, b, 0.0, G).features[16], edited.feature_maps(G)[16])
    assert not torch.allclose(edited.feature_maps(G)[16], a.feature_maps(G)[16], atol=1e-2)


def test_bad_input(unchecked, codes, statistics):
    a, b = codes
    with pytest.raises(ValueError, match=r"a, b: expected codes of equal shape \(N, L, D\), got .* and \(1, 10, 128\)"):
        interpolate(a, b[:1], 0.5)
    for knobs in ({"space": "Z"}, {"space": "PN+"}, {"space": "W+", "statistics": statistics}):
        with pytest.raises(ValueError, match="space: expected 'W.' without statistics, or 'PN.' with"):
            interpolate(a, b, 0.5, **knobs)
    for t in (float("nan"), torch.zeros(3)):
        with pytest.raises(ValueError, match="t: expected a finite number, or one for each of 2 pairs"):
            interpolate(a, b, t)
    for layers in ([10], [], slice(3, 3), [-1]):
        with pytest.raises(ValueError, match="layers: expected at least one of 0 to 9"):
            mix(a, b, layers)
    for layers in (3, "coarse"):
        with pytest.raises(ValueError, match="layers: expected a slice or several numbers"):
            mix(a, b, layers)
