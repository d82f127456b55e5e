"""Priors of latent codes: one penalty per image."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.spaces import Statistics


def pn_norm(w_plus: Float[Tensor, "n layers dim"], statistics: Statistics) -> Float[Tensor, " n"]:
    """Mean squared PN+ norm of codes: the squares averaged over layers and dimensions, (N,), at least 0.

    About 1 for the generator's own codes (a little less if eigenvalues were raised to the floor). L x D times it is
    the squared Mahalanobis distance |v|^2 of II2S, Eq. 8. The public code uses this mean, for which lambda is 0.001
    to 0.01.
    """
    return statistics.w_to_pn(w_plus).square().mean((1, 2))


def geodesic_cross(v: Float[Tensor, "n layers dim"]) -> Float[Tensor, " n"]:
    """GEOCROSS of PULSE (arXiv 2003.03808, Eq. 4), (N,): the geodesic distance between the codes of the layers.

    It is the squared angle averaged over pairs of layers, times D / 8 as in the public code; 0 if all layers have the
    same code.
    """
    a, b = v[:, :, None], v[:, None]
    # theta = 2 atan2(|a - b|, |a + b|) for |a| = |b|; 1e-9 keeps the gradients of the roots finite
    difference, total = (((a + sign * b).square().sum(-1) + 1e-9).sqrt() for sign in (-1, 1))
    return (2 * torch.atan2(difference, total)).square().mean((1, 2)) * v.shape[-1] / 8
