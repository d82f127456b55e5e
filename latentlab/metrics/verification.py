"""How well distances tell people apart."""

import torch
from jaxtyping import Float
from torch import Tensor


def verification(same: Float[Tensor, " p"], others: Float[Tensor, " q"]) -> tuple[float, float]:
    """How well distances tell one person's pairs from strangers': the area under the ROC curve (1 perfectly,
    0.5 not at all) and the equal error rate (0 and 0.5).

    >>> verification(torch.tensor([0.1, 0.2, 0.6]), torch.tensor([0.5, 0.8, 0.9]))
    (0.888..., 0.333...)
    """
    if not min(len(same), len(others)) or not bool(torch.cat([same, others]).isfinite().all()):
        raise ValueError("finite distances of at least one pair of each kind are wanted")
    same, others = same.sort().values, others.sort().values
    # Ties count a half.
    above = len(others) - (torch.searchsorted(others, same) + torch.searchsorted(others, same, right=True)) / 2
    thresholds = torch.cat([same, others])
    rejected = 1 - torch.searchsorted(same, thresholds, right=True) / len(same)
    accepted = torch.searchsorted(others, thresholds, right=True) / len(others)
    at = (rejected - accepted).abs().argmin()
    return float(above.mean() / len(others)), float(rejected[at] + accepted[at]) / 2
