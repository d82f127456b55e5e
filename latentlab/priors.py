"""How likely a code is: latents to one number an image."""

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
