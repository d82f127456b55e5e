"""Conditions of conditional embedding (II2S, section 5.3): what of an image is known.

Each takes images (N, 3, R, R) in [-1, 1] to images of that size, lets gradients through and changes nothing
the second time, so that the target may be a whole picture or already its known part. Any differentiable
function of images is a condition.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latentlab.faces.sketch import LUMA


def greyscale(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 r r"]:
    """Luma in all three channels: to colourise a black and white picture."""
    weights = torch.tensor(LUMA).to(images)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def mask(known: Float[Tensor, "*batch r r"]) -> Callable[[Tensor], Tensor]:
    """Grey where ``known`` is 0, untouched where it is 1, for inpainting. known: (R, R) for all images, or
    (N, 1, R, R). One that holds anything else, or hides a whole image, raises ``ValueError``."""
    if not bool(((known == 0) | (known == 1)).all()):
        raise ValueError(f"a mask is 0 (hidden) or 1 (known); got {float(known.min()):.3g} to {float(known.max()):.3g}")
    if not bool(known.flatten(-2).any(-1).all()):
        raise ValueError("the mask hides everything: there is nothing to invert")

    def masked(images: Tensor) -> Tensor:
        if known.shape not in (images.shape[2:], (len(images), 1, *images.shape[2:])):
            raise ValueError(f"a mask of shape {tuple(known.shape)} does not fit images {tuple(images.shape)}")
        return images * known.to(images)

    return masked


def downsample(size: int) -> Callable[[Tensor], Tensor]:
    """The mean colours of ``size`` x ``size`` blocks, for super-resolution. The blocks fill the whole
    picture, so that the perceptual distance still sees the resolution that it knows."""

    def downsampled(images: Tensor) -> Tensor:
        r = images.shape[-1]
        if not 1 <= size <= r or r % size:
            raise ValueError(f"images of {r} px do not fall into {size} x {size} blocks: a divisor of {r} is wanted")
        return F.interpolate(F.avg_pool2d(images, r // size), scale_factor=r // size, mode="nearest")

    return downsampled
