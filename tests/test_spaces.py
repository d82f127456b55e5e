"""Latent spaces: inverse maps, whitening, statistics that agree with numpy and scikit-learn, S and S^N."""

import numpy as np
import pytest
import torch

from latentlab import spaces
from latentlab.priors import pn_norm
from latentlab.seeds import stream
from latentlab.spaces import (
    Statistics,
    fingerprint,
    measure_statistics,
    p_to_w,
    s_to_sn,
    s_to_w,
    sn_to_s,
    statistics_for,
    style_layers,
    w_to_p,
    w_to_s,
)
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights import read_tensors, write_tensors

CONFIG = GeneratorConfig(16, 12, 10, 2, (16, 16, 8))


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(CONFIG, seed=3).requires_grad_(False)


@pytest.fixture(scope="module")
def statistics(G) -> Statistics:
    return measure_statistics(G, 50_000, floor=1e-8)


def codes(G: Generator, n: int, seed: int = 1) -> torch.Tensor:
    return G.mapping(torch.randn(n, G.z_dim, generator=torch.Generator().manual_seed(seed)))


def test_w_to_p_and_back(G):
    w = codes(G, 100)
    torch.testing.assert_close(p_to_w(w_to_p(w)), w)
    assert torch.equal(w_to_p(torch.tensor([-1.0, 2.0])), torch.tensor([-5.0, 2.0]))


def test_streamed_moments_equal_numpy(G):
    ours = measure_statistics(G, 3_000, batch_size=700, seed=5)
    draw = stream(5, "statistics")
    z = torch.cat([torch.randn(min(700, 3_000 - s), G.z_dim, generator=draw) for s in range(0, 3_000, 700)])
    x = w_to_p(G.mapping(z)).double().numpy()
    np.testing.assert_allclose(ours.mean.numpy(), x.mean(0), rtol=1e-6, atol=1e-9)
    u, s = ours.eigenvectors.numpy(), ours.eigenvalues.numpy()
    np.testing.assert_allclose(u @ np.diag(s) @ u.T, np.cov(x.T), rtol=1e-5, atol=1e-8)
    w = p_to_w(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.w_covariance.numpy(), np.cov(w.T), rtol=1e-5, atol=1e-8)
    assert ours.w_std == pytest.approx(np.sqrt(((w - w.mean(0)) ** 2).sum(1).mean()), rel=1e-3)


def test_principal_axes_equal_incremental_pca(G):
    """Agreement with the public II2S code, which divides by the root of scikit-learn's explained variance."""
    from sklearn.decomposition import IncrementalPCA

    ours = measure_statistics(G, 5_000, batch_size=5_000, seed=5)
    x = w_to_p(G.mapping(torch.randn(5_000, G.z_dim, generator=stream(5, "statistics")))).double().numpy()
    theirs = IncrementalPCA(G.w_dim, batch_size=500).fit(x)
    np.testing.assert_allclose(ours.eigenvalues.numpy(), theirs.explained_variance_, rtol=1e-3, atol=1e-8)
    cosines = (torch.from_numpy(theirs.components_).to(ours.mean) @ ours.eigenvectors).abs()
    torch.testing.assert_close(cosines[:4, :4], torch.eye(4).to(cosines), atol=0.05, rtol=0)


def test_pn_is_white(G, statistics):
    v = statistics.w_to_pn(codes(G, 50_000).double())
    assert v.mean(0).abs().max() < 0.03
    torch.testing.assert_close(v.T.cov(), torch.eye(G.w_dim, dtype=v.dtype), atol=0.05, rtol=0)


def test_round_trip_through_pn(G, statistics):
    w_plus = G.broadcast(codes(G, 4)).double() + 0.1
    torch.testing.assert_close(statistics.pn_to_w(statistics.w_to_pn(w_plus)), w_plus)


def test_squared_norm_is_mahalanobis_distance(G, statistics):
    from scipy.spatial.distance import mahalanobis as scipy_mahalanobis

    w = codes(G, 3).double()
    inverse = np.linalg.inv((statistics.eigenvectors * statistics.floored @ statistics.eigenvectors.T).numpy())
    expected = [scipy_mahalanobis(x.numpy(), statistics.mean.numpy(), inverse) ** 2 for x in w_to_p(w)]
    ours = pn_norm(w[:, None], statistics) * w.shape[1]
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4)


def test_pn_norm_is_the_mean_over_layers_and_dimensions(G, statistics):
    w_plus = G.broadcast(codes(G, 500)).clone()
    typical = pn_norm(w_plus, statistics)
    assert typical.mean() == pytest.approx(1, rel=0.1)
    w_plus[:, 1:] = statistics.pn_to_w(2 * statistics.w_to_pn(w_plus[:, 1:]))
    share = 1 / w_plus.shape[1]
    torch.testing.assert_close(pn_norm(w_plus, statistics), typical * (4 * (1 - share) + share), rtol=1e-3, atol=1e-3)


def test_floor_raises_small_eigenvalues(G):
    floored = measure_statistics(G, 5_000, floor=0.5)
    assert floored.floored.min() == pytest.approx(0.5 * float(floored.eigenvalues.max()))
    assert floored.eigenvalues.min() < floored.floored.min()


def test_statistics_belong_to_their_generator(G, statistics):
    statistics.check(G)
    other = Generator(CONFIG, seed=4)
    assert fingerprint(other) != fingerprint(G)
    expected = f"those of the mapping network {fingerprint(other)}, got those of {fingerprint(G)}; measure"
    with pytest.raises(ValueError, match=f"statistics: expected {expected}"):
        statistics.check(other)


def test_tensors_and_back(statistics):
    tensors, metadata = statistics.to_tensors()
    again = Statistics.from_tensors(tensors, metadata)
    assert again.fingerprint == statistics.fingerprint and torch.equal(again.eigenvectors, statistics.eigenvectors)


def test_too_few_codes(G):
    with pytest.raises(ValueError, match="n: expected at least 20 codes for 10 dimensions, got 19"):
        measure_statistics(G, 19)


def same(a: Statistics, b: Statistics) -> bool:
    (ours, said), (theirs, says) = a.to_tensors(), b.to_tensors()
    return said == says and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_shipped_statistics_they_are_measured_once(G, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTLAB_CACHE", str(tmp_path))
    first = statistics_for(G)
    assert first.n == 100_000
    (kept,) = (tmp_path / "statistics").iterdir()
    assert kept.name.startswith(fingerprint(G))
    measured = []
    measure = spaces.measure_statistics
    monkeypatch.setattr(spaces, "measure_statistics", lambda *a: measured.append(a) or measure(*a))
    assert same(statistics_for(G), first) and measured == []
    other = Generator(CONFIG, seed=4).requires_grad_(False)
    assert statistics_for(other).fingerprint == fingerprint(other) and len(measured) == 1


def test_wide_latent_spaces_take_the_papers_million_codes(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTLAB_CACHE", str(tmp_path))
    measured, measure = [], spaces.measure_statistics
    monkeypatch.setattr(spaces, "measure_statistics", lambda G, n: measured.append(n) or measure(G, 600))
    statistics_for(Generator(GeneratorConfig(8, 4, 256, 1, (2, 2)), seed=1).requires_grad_(False))
    assert measured == [1_000_000]


def test_damaged_statistics_are_measured_again(G, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTLAB_CACHE", str(tmp_path))
    first = statistics_for(G)
    (kept,) = (tmp_path / "statistics").iterdir()
    tensors, metadata = first.to_tensors()
    damaged = [
        lambda: kept.write_bytes(kept.read_bytes()[:100]),
        lambda: kept.write_bytes(b""),
        lambda: write_tensors(kept, tensors | {"mean": torch.zeros(3)}, metadata),
        lambda: write_tensors(kept, tensors | {"mean": tensors["mean"] / 0}, metadata),
        lambda: write_tensors(kept, tensors, metadata | {"n": 7}),
        lambda: write_tensors(kept, tensors, metadata | {"fingerprint": "0" * 12}),
        lambda: write_tensors(kept, {"x": torch.zeros(3)}, {}),
    ]
    for damage in damaged:
        damage()
        assert same(statistics_for(G), first) and same(Statistics.from_tensors(*read_tensors(kept)), first)
    monkeypatch.setenv("LATENTLAB_CACHE", str(kept))  # a file where the folder should be
    with pytest.warns(UserWarning, match="are not kept"):
        assert same(statistics_for(G), first)


def test_log_density_equals_scipy_and_integrates_the_change_of_variables(G, statistics):
    from scipy.stats import multivariate_normal

    w = codes(G, 20).double()
    covariance = statistics.eigenvectors @ statistics.floored.diag() @ statistics.eigenvectors.T
    normal = multivariate_normal(statistics.mean.numpy(), covariance.numpy())
    jacobian = torch.func.vmap(torch.func.jacrev(w_to_p))(w).det().log()
    expected = torch.from_numpy(normal.logpdf(w_to_p(w).numpy())) + jacobian
    torch.testing.assert_close(statistics.log_density(w), expected, atol=1e-5, rtol=1e-5)
    assert statistics.log_density(G.broadcast(w)).shape == (20, G.num_ws)


def test_samples_have_the_fitted_moments(G, statistics, unchecked):
    v = statistics.w_to_pn(statistics.sample(40_000, "pn", seed=1).double())
    torch.testing.assert_close(v.T.cov(), torch.eye(G.w_dim, dtype=v.dtype), atol=0.05, rtol=0)
    w = statistics.sample(40_000, "w", seed=1).double()
    scale = statistics.w_covariance.diagonal().sqrt()
    assert ((w.mean(0) - statistics.w_mean).abs() < 0.03 * scale).all()
    torch.testing.assert_close(
        w.T.cov() / scale.outer(scale), statistics.w_covariance / scale.outer(scale), atol=0.03, rtol=0
    )
    assert torch.equal(statistics.sample(5, seed=2), statistics.sample(5, seed=2))
    assert not torch.equal(statistics.sample(5, seed=2), statistics.sample(5, seed=3))
    with pytest.raises(ValueError, match="space: expected 'pn' or 'w', got 'p'"):
        statistics.sample(5, "p")


def test_a_constant_dimension_is_refused():
    G = Generator(CONFIG, seed=3).requires_grad_(False)
    G.mapping.layers[-1].weight[4] = 0
    with pytest.raises(ValueError, match="vary in all 10 dimensions, got 1 constant dimensions, the first at index 4"):
        measure_statistics(G, 1_000)


def test_s_has_one_style_for_each_layer_of_w_plus(G):
    layers = style_layers(G)
    assert [layer.w_index for layer in layers] == list(range(G.num_ws))
    assert [layer.kind for layer in layers] == ["conv"] * (G.num_ws - 1) + ["torgb"]
    w_plus = G.broadcast(codes(G, 3))
    styles = w_to_s(w_plus, G)
    assert [tuple(s.shape) for s in styles] == [(3, layer.channels) for layer in layers]
    assert len(w_to_s(w_plus, G, torgb=False)) == G.num_ws - 1
    for layer, s in zip(layers, styles, strict=True):  # the definition, s = A w + b
        affine = G.get_submodule(layer.name).affine
        A = affine.weight / G.w_dim**0.5
        torch.testing.assert_close(s, w_plus[:, layer.w_index] @ A.T + affine.bias)


def test_s_to_w_inverts_wide_layers(G):
    w_plus = codes(G, 3 * G.num_ws).view(3, G.num_ws, -1)
    styles = w_to_s(w_plus, G)
    back = s_to_w(styles, G)
    wide = [layer.channels >= G.w_dim for layer in style_layers(G)]
    assert any(wide) and not all(wide)
    torch.testing.assert_close(back[:, wide], w_plus[:, wide], atol=1e-4, rtol=1e-4)
    narrow = [not w for w in wide]
    assert (back[:, narrow] - w_plus[:, narrow]).abs().max() > 0.1, "a narrow layer does not determine its code"
    for again, s in zip(w_to_s(back, G), styles, strict=True):
        torch.testing.assert_close(again, s, atol=1e-4, rtol=1e-4)
    partial = s_to_w(styles[:-1], G)
    assert torch.equal(partial[:, -1], G.w_avg.expand(3, -1))
    with pytest.raises(ValueError, match="styles: expected widths .*, or these without the last, got"):
        s_to_w(styles[::-1], G)


def test_sn_is_the_direction_and_s_follows_from_the_lengths(G):
    styles = w_to_s(G.broadcast(codes(G, 3)), G)
    directions = s_to_sn(styles)
    for d, s in zip(directions, styles, strict=True):
        torch.testing.assert_close(d.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(torch.cosine_similarity(d, s), torch.ones(3))
    back = sn_to_s(directions, [s.norm(dim=1) for s in styles])
    torch.testing.assert_close(back, styles)
    with pytest.raises(ValueError, match="styles: expected lengths above 0, got length 0 in layer 0"):
        s_to_sn([torch.zeros(1, 4)])


def test_a_positive_factor_of_a_convolutions_style_changes_nothing(G):
    """LSAP, Property 3.1, which does not hold for negative factors and toRGB."""
    styles = [s.double() for s in G.styles(G.broadcast(codes(G, 3)))]
    exact = Generator(CONFIG, seed=3).double().requires_grad_(False)
    image = exact.synthesis(None, styles=styles)

    def change(index: int, factor: float) -> float:
        scaled = [s * factor if i == index else s for i, s in enumerate(styles)]
        return float((exact.synthesis(None, styles=scaled) - image).abs().max())

    for i, layer in enumerate(G.style_layers):
        if layer.kind == "conv":
            assert change(i, 3.0) < 1e-6 < 1e-2 < change(i, -1.0), layer
        else:
            assert change(i, 3.0) > 1e-2, layer
