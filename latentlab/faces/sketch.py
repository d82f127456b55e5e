"""A second style of the face world: pencil drawings of the same faces."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
PAPER, INK = (0.97, 0.94, 0.87), (0.13, 0.12, 0.20)
SOFTNESS = 2.5 / 64  # standard deviation of the blur, relative to the image width
HARDNESS, TONE = 3.0, 0.35  # exponent that sharpens the lines; weight of the image's own grey values


def sketch(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 r r"]:
    """Pencil drawings of images in [-1, 1], (N, 3, R, R) in [-1, 1]; differentiable.

    The colour dodge of photo editing: the image divided by its blurred version, at most 1, is below 1 only where
    the image is darker than its surroundings, so that only edges and small dark regions get ink.
    """
    grey = (images.clamp(-1, 1) / 2 + 0.5).mul(images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    ratio = (grey + 0.02) / (_blur(grey, SOFTNESS * images.shape[-1]) + 0.02)
    white = ratio.clamp(max=1) ** HARDNESS * (1 - TONE + TONE * (grey + 1e-4).sqrt())
    paper, ink = (images.new_tensor(colour).view(3, 1, 1) for colour in (PAPER, INK))
    return torch.lerp(ink, paper, white) * 2 - 1


def _blur(grey: Float[Tensor, "n 1 r r"], sigma: float) -> Float[Tensor, "n 1 r r"]:
    """Gaussian blur with replicated edges."""
    reach = min(round(3 * sigma), grey.shape[-1] - 1)
    taps = torch.exp(-torch.arange(-reach, reach + 1).to(grey).square() / (2 * sigma**2))
    taps = taps / taps.sum()
    wide = F.pad(grey, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(wide, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
