"""Directions of attributes in W by linear regression."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Direction
from latentlab.seeds import stream


@torch.no_grad()
def find_directions(
    G: nn.Module,
    read: Callable[[Tensor], Float[Tensor, "n k"]],
    names: list[str],
    *,
    n: int = 20_000,
    seed: int = 0,
    batch_size: int = 250,
) -> dict[str, Direction]:
    """Linear regression of what ``read`` sees on w, over ``n`` samples of ``G`` (constant noise, psi 1).

    Two regressions, attributes y standardised: w on all of y together, B = Cov(y)^-1 Cov(y, w), whose rows
    move one attribute while the others stay, and y on w, A = Cov(w)^-1 Cov(w, y), which tells how far. Since a
    step of B falls short by how badly w predicts y, row k is divided by (B A)_kk: the direction moves
    attribute k by one standard deviation. (Forcing all others to stay exactly, (A^T Cov(w) A)^-1 A^T Cov(w),
    does so with steps many times as long, out of where the generator has codes: age and grey hair go together.)
    """
    if n <= G.w_dim or len(names) > G.w_dim:
        raise ValueError(f"{n} samples of W in {G.w_dim} dimensions cannot tell {len(names)} attributes apart")
    draw = stream(seed, "directions")
    codes, seen = [], []
    for start in range(0, n, batch_size):
        z = torch.randn(min(batch_size, n - start), G.z_dim, generator=draw).to(G.w_avg.device)
        w = G.mapping(z)
        codes.append(w.cpu())
        seen.append(read(G.synthesis(G.broadcast(w), noise="const")).cpu())
    return fit_directions(torch.cat(codes), torch.cat(seen), names)


def fit_directions(
    w: Float[Tensor, "n dim"], readings: Float[Tensor, "n k"], names: list[str]
) -> dict[str, Direction]:
    """The directions of ``find_directions`` from codes and readings at hand."""
    w, y = w.double(), readings.double()
    std = y.std(0)
    if not bool((std > 1e-8).all()):
        constant = [name for name, s in zip(names, std, strict=True) if s <= 1e-8]
        raise ValueError(f"the samples do not vary in {', '.join(constant)}: no direction can be found")
    y = (y - y.mean(0)) / std
    w = w - w.mean(0)
    A, B = torch.linalg.lstsq(w, y).solution, torch.linalg.lstsq(y, w).solution
    rows = (B / (B @ A).diagonal()[:, None]).float()
    return {k: Direction(k, d, float(s)) for k, d, s in zip(names, rows, std, strict=True)}
