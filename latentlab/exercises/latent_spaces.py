"""Checks of the exercises of notebook 02."""

from collections.abc import Callable
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from latentlab import spaces
from latentlab.exercises import expect, expect_close


def check_passing(expected: Any, log10_chance: Any, axes: int = 512, passed: int = 219) -> None:
    """How many of independent normal axes pass at 5 %, and how likely so few are."""
    for name, value in (("expected", expected), ("log10_chance", log10_chance)):
        expect(value, name, kind=(int, float))
    expect_close(float(expected), 0.95 * axes, "expected", atol=0.5, hint="A normal axis passes with probability .95.")
    chance = float(stats.binom.logcdf(passed, axes, 0.95) / torch.tensor(10.0).log())
    hint = f"It is the chance of {passed} or fewer: logcdf of stats.binom, and a natural logarithm is no decimal one."
    expect_close(float(log10_chance), chance, "log10_chance", atol=0.01, hint=hint)


def check_diagonal(w_diagonal: Any, x: Tensor) -> None:
    """500 codes of W, drawn in P with the right means and variances and without correlations. x: codes of P."""
    expect(w_diagonal, "w_diagonal", (500, x.shape[1]), dtype=torch.float32)
    drawn = spaces.w_to_p(w_diagonal)
    wide = x.std(0).mean()
    hint = "The variances are the diagonal of U Lambda U^T; go back to W with spaces.p_to_w."
    expect_close((drawn.std(0) / x.std(0)).log(), torch.zeros(x.shape[1]), "standard deviations", atol=0.2, hint=hint)
    expect_close((drawn.mean(0) - x.mean(0)) / wide, torch.zeros(x.shape[1]), "means", atol=0.5, hint=hint)
    off = torch.corrcoef(drawn.T).fill_diagonal_(0).abs().mean()
    expect_close(off, 0, "mean |correlation|", atol=0.08, hint="Each coordinate is drawn for itself.")


def check_double(w_double: Any, w_plus: Tensor, G: nn.Module, number: int) -> Tensor:
    """A code whose style in layer ``number`` of S is doubled; returns ``w_plus`` with it in that layer of W+ alone."""
    expect(w_double, "w_double", (len(w_plus), G.w_dim), dtype=torch.float32, like=w_plus)
    alone = w_plus.clone()
    alone[:, G.style_layers[number].w_index] = w_double
    wanted = 2 * G.styles(w_plus)[number]
    hint = "Solve A u = b in float64 (torch.linalg.pinv), then w' = 2 w + u."
    expect_close(G.styles(alone)[number], wanted, "the style of w_double", atol=0.05, hint=hint)
    return alone


def check_radial(on_shell: Callable[[Tensor], Tensor], w: Tensor, statistics: spaces.Statistics) -> Tensor:
    """Codes of W moved in PN, along the line through the centre, to |v|^2 / D = 1; they are returned."""
    moved = on_shell(w)
    expect(moved, "on_shell(w)", w.shape, dtype=w.dtype, like=w)
    v, before = statistics.w_to_pn(moved), statistics.w_to_pn(w)
    inside = on_shell(statistics.pn_to_w(0.5 * v).to(w))  # codes nearer to the centre than the shell move outwards
    size = torch.cat([v, statistics.w_to_pn(inside)]).square().mean(1)
    expect_close(size, torch.ones(len(size)), "|v|^2 / D", atol=0.02, hint="Divide v by the root of its mean square.")
    cosine = torch.cosine_similarity(v, before, dim=1)
    expect_close(cosine, torch.ones(len(w)), "cosine with v before", atol=0.01, hint="The direction of v stays.")
    return moved


def check_dimension(effective_dimension: Callable[[Tensor], float]) -> None:
    """Eq. (4) of the notebook from codes (n, D): clouds whose effective dimension is known."""
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=draw)).Q  # so that coordinates are correlated
    for variances in ((9.0,), (9.0,) * 4, (9.0,) * 16, (16.0, 4.0, 4.0, 1.0)):
        k, v = len(variances), torch.tensor(variances)
        cloud = (v.sqrt() * torch.randn(20_000, k, generator=draw)) @ turn[:k] + 5
        right = float(v.sum() ** 2 / v.square().sum())
        name = f"effective_dimension of a cloud of dimension {right:.3g}"
        found = effective_dimension(cloud)
        expect(found, name, kind=(float, int, Tensor))
        hint = "Eigenvalues of the covariance; the mean is subtracted."
        expect_close(float(found), right, name, atol=0.02 * right, hint=hint)
