"""A second look of the face world: the same faces, drawn in pencil."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
PAPER, INK = (0.97, 0.94, 0.87), (0.13, 0.12, 0.20)
SOFTNESS = 2.5 / 64  # standard deviation of the blur, of the width of the picture
HARDNESS, TONE = 3.0, 0.35  # of the pencil; how much of the grey of the picture stays on the paper


def sketch(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 r r"]:
    """Pictures in [-1, 1] as pencil drawings of them, (N, 3, R, R) in [-1, 1], differentiable.

    A photographer's "dodge": the picture divided by its blurred self is 1 wherever it is no darker than what
    lies around it, so that only edges and small dark things leave ink.
    """
    grey = (images.clamp(-1, 1) / 2 + 0.5).mul(images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    ratio = (grey + 0.02) / (_blur(grey, SOFTNESS * images.shape[-1]) + 0.02)
    white = ratio.clamp(max=1) ** HARDNESS * (1 - TONE + TONE * (grey + 1e-4).sqrt())
    paper, ink = (images.new_tensor(colour).view(3, 1, 1) for colour in (PAPER, INK))
    return torch.lerp(ink, paper, white) * 2 - 1


def _blur(grey: Float[Tensor, "n 1 r r"], sigma: float) -> Float[Tensor, "n 1 r r"]:
    """Gaussian blur, edges repeated outwards."""
    reach = min(round(3 * sigma), grey.shape[-1] - 1)
    taps = torch.exp(-torch.arange(-reach, reach + 1).to(grey).square() / (2 * sigma**2))
    taps = taps / taps.sum()
    wide = F.pad(grey, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(wide, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
