"""Similarity metrics against scikit-image."""

import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from latentlab.metrics import mse, psnr, rmse, ssim


def pictures(seed: int, size: int = 16) -> torch.Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_errors_equal_those_of_skimage():
    a, b = pictures(0), pictures(1)
    for i in range(3):
        x, y = a[i].numpy(), b[i].numpy()
        assert float(mse(a, b)[i]) == pytest.approx(mean_squared_error(x, y), rel=1e-5)
        assert float(rmse(a, b)[i]) == pytest.approx(mean_squared_error(x, y) ** 0.5, rel=1e-5)
        assert float(psnr(a, b)[i]) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=2), rel=1e-5)


@pytest.mark.parametrize(
    "window, options",
    [
        ("gaussian", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
        ("uniform", {"win_size": 21}),
    ],
)
def test_ssim_equals_skimages_with_both_windows(window: str, options: dict):
    a = pictures(0, 32)
    b = (0.7 * a + 0.3 * pictures(1, 32)).clamp(-1, 1)
    files = [((x.double() + 1) / 2).numpy() for x in (a, b)]
    wanted = [structural_similarity(x, y, channel_axis=0, data_range=1, **options) for x, y in zip(*files, strict=True)]
    assert 0.5 < min(wanted) < max(wanted) < 0.99
    assert ssim(a, b, window=window).tolist() == pytest.approx(wanted, abs=1e-6)


def test_psnr_and_ssim_clip_as_a_file_would():
    a = pictures(0)
    a[:, :, 0] = 1
    beyond = a.clone()
    beyond[:, :, 0] = 1.4
    assert torch.isinf(psnr(a, beyond)).all()
    torch.testing.assert_close(ssim(a, beyond), torch.ones(3))


def test_bad_input(unchecked):
    a = pictures(0)
    with pytest.raises(ValueError, match=r"images: expected equal shapes, got \(3, 3, 16, 16\) and \(2, 3, 16, 16\)"):
        mse(a, a[:2])
    with pytest.raises(ValueError, match="images: expected finite values, got NaN or infinity"):
        psnr(a, a * torch.nan)
    with pytest.raises(ValueError, match="images: expected finite values, got NaN or infinity"):
        ssim(a, a / 0)
    with pytest.raises(ValueError, match=r"no smaller than that, got 'uniform' and images of \(16, 16\)"):
        ssim(a, a, window="uniform")
    with pytest.raises(ValueError, match="got 'square'"):
        ssim(a, a, window="square")
