"""Per-image similarity metrics, with units."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "n 3 h w"]


def check(what: str, *tensors: Tensor) -> None:
    """Raises ``ValueError`` unless all tensors are finite and have the same shape; ``what`` names them."""
    shapes = dict.fromkeys(tuple(x.shape) for x in tensors)
    if len(shapes) > 1:
        raise ValueError(f"{what}: expected equal shapes, got {' and '.join(map(str, shapes))}")
    if not all(bool(torch.isfinite(x).all()) for x in tensors):
        raise ValueError(f"{what}: expected finite values, got NaN or infinity")


def mse(a: Images, b: Images) -> Float[Tensor, " n"]:
    """Mean squared error of images in [-1, 1], (N,); 0 for equal images, 4 for black and white.

    >>> mse(torch.ones(1, 3, 2, 2), -torch.ones(1, 3, 2, 2))
    tensor([4.])
    """
    check("images", a, b)
    return (a - b).square().mean((1, 2, 3))


def rmse(a: Images, b: Images) -> Float[Tensor, " n"]:
    """Root mean squared error of images in [-1, 1], (N,); 0 to 2. II2S reports half of it, the value on [0, 1].

    >>> rmse(torch.ones(1, 3, 2, 2), -torch.ones(1, 3, 2, 2))
    tensor([2.])
    """
    return mse(a, b).sqrt()


def psnr(a: Images, b: Images) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]: 10 log10(peak^2 / mse) with peak 2, (N,).

    Higher is more similar, infinity for equal images. Values outside [-1, 1] are clipped, as in an image file.

    >>> psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2))
    tensor([20.])
    """
    return 10 * torch.log10(4 / mse(a.clamp(-1, 1), b.clamp(-1, 1)))


def smooth(x: Float[Tensor, "n c h w"], kernel: Float[Tensor, " k"]) -> Float[Tensor, "n c _ _"]:
    """Separable filter of each channel with the normalised ``kernel``, without padding."""
    k = (kernel.to(x) / kernel.to(x).sum()).expand(x.shape[1], 1, 1, -1)
    return F.conv2d(F.conv2d(x, k, groups=x.shape[1]), k.mT, groups=x.shape[1])


def ssim(a: Images, b: Images, *, window: str = "gaussian") -> Float[Tensor, " n"]:
    """Structural similarity of images in [-1, 1] (Wang et al., 2004), mean over windows and channels, (N,).

    -1 to 1, 1 for equal images. Computed on [0, 1], clipped as in an image file, because a shift of all values
    changes it. window: "gaussian", 11 px with sigma 1.5 and the biased variance, as in the paper; or "uniform",
    21 px with the unbiased variance, as in CLCAE. Only windows that lie within the image count.

    >>> ssim(torch.ones(1, 3, 11, 11), -torch.ones(1, 3, 11, 11))  # 0.01^2 / (1 + 0.01^2)
    tensor([9.9990e-05])
    """
    check("images", a, b)
    kernels = {"gaussian": torch.exp(-torch.arange(-5.0, 6.0).double().square() / 4.5), "uniform": torch.ones(21)}
    if window not in kernels or min(a.shape[2:]) < len(kernels[window]):
        raise ValueError(
            "window: expected 'gaussian' (11 px) or 'uniform' (21 px) and images no smaller than that, "
            f"got {window!r} and images of {tuple(a.shape[2:])}"
        )
    x, y = ((v.double().clamp(-1, 1) + 1) / 2 for v in (a, b))
    moments = smooth(torch.cat([x, y, x * x, y * y, x * y], 1), kernels[window])
    mean_x, mean_y, xx, yy, xy = moments.split(3, 1)
    unbiased = 21**2 / (21**2 - 1) if window == "uniform" else 1
    variances, covariance = unbiased * (xx - mean_x**2 + yy - mean_y**2), unbiased * (xy - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    # Wang et al., Eq. 13
    index = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return index.mean((1, 2, 3)).to(a.dtype)
