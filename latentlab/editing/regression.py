"""Directions of attributes in W by linear regression."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Direction, Edit, State
from latentlab.editing.samples import Reader, Samples, read_samples
from latentlab.seeds import stream
from latentlab.spaces import Statistics, fingerprint, p_to_w, w_to_p


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
    draw, sizes = stream(seed, "directions"), [min(batch_size, n - start) for start in range(0, n, batch_size)]
    z = torch.cat([torch.randn(size, G.z_dim, generator=draw) for size in sizes])
    samples = read_samples(G, z, Reader(read, tuple(names)), batch_size=batch_size)
    return fit_directions(samples.w, samples.readings, names)


def fit_directions(w: Float[Tensor, "n dim"], readings: Float[Tensor, "n k"], names: list[str]) -> dict[str, Direction]:
    """The directions of ``find_directions`` from given codes and readings."""
    Samples(w, readings, tuple(names))  # refuses other lengths
    w, y = w.double(), readings.double()
    std = y.std(0)
    if not bool((std > 1e-8).all()):
        constant = [name for name, s in zip(names, std, strict=True) if s <= 1e-8]
        raise ValueError(f"readings: expected attributes that vary, got constant {', '.join(constant)}")
    y = (y - y.mean(0)) / std
    w = w - w.mean(0)
    A, B = torch.linalg.lstsq(w, y).solution, torch.linalg.lstsq(y, w).solution
    rows = (B / (B @ A).diagonal()[:, None]).float()
    source = f"linear regression in W, {len(w)} samples"
    return {k: Direction(k, d, float(s), source=source) for k, d, s in zip(names, rows, std, strict=True)}


@dataclass(frozen=True, eq=False)
class PnDirection(Edit):
    """A straight line in PN+; a short one stays where the generator has codes.

    PN is an affine map of P, so the line is straight in P as well: x + strength * step, and w = LeakyReLU_0.2(x)
    (II2S, arXiv 2012.09036, Eq. 1, 2). A line of W crosses into the other half of many coordinates instead, where
    P is five times as wide, and ends far out of the distribution.

    step: (D,), or (L, D) with one for each layer, in P; ``pn_direction`` makes it from a vector of PN. fingerprint:
    of the mapping network whose P it is; another generator is refused. See ``Edit`` for the rest.
    """

    name: str
    step: Float[Tensor, "*layers dim"]
    fingerprint: str
    std: float = math.nan
    unit: str = "standard deviations"
    source: str = ""
    space = "PN"
    layers = None

    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        if (found := fingerprint(G)) != self.fingerprint:
            raise ValueError(f"edit {self.name!r}: expected the mapping network {self.fingerprint}, got {found}; "
                             "find the edit again for this generator")  # fmt: skip
        x = w_to_p(state.w_plus)
        if self.step.shape not in (x.shape[2:], x.shape[1:]):
            raise ValueError(f"edit {self.name!r}: expected a step of shape {tuple(x.shape[2:])} or "
                             f"{tuple(x.shape[1:])}, as the codes have, got {tuple(self.step.shape)}")  # fmt: skip
        return replace(state, w_plus=p_to_w(x + strengths.to(x).view(-1, 1, 1) * self.step.to(x)))


def pn_direction(
    name: str, vector: Float[Tensor, "*layers dim"], statistics: Statistics, **about: str | float
) -> PnDirection:
    """The edit that moves along ``vector``, (D,) or (L, D), in the PN of ``statistics``. about: unit, std, source."""
    # x = U Lambda^(1/2) v + mu (II2S, Eq. 2): a step in v is U Lambda^(1/2) times it in x
    step = statistics.pn_to_p(vector.double()) - statistics.mean
    return PnDirection(name, step.float(), statistics.fingerprint, **about)


def fit_pn_directions(
    samples: Samples, statistics: Statistics, *, lambda_ridge: float = 0.3
) -> dict[str, PnDirection]:
    """Directions in PN that move one attribute while the others stay, by ridge regression.

    With the attributes y standardised and A = Cov(v)^-1 Cov(v, y) their linear fit on the PN codes v, direction k is
    the d that minimises |A^T d - e_k|^2 + lambda_ridge |d|^2: attribute k moves by one standard deviation, the others
    do not, and the step is short. Since PN is white, |d| is the Mahalanobis length of the step, so the penalty keeps it
    where codes are. lambda_ridge 0 holds the others exactly in the linear fit, by steps many times as long; a large one
    gives the plain gradient A e_k, which holds none. The step is then scaled to one standard deviation by the linear
    fit: what it really does is a matter of ``calibrate``.
    """
    if not lambda_ridge >= 0:
        raise ValueError(f"lambda_ridge: expected 0 or more, got {lambda_ridge}")
    v, y = statistics.w_to_pn(samples.w.double()), samples.standardised()
    if len(v) <= v.shape[1]:
        raise ValueError(f"samples: expected more than {v.shape[1]}, the dimensions of W, got {len(v)}")
    A = torch.linalg.lstsq(v - v.mean(0), y).solution
    # d_k = argmin |A^T d - e_k|^2 + lambda |d|^2 = A (A^T A + lambda I)^-1 e_k
    eye = torch.eye(y.shape[1]).to(A)
    D = A @ torch.linalg.solve(A.T @ A + lambda_ridge * eye, eye)
    D = D / (A.T @ D).diagonal()
    source = f"ridge regression in PN, lambda {lambda_ridge:g}, {len(v)} samples"
    about = {"unit": "standard deviations by the linear fit", "source": source}
    rows = zip(samples.names, D.T, samples.std.tolist(), strict=True)
    return {name: pn_direction(name, d, statistics, std=std, **about) for name, d, std in rows}
