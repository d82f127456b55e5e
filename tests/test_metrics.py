"""Metrics against skimage and scipy, and what defines an edit's gain."""

import pytest
import torch
from scipy.stats import ks_2samp
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from latentlab.metrics import edit_gain, kolmogorov_smirnov, mse, psnr


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_parity_with_skimage():
    a, b = pictures(0), pictures(1)
    for i in range(3):
        x, y = a[i].numpy(), b[i].numpy()
        assert float(mse(a, b)[i]) == pytest.approx(mean_squared_error(x, y), rel=1e-5)
        assert float(psnr(a, b)[i]) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=2), rel=1e-5)


def test_psnr_clips_as_a_file_would():
    a = pictures(0).clamp(-1, 1)
    a[:, :, 0] = 1
    beyond = a.clone()
    beyond[:, :, 0] = 1.4
    assert torch.isinf(psnr(a, beyond)).all()


def test_gain_of_half_the_edit_and_something_else():
    truth, edited_truth = pictures(0), pictures(1)
    d = edited_truth - truth
    other = pictures(2)
    other = other - (other * d).sum((1, 2, 3), keepdim=True) / d.square().sum((1, 2, 3), keepdim=True) * d
    inversion = pictures(3)
    gain, residual = edit_gain(inversion, inversion + 0.5 * d + other, truth, edited_truth)
    torch.testing.assert_close(gain, torch.full((3,), 0.5))
    torch.testing.assert_close(residual, other.flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1))


def test_perfect_reconstruction_without_edit_gains_nothing():
    truth, edited_truth = pictures(0), pictures(1)
    gain, residual = edit_gain(truth, truth, truth, edited_truth)
    assert torch.equal(gain, torch.zeros(3)) and torch.equal(residual, torch.zeros(3))


def test_kolmogorov_smirnov_is_scipys():
    a, b = pictures(0).flatten(), pictures(1).flatten() * 0.8
    assert kolmogorov_smirnov(a, b) == pytest.approx(ks_2samp(a.numpy(), b.numpy()).statistic)


def test_bad_input(unchecked):
    a = pictures(0)
    with pytest.raises(ValueError, match="one size"):
        mse(a, a[:2])
    with pytest.raises(ValueError, match="NaN"):
        psnr(a, a * torch.nan)
    with pytest.raises(ValueError, match="no edit to measure"):
        edit_gain(a, a, a, a)
    with pytest.raises(ValueError, match="at least 2"):
        kolmogorov_smirnov(torch.ones(1), torch.ones(5))
