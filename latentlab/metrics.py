"""Measures of an inversion or an edit: pure functions of images, one number an image."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def _check(*images: Tensor) -> None:
    shapes = {tuple(x.shape) for x in images}
    if len(shapes) > 1:
        raise ValueError(f"images of one size are compared, not of {' and '.join(map(str, shapes))}")
    if not all(bool(torch.isfinite(x).all()) for x in images):
        raise ValueError("images hold NaN or infinite values")


def mse(a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Mean squared error of images in [-1, 1], (N,); 0 is equal, 4 black against white.

    >>> mse(torch.ones(1, 3, 2, 2), -torch.ones(1, 3, 2, 2))
    tensor([4.])
    """
    _check(a, b)
    return (a - b).square().mean((1, 2, 3))


def psnr(a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]: 10 log10(peak^2 / mse) with peak 2, (N,).

    Higher is closer, equal images give infinity. Values outside [-1, 1] are clipped as a file would.

    >>> psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2))
    tensor([20.])
    """
    return 10 * torch.log10(4 / mse(a.clamp(-1, 1), b.clamp(-1, 1)))


def edit_gain(
    inversion: Float[Tensor, "n 3 h w"],
    edit: Float[Tensor, "n 3 h w"],
    truth: Float[Tensor, "n 3 h w"],
    edited_truth: Float[Tensor, "n 3 h w"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """How much of the true edit happened, and how much else: gain and residual, (N,) each.

    With D = edit - inversion and D* = edited truth - truth, the gain is <D, D*> / |D*|^2 (1: the whole
    edit, 0: none) and the residual |D - gain D*| / |D*| (0: nothing but the edit). Comparing changes
    instead of pictures, a perfect reconstruction that edits nothing gains 0.

    >>> x, y = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    >>> edit_gain(x, x, x, y), edit_gain(x, y, x, y)
    ((tensor([0.]), tensor([0.])), (tensor([1.]), tensor([0.])))
    """
    _check(inversion, edit, truth, edited_truth)
    d, d_true = (edit - inversion).flatten(1), (edited_truth - truth).flatten(1)
    energy = d_true.square().sum(1)
    if not bool((energy > 0).all()):
        raise ValueError("the edited truth equals the truth: there is no edit to measure")
    gain = (d * d_true).sum(1) / energy
    residual = (d - gain[:, None] * d_true).norm(dim=1) / energy.sqrt()
    return gain, residual


def kolmogorov_smirnov(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> float:
    """Largest distance between the distribution functions of two samples, 0 (equal) to 1 (apart).

    >>> kolmogorov_smirnov(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]))
    1.0
    """
    from scipy.stats import ks_2samp

    if min(len(a), len(b)) < 2 or not math.isfinite(float(a.sum() + b.sum())):
        raise ValueError("two samples of at least 2 finite values are wanted")
    return float(ks_2samp(a.cpu().numpy(), b.cpu().numpy()).statistic)
