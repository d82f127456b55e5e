"""Conditions of conditional embedding (II2S, section 5.3): differentiable functions that keep a part of an image.

Each maps images (N, 3, R, R) in [-1, 1] to images of the same size and is idempotent, so that the target may be a
whole image or only its known part. Any differentiable function of images is a condition.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601


def greyscale(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 r r"]:
    """Luma in all three channels, for colourisation."""
    weights = torch.tensor(LUMA).to(images)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def mask(known: Float[Tensor, "*batch r r"]) -> Callable[[Tensor], Tensor]:
    """Sets pixels to grey where ``known`` is 0 and keeps them where it is 1, for inpainting.

    known: (R, R) for all images, or (N, 1, R, R). Other values, or an image without a
    known pixel, raise ``ValueError``.
    """
    if not bool(((known == 0) | (known == 1)).all()):
        values = f"values from {float(known.min()):.3g} to {float(known.max()):.3g}"
        raise ValueError(f"known: expected only 0 (hidden) and 1 (known), got {values}")
    if not bool(known.flatten(-2).any(-1).all()):
        raise ValueError("known: expected at least one known pixel in each image, got a mask that hides everything")

    def masked(images: Tensor) -> Tensor:
        if known.shape not in (images.shape[2:], (len(images), 1, *images.shape[2:])):
            shapes = f"{tuple(images.shape[2:])} or {(len(images), 1, *images.shape[2:])}"
            raise ValueError(f"known: expected shape {shapes}, got {tuple(known.shape)}")
        return images * known.to(images)

    return masked


def downsample(size: int) -> Callable[[Tensor], Tensor]:
    """Averages over blocks, ``size`` x ``size`` of them, for super-resolution.

    The result keeps the image's resolution, which the perceptual distance was trained at.
    """

    def downsampled(images: Tensor) -> Tensor:
        r = images.shape[-1]
        if not 1 <= size <= r or r % size:
            raise ValueError(f"size: expected a divisor of the image side {r}, got {size}")
        return F.interpolate(F.avg_pool2d(images, r // size), scale_factor=r // size, mode="nearest")

    return downsampled
