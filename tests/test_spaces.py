"""W, P and PN: inverse maps, whitening, and statistics that agree with numpy's."""

import numpy as np
import pytest
import torch

from latentlab.priors import mahalanobis
from latentlab.spaces import Statistics, fingerprint, measure_statistics, p_to_w, statistics_for, w_to_p
from latentlab.stylegan.generator import Generator, GeneratorConfig

CONFIG = GeneratorConfig(16, 12, 10, 2, (16, 16, 8))


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(CONFIG, seed=3).requires_grad_(False)


@pytest.fixture(scope="module")
def statistics(G) -> Statistics:
    return measure_statistics(G, 50_000, floor=1e-8)


def codes(G: Generator, n: int, seed: int = 1) -> torch.Tensor:
    return G.mapping(torch.randn(n, G.z_dim, generator=torch.Generator().manual_seed(seed)))


def test_leaky_relu_is_undone(G):
    w = codes(G, 100)
    torch.testing.assert_close(p_to_w(w_to_p(w)), w)
    assert torch.equal(w_to_p(torch.tensor([-1.0, 2.0])), torch.tensor([-5.0, 2.0]))


def test_streamed_moments_equal_numpy(G):
    ours = measure_statistics(G, 3_000, batch_size=700, seed=5)
    from latentlab.seeds import stream

    draw = stream(5, "statistics")
    z = torch.cat([torch.randn(min(700, 3_000 - s), G.z_dim, generator=draw) for s in range(0, 3_000, 700)])
    x = w_to_p(G.mapping(z)).double().numpy()
    np.testing.assert_allclose(ours.mean.numpy(), x.mean(0), rtol=1e-6, atol=1e-9)
    u, s = ours.eigenvectors.numpy(), ours.eigenvalues.numpy()
    np.testing.assert_allclose(u @ np.diag(s) @ u.T, np.cov(x.T), rtol=1e-5, atol=1e-8)
    w = p_to_w(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.w_covariance.numpy(), np.cov(w.T), rtol=1e-5, atol=1e-8)
    assert ours.w_std == pytest.approx(np.sqrt(((w - w.mean(0)) ** 2).sum(1).mean()), rel=1e-3)


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
    ours = mahalanobis(w[:, None], statistics, reduction="sum")
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4)


def test_reductions_differ_by_the_number_of_coordinates(G, statistics):
    w_plus = G.broadcast(codes(G, 2))
    total, mean = (mahalanobis(w_plus, statistics, reduction=r) for r in ("sum", "mean"))
    torch.testing.assert_close(total, mean * w_plus[0].numel())
    with pytest.raises(ValueError, match="mean"):
        mahalanobis(w_plus, statistics, reduction="median")


def test_floor_bounds_the_stretch(G):
    floored = measure_statistics(G, 5_000, floor=0.5)
    assert floored.floored.min() == pytest.approx(0.5 * float(floored.eigenvalues.max()))
    assert floored.eigenvalues.min() < floored.floored.min()


def test_statistics_know_their_generator(G, statistics):
    statistics.check(G)
    other = Generator(CONFIG, seed=4)
    assert fingerprint(other) != fingerprint(G)
    with pytest.raises(ValueError, match="belong to the generator"):
        statistics.check(other)


def test_survive_storage(statistics):
    tensors, metadata = statistics.to_tensors()
    again = Statistics.from_tensors(tensors, metadata)
    assert again.fingerprint == statistics.fingerprint and torch.equal(again.eigenvectors, statistics.eigenvectors)


def test_too_few_codes(G):
    with pytest.raises(ValueError, match="20 or more"):
        measure_statistics(G, 19)


def test_without_shipped_statistics_they_are_measured(G):
    assert statistics_for(G).n == 100_000
