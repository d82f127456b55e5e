"""Regularisers of encoders: codes or features to one number an image; training takes their mean."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Codes = Float[Tensor, "n layers dim"]


def delta_regularization(w_plus: Codes, *, stage: int | None = None) -> Float[Tensor, " n"]:
    """Sum over layers of the length of the offset from the first code, (N,) (e4e, Eq. 1); lengths are not squared.

    stage: only the offsets 1 to ``stage`` count, those that are active; None: all. Weights: e4e 2e-4; LSAP 2e-5 in
    the paper, 2e-4 in its public configuration; at L = 18 and D = 512.
    """
    last = None if stage is None else stage + 1
    # Eq. 1: sum_i |Delta_i|_2
    return (w_plus[:, 1:last] - w_plus[:, :1]).norm(dim=2).sum(1)


def w_norm(w_plus: Codes, average: Float[Tensor, "*layers dim"]) -> Float[Tensor, " n"]:
    """|w - w_avg| over all L x D, (N,): pSp's regulariser (arXiv 2008.00951, Eq. 3).

    Weight 0 for inversion, 0.005 for its frontalisation.
    """
    return (w_plus - average).flatten(1).norm(dim=1)


def feature_regularization(
    feature: Float[Tensor, "n c h w"],
    original: Float[Tensor, "n c h w"],
    *,
    variant: Literal["code", "paper"] = "code",
) -> Float[Tensor, " n"]:
    """Squared distance of a feature map of F space from the generator's own, (N,) (CLCAE, Eq. 9); weight 0.01.

    "code": the mean over all entries; "paper": their sum. ``original`` = G^5(w+) passes no gradient.
    """
    squared = (feature - original.detach()).square().flatten(1)
    if variant not in ("code", "paper"):
        raise ValueError(f"variant: expected 'code' or 'paper', got {variant!r}")
    # Eq. 9: |f - G^5(w+)|^2
    return squared.mean(1) if variant == "code" else squared.sum(1)
