"""Distances between distributions against torchmetrics and scipy, and their standard error by repetition."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import convolve
from scipy.stats import ks_2samp, wasserstein_distance
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from latentlab.metrics import feature_moments, fid, kid, kolmogorov_smirnov, swd
from latentlab.metrics.distributions import _laplacian


class Given(nn.Module):
    """Identity network: torchmetrics requires a network, the tests have features."""

    num_features = 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def features(seed: int, n: int = 60, d: int = 8, shift: float = 0.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw) @ torch.randn(d, d, generator=draw) / math.sqrt(d) + shift


def fed(metric: nn.Module, a: torch.Tensor, b: torch.Tensor) -> nn.Module:
    metric.update(a, real=True)
    metric.update(b, real=False)
    return metric


def test_fid_equals_torchmetrics_and_the_matrix_root():
    a, b = features(0), features(1, 50, shift=0.3)
    theirs = FrechetInceptionDistance(feature=Given(), input_img_size=(8,)).set_dtype(torch.float64)
    assert fid(a, b) == pytest.approx(float(fed(theirs, a.double(), b.double()).compute()), rel=1e-4)
    x, y = a.double().numpy(), b.double().numpy()
    root = sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert fid(a, b) == pytest.approx(wanted, rel=1e-9)


def test_fid_of_batches_equals_fid_of_all_features():
    a, b = features(0) + 1000, features(1) + 1001
    assert fid(feature_moments(a.split(7)), b) == pytest.approx(fid(a, b), rel=1e-9)
    assert abs(fid(a, a)) < 1e-9


def test_fid_of_few_images_is_biased_and_says_so():
    a, b = torch.randn(2, 2000, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="FID of 10 images in 8 dimensions is biased upwards"):
        few = fid(a[:10], b[:10])
    assert few > 20 * fid(a, b) > 0


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kid_equals_torchmetrics_over_all_pairs():
    a, b = features(0), features(1, shift=0.3)
    whole = fed(KernelInceptionDistance(feature=Given(), subsets=1, subset_size=60), a, b)
    assert kid(a, b)[0] == pytest.approx(float(whole.compute()[0]), rel=1e-4)
    torch.manual_seed(0)  # the subsets of torchmetrics come from the global stream
    parts = fed(KernelInceptionDistance(feature=Given(), subsets=200, subset_size=30), a, b)
    mean, spread = map(float, parts.compute())
    assert kid(a, b)[0] == pytest.approx(mean, abs=4 * spread / math.sqrt(200))


def test_standard_error_of_kid_leaves_out_each_image_in_turn():
    a, b = features(0, 12), features(1, 9, shift=0.3)
    without_a = [kid(torch.cat([a[:i], a[i + 1 :]]), b)[0] for i in range(12)]
    without_b = [kid(a, torch.cat([b[:i], b[i + 1 :]]))[0] for i in range(9)]
    wanted = math.sqrt(11 * np.var(without_a) + 8 * np.var(without_b))
    assert kid(a, b)[1] == pytest.approx(wanted, rel=1e-9)


def test_standard_error_of_kid_is_the_spread_over_repetitions():
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(40, 4, generator=draw), torch.randn(30, 4, generator=draw) + 1) for _ in range(300)]
    values, errors = torch.tensor([kid(a, b) for a, b in pairs]).unbind(1)
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.2)


def test_kid_of_equal_distributions_is_zero_within_its_error():
    a, b = torch.randn(2, 1500, 4, generator=torch.Generator().manual_seed(3))  # more than a slice of the sums
    value, error = kid(a, b)
    assert abs(value) < 2 * error < 0.02


def pictures(seed: int, n: int = 8, size: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_laplacian_equals_scipys():
    x = pictures(0, n=1)
    fine, coarse = _laplacian(x)
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    plane = x[0, 0].double().numpy()
    small = convolve(plane, kernel, mode="mirror")[::2, ::2]
    spread = np.zeros_like(plane)
    spread[::2, ::2] = small
    raised = 4 * convolve(spread, kernel, mode="mirror")
    np.testing.assert_allclose(coarse[0, 0], small, atol=1e-6)
    np.testing.assert_allclose(fine[0, 0], plane - raised, atol=1e-6)


def test_swd_of_one_pixel_colour_patterns_is_scipys(monkeypatch: pytest.MonkeyPatch):
    """With patches of one pixel at the coarsest level, all directions in three colours are scipy's to check."""
    a, b = pictures(0, size=16), pictures(1, size=16) ** 3
    monkeypatch.setattr("latentlab.metrics.distributions.PATCH", 1)
    monkeypatch.setattr("latentlab.metrics.distributions.PATCHES", 2000)
    x, y = (((v - v.mean((0, 2, 3), keepdim=True)) / v.std((0, 2, 3), keepdim=True)).movedim(1, -1) for v in (a, b))
    x, y = x.reshape(-1, 3).numpy(), y.reshape(-1, 3).numpy()
    directions = np.random.default_rng(0).normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    wanted = np.mean([wasserstein_distance(x @ u, y @ u) for u in directions])
    assert swd(a, b)[16] / 1000 == pytest.approx(wanted, rel=0.1)


def test_swd_sees_blur_where_it_is_and_no_contrast():
    a = pictures(0, n=16)
    blurred = nn.functional.avg_pool2d(nn.functional.pad(a, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    assert list(swd(a, a).items()) == [(32, 0.0), (16, 0.0)]
    assert swd(a, blurred)[32] > 1.5 * swd(a, blurred)[16] > 0
    assert max(swd(a, 0.5 * a + 0.2).values()) < 0.01
    assert swd(a, blurred) == swd(a, blurred) != swd(a, blurred, seed=1)


def test_kolmogorov_smirnov_is_scipys():
    a, b = features(0).flatten(), features(1).flatten() * 0.8
    assert kolmogorov_smirnov(a, b) == pytest.approx(ks_2samp(a.numpy(), b.numpy()).statistic)


def test_bad_input(unchecked):
    a, x = features(0), pictures(0)
    for distance in (fid, kid):
        with pytest.raises(ValueError, match="features: expected two sets of at least . with equal width"):
            distance(a, a[:, :4])
        with pytest.raises(ValueError, match="features: expected two sets of at least [23]"):
            distance(a, a[:1])
        with pytest.raises(ValueError, match="features: expected finite values"):
            distance(a, a * torch.nan)
    with pytest.raises(ValueError, match="features: expected at least one batch, got none"):
        feature_moments([])
    with pytest.raises(ValueError, match="features: expected finite values"):
        feature_moments([a[:0], a])
    with pytest.raises(ValueError, match="images: expected equal shapes"):
        swd(x, x[:4])
    with pytest.raises(ValueError, match="images: expected at least 2"):
        swd(x[:1], x[:1])
    with pytest.raises(ValueError, match="side of 16, 32, 64"):
        swd(x[..., :24, :24], x[..., :24, :24])
    with pytest.raises(ValueError, match="samples: expected at least 2 values in each, got 1 and 5"):
        kolmogorov_smirnov(torch.ones(1), torch.ones(5))
    with pytest.raises(ValueError, match="samples: expected finite values"):
        kolmogorov_smirnov(torch.ones(3), torch.tensor([0.0, torch.inf]))
