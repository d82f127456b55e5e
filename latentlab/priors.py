"""How likely a code is: latents to one number an image."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.spaces import Statistics


def mahalanobis(
    w_plus: Float[Tensor, "n layers dim"], statistics: Statistics, *, reduction: str = "mean"
) -> Float[Tensor, " n"]:
    """Squared Mahalanobis distance of codes in PN+, (N,); 0 and up, 1 on average for codes of W ("mean").

    II2S, Eq. 8 writes the sum of v^2; its public code takes the mean over all layers and dimensions,
    which is what lambda = 0.001 to 0.01 belongs to. ``reduction`` is "mean" or "sum".
    """
    v = statistics.w_to_pn(w_plus)
    if reduction == "mean":
        return v.square().mean((1, 2))
    if reduction == "sum":
        return v.square().sum((1, 2))
    raise ValueError(f"reduction is 'mean' or 'sum', not {reduction!r}")


def geodesic_cross(v: Float[Tensor, "n layers dim"]) -> Float[Tensor, " n"]:
    """GEOCROSS of PULSE (arXiv 2003.03808, Eq. 4), (N,): how far the layers' codes are apart on their sphere.

    The mean over pairs of layers of the squared angle, times D / 8 as the public code scales it; 0 for
    one code in all layers.
    """
    a, b = v[:, :, None], v[:, None]
    # theta = 2 atan2(|a - b|, |a + b|) for |a| = |b|; the small number keeps the roots' gradient finite
    apart, along = (((a + sign * b).square().sum(-1) + 1e-9).sqrt() for sign in (-1, 1))
    return (2 * torch.atan2(apart, along)).square().mean((1, 2)) * v.shape[-1] / 8
