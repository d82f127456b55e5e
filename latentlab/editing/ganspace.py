"""Principal components of W (GANSpace, Härkönen et al., arXiv 2004.02546)."""

from collections.abc import Sequence

import torch
from torch import nn

from latentlab.editing.edit import Direction, Edit, restrict
from latentlab.seeds import stream
from latentlab.spaces import Moments, Statistics


@torch.no_grad()
def find_components(
    G: nn.Module,
    count: int = 20,
    *,
    layers: Sequence[int] | None = None,
    n: int = 100_000,
    statistics: Statistics | None = None,
    seed: int = 0,
    batch_size: int = 10_000,
) -> dict[str, Edit]:
    """The first ``count`` principal components of W, "pc0" the one of the largest variance, as edits.

    Strength 1 is one standard deviation along the component, as measured. layers: those of W+ that move, e.g. 3 to 5 as
    the paper writes E(v, 3-5); None for all. The covariance of ``n`` codes is streamed and exact, where the public
    code fits an incremental PCA; with ``statistics`` theirs is taken and nothing is drawn. Components come without
    names: which attribute they move is for their user to see, or for ``measure_effect``.
    """
    if not 1 <= count <= G.w_dim:
        raise ValueError(f"count: expected 1 to {G.w_dim} components, got {count}")
    if statistics is None:
        if n <= G.w_dim:
            raise ValueError(f"n: expected more codes than the {G.w_dim} dimensions of W, got {n}")
        moments, draw = Moments(G.w_avg), stream(seed, "ganspace")
        for start in range(0, n, batch_size):
            z = torch.randn(min(batch_size, n - start), G.z_dim, generator=draw)
            moments.add(G.mapping(z.to(G.w_avg)))
        _, covariance = moments.result()
    else:
        statistics.check(G)
        n, covariance = statistics.n, statistics.w_covariance
    variances, axes = (x.flip(-1) for x in torch.linalg.eigh(covariance))  # eigh: smallest first
    axes = with_fixed_sign(axes)
    share = variances / variances.sum()
    found = {}
    for i in range(count):
        source = f"GANSpace, component {i} of {n} codes, {float(share[i]):.1%} of the variance of W"
        vector = (axes[:, i] * variances[i].clamp(min=0).sqrt()).float()
        edit = Direction(f"pc{i}", vector, unit="standard deviations of the component", source=source)
        found[edit.name] = edit if layers is None else restrict(edit, layers)
    return found


def with_fixed_sign(axes: torch.Tensor) -> torch.Tensor:
    """Eigenvectors (D, K), a column each, with the entry of largest size positive: their sign is arbitrary and differs
    from one linear algebra library to the next."""
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * torch.where(largest < 0, -1.0, 1.0).to(axes)
