"""Priors of latent codes: penalties per image."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.spaces import Statistics


def pn_norm(w_plus: Float[Tensor, "n layers dim"], statistics: Statistics) -> Float[Tensor, " n"]:
    """Squared PN+ norm of codes, the mean over layers and dimensions, (N,); 0 and up.

    About 1 for the generator's own codes (a little less where eigenvalues were raised to the floor). Times L x D
    it is the squared Mahalanobis distance |v|^2 of II2S, Eq. 8, whose public code takes the mean as here: lambda =
    0.001 to 0.01 belongs to the mean.
    """
    return statistics.w_to_pn(w_plus).square().mean((1, 2))


def geodesic_cross(v: Float[Tensor, "n layers dim"]) -> Float[Tensor, " n"]:
    """GEOCROSS of PULSE (arXiv 2003.03808, Eq. 4), (N,): how far the layers' codes are apart on their sphere.

    The mean over pairs of layers of the squared angle, times D / 8 as the public code scales it; 0 for
    one code in all layers.
    """
    a, b = v[:, :, None], v[:, None]
    # theta = 2 atan2(|a - b|, |a + b|) for |a| = |b|; the small number keeps the roots' gradient finite
    apart, along = (((a + sign * b).square().sum(-1) + 1e-9).sqrt() for sign in (-1, 1))
    return (2 * torch.atan2(apart, along)).square().mean((1, 2)) * v.shape[-1] / 8
