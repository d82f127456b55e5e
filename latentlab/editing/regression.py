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
    """Finds directions by linear regression between w and attribute readings of ``n`` samples of ``G``.

    read: maps images (N, 3, R, R), generated with constant noise and without truncation, to readings (N, K).

    There are two regressions, with y the standardised readings. w on all of y, B = Cov(y)^-1 Cov(y, w), has rows that
    change one attribute while the others stay. y on w, A = Cov(w)^-1 Cov(w, y), predicts by how much: a row of B
    changes its attribute by less than 1 where w predicts y imperfectly, so row k is divided by (B A)_kk. Each
    direction then changes its attribute by one standard deviation. (Requiring that all others stay exactly,
    (A^T Cov(w) A)^-1 A^T Cov(w), needs steps many times as long, which leave the region of the generator's codes,
    since attributes such as age and grey hair are correlated.)
    """
    if n <= G.w_dim or len(names) > G.w_dim:
        raise ValueError(
            f"n, names: expected more than {G.w_dim} samples and at most {G.w_dim} attributes, "
            f"the dimensions of W, got {n} and {len(names)}"
        )
    draw = stream(seed, "directions")
    codes, seen = [], []
    for start in range(0, n, batch_size):
        z = torch.randn(min(batch_size, n - start), G.z_dim, generator=draw).to(G.w_avg.device)
        w = G.mapping(z)
        codes.append(w.cpu())
        seen.append(read(G.synthesis(G.broadcast(w), noise="const")).cpu())
    return fit_directions(torch.cat(codes), torch.cat(seen), names)


def fit_directions(w: Float[Tensor, "n dim"], readings: Float[Tensor, "n k"], names: list[str]) -> dict[str, Direction]:
    """The directions of ``find_directions`` from given codes and readings."""
    w, y = w.double(), readings.double()
    std = y.std(0)
    if not bool((std > 1e-8).all()):
        constant = [name for name, s in zip(names, std, strict=True) if s <= 1e-8]
        raise ValueError(f"readings: expected attributes that vary, got constant {', '.join(constant)}")
    y = (y - y.mean(0)) / std
    w = w - w.mean(0)
    A, B = torch.linalg.lstsq(w, y).solution, torch.linalg.lstsq(y, w).solution
    vectors = (B / (B @ A).diagonal()[:, None]).float()
    return {k: Direction(k, d, float(s)) for k, d, s in zip(names, vectors, std, strict=True)}
