"""Face verification: how well a distance separates pairs of one person from pairs of two."""

import torch
from jaxtyping import Float
from torch import Tensor


def verification(same: Float[Tensor, " p"], others: Float[Tensor, " q"]) -> tuple[float, float]:
    """Area under the ROC curve (1 is perfect, 0.5 is chance) and equal error rate (0 is perfect, 0.5 is chance).

    same: distances of pairs of one person. others: distances of pairs of two people.

    >>> verification(torch.tensor([0.1, 0.2, 0.6]), torch.tensor([0.5, 0.8, 0.9]))
    (0.888..., 0.333...)
    """
    infinite = int((~torch.cat([same, others]).isfinite()).sum())
    if not min(len(same), len(others)) or infinite:
        raise ValueError(
            "distances: expected finite ones of at least one pair of each kind, "
            f"got {len(same)} of one person and {len(others)} of two, {infinite} of them not finite"
        )
    same, others = same.sort().values, others.sort().values
    # Ties count as one half.
    above = len(others) - (torch.searchsorted(others, same) + torch.searchsorted(others, same, right=True)) / 2
    thresholds = torch.cat([same, others])
    rejected = 1 - torch.searchsorted(same, thresholds, right=True) / len(same)
    accepted = torch.searchsorted(others, thresholds, right=True) / len(others)
    at = (rejected - accepted).abs().argmin()
    return float(above.mean() / len(others)), float(rejected[at] + accepted[at]) / 2
