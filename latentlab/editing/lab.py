"""Edits of one's own: from scores or labels of samples, from faces that are liked or not, from pairs of pictures."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from latentlab.editing.calibration import Effect, measure_effect
from latentlab.editing.edit import Edit
from latentlab.editing.regression import pn_direction
from latentlab.editing.samples import Read, Samples, draw_samples
from latentlab.losses.attributes import load_attributes
from latentlab.spaces import Statistics, statistics_for

FOLDS = 5
EFFECT_SAMPLES = 1_000


@dataclass(frozen=True)
class Finding:
    """An edit that was found from examples, and what speaks for it.

    agreement: from -1 to 1, how well the edit's line predicts examples that it was not found from: for scores and
    labels the correlation with them, for pairs the mean cosine between a pair's difference and the others' mean.
    About 0: it does not, because there is no such line or the examples are too few to find it; NaN where there are too
    few to leave some out. effect: what strength 1 does to other attributes, None where nothing reads this generator's
    pictures.
    """

    edit: Edit
    agreement: float
    effect: Effect | None


def edit_from_scores(
    G: nn.Module,
    w: Float[Tensor, "n dim"],
    scores: Float[Tensor, " n"] | Sequence[float],
    name: str,
    *,
    lambda_ridge: float | None = None,
    statistics: Statistics | None = None,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    samples: Samples | None = None,
) -> Finding:
    """A straight line in PN+ along which the scores of samples rise; scores of two values are labels.

    Ridge regression of the scores on PN codes, (V^T V / n + lambda I)^-1 V^T y / n. PN is white, so a large
    lambda_ridge gives the difference of two means, which a few examples can bear, and 0 least squares; unless given it
    is D / n. Strength 1 is one standard deviation of the generator's codes along the line. read, names, samples: for
    the effect, see ``measure_effect``; the losses' network reads generators of its resolution.
    """
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    y = _check_scores(scores, w, G.w_dim)
    ridge = w.shape[1] / len(w) if lambda_ridge is None else lambda_ridge
    if not ridge >= 0 or (ridge == 0 and len(w) <= w.shape[1]):
        raise ValueError(f"lambda_ridge: expected 0 or more, and above 0 for no more than {w.shape[1]} codes, got "
                         f"{lambda_ridge} for {len(w)}")  # fmt: skip
    v = statistics.w_to_pn(w.double().cpu())
    d = _ridge(v, y, ridge)
    guess = torch.full_like(y, math.nan)
    folds = torch.arange(len(y)) % FOLDS
    folds[y.argsort(stable=True)] = folds.clone()  # of all scores, and so both labels, in every fold
    for i in range(FOLDS):
        fitted, tested = folds != i, folds == i
        if len(y[fitted].unique()) > 1:
            guess[tested] = (v[tested] - v[fitted].mean(0)) @ _ridge(v[fitted], y[fitted], ridge)
    agreement = float(torch.corrcoef(torch.stack([guess, y]))[0, 1])
    kind = "labels" if len(y.unique()) == 2 else "scores"
    source = f"ridge regression in PN on {len(y)} {kind}, lambda {ridge:.3g}, agreement {agreement:.2f}"
    unit = "standard deviations of the codes along the line"
    edit = pn_direction(name, d / d.norm(), statistics, unit=unit, source=source)
    return Finding(edit, agreement, _effect(edit, G, read, names, samples))


def edit_from_choices(
    G: nn.Module, w: Float[Tensor, "n dim"], liked: Sequence[int], disliked: Sequence[int], name: str, **knobs: object
) -> Finding:
    """An edit from what is disliked to what is liked: numbers of samples, of the codes ``w``. Others count neither way.
    knobs: those of ``edit_from_scores``."""
    liked, disliked = list(liked), list(disliked)
    if not liked or not disliked:
        raise ValueError(f"liked, disliked: expected at least one sample each, got {len(liked)} and {len(disliked)}")
    if both := sorted(set(liked) & set(disliked)):
        raise ValueError(f"liked, disliked: expected different samples, got {both} in both")
    if outside := [i for i in liked + disliked if not 0 <= i < len(w)]:
        raise ValueError(f"liked, disliked: expected numbers from 0 to {len(w) - 1}, got {outside}")
    labels = torch.tensor([1.0] * len(liked) + [0.0] * len(disliked))
    return edit_from_scores(G, w[liked + disliked], labels, name, **knobs)


def edit_from_pairs(
    G: nn.Module,
    without: Tensor,
    with_: Tensor,
    name: str,
    *,
    invert: Callable[[Tensor], Float[Tensor, "n layers dim"]] | None = None,
    statistics: Statistics | None = None,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    samples: Samples | None = None,
) -> Finding:
    """An edit by the mean difference, in PN+, of pairs of pictures of the same thing without and with something.

    without, with_: codes of W, (N, D), or of W+, (N, L, D); or pictures, (N, 3, R, R), which ``invert`` takes to codes
    of W+, e.g. ``lambda x: ll.invert(x, G, method="e4e").latent``. Strength 1 is the mean difference.
    """
    if without.shape != with_.shape or not len(without):
        raise ValueError(f"with_: expected the same shape as without, {tuple(without.shape)}, got {tuple(with_.shape)}")
    if without.ndim == 4:
        if invert is None:
            raise ValueError("invert: expected what takes pictures to codes of W+, got None; pass e.g. "
                             "lambda x: ll.invert(x, G, method='ii2s').latent, or codes")  # fmt: skip
        without, with_ = invert(without), invert(with_)
    if tuple(without.shape[1:]) not in ((G.w_dim,), (G.num_ws, G.w_dim)):
        raise ValueError(f"without: expected codes (N, {G.w_dim}) or (N, {G.num_ws}, {G.w_dim}), got "
                         f"{tuple(without.shape)}")  # fmt: skip
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    difference = (statistics.w_to_pn(with_.double()) - statistics.w_to_pn(without.double())).cpu()
    n, mean = len(difference), difference.mean(0)
    if not float(mean.norm()) > 0:
        raise ValueError("with_: expected codes that differ from without, got the same")
    agreement = math.nan
    if n > 1:
        others = (n * mean - difference) / (n - 1)
        agreement = float(torch.cosine_similarity(difference.flatten(1), others.flatten(1)).mean())
    source = f"mean difference of {n} pairs in PN+, agreement {agreement:.2f}"
    edit = pn_direction(name, mean, statistics, unit="mean differences of the pairs", source=source)
    return Finding(edit, agreement, _effect(edit, G, read, names, samples))


def samples_for_effects(
    G: nn.Module, read: Read | None = None, names: Sequence[str] | None = None
) -> Samples | None:
    """The samples that a ``Finding``'s effect is measured on unless others are given, to be drawn once for several
    edits; None where nothing reads this generator's pictures."""
    if read is None and G.resolution != load_attributes().resolution:
        return None
    return draw_samples(G, read, names, n=EFFECT_SAMPLES)


def read_scores(
    path: str | Path, column: str, count: int, *, files: Sequence[str] | None = None
) -> Float64[Tensor, " n"]:
    """One column of a CSV file with a header and a row for each of ``count`` samples. True and False are 1 and 0.

    files: names of the samples' pictures. A table with a column ``file`` is put in their order, whatever folders it
    names; without ``files``, or without that column, the rows must be in the order of the samples.
    """
    import pandas

    table = pandas.read_csv(path)
    if column not in table:
        raise ValueError(f"{path}: expected a column {column!r}, got {', '.join(map(str, table.columns))}")
    if len(table) != count:
        raise ValueError(f"{path}: expected a row for each of {count} samples, got {len(table)}")
    if files is not None and "file" in table:
        table.index = [re.split(r"[/\\]", str(name))[-1] for name in table["file"]]
        if missing := sorted(set(files) - set(table.index)):
            raise ValueError(f"{path}: expected a row for each of {files[0]} to {files[-1]} in the column 'file', got "
                             f"none for {missing[0]}")  # fmt: skip
        table = table.loc[list(files)]
    numbers = pandas.to_numeric(table[column], errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        raise ValueError(f"{path}: expected numbers in {column!r}, got {str(table[column].iloc[row])!r} in row "
                         f"{table.index[row]}")  # fmt: skip
    return torch.tensor(numbers.to_numpy(dtype="float64"))


def _check_scores(scores: Tensor | Sequence[float], w: Tensor, dim: int) -> Float64[Tensor, " n"]:
    if w.ndim != 2 or w.shape[1] != dim:
        raise ValueError(f"w: expected codes of W, (N, {dim}), got {tuple(w.shape)}")
    try:
        y = torch.as_tensor(scores).double().cpu()
    except (TypeError, ValueError):
        raise ValueError(f"scores: expected numbers, or True and False, got {type(scores[0]).__name__}") from None
    if y.shape != w.shape[:1]:
        raise ValueError(f"scores: expected one for each of {len(w)} codes, got {tuple(y.shape)}")
    if not bool(y.isfinite().all()):
        raise ValueError(f"scores: expected finite numbers, got {int((~y.isfinite()).sum())} that are not")
    if len(y.unique()) < 2:
        raise ValueError(f"scores: expected two classes, or scores that vary, got one value in all of {len(y)}")
    return y


def _ridge(v: Float64[Tensor, "n dim"], y: Float64[Tensor, " n"], ridge: float) -> Float64[Tensor, " dim"]:
    v, y, n = v - v.mean(0), y - y.mean(), len(v)
    if n <= v.shape[1] and ridge > 0:  # the same by the smaller system
        return v.T @ torch.linalg.solve(v @ v.T / n + ridge * torch.eye(n).to(v), y) / n
    return torch.linalg.solve(v.T @ v / n + ridge * torch.eye(v.shape[1]).to(v), v.T @ y / n)


def _effect(
    edit: Edit, G: nn.Module, read: Read | None, names: Sequence[str] | None, samples: Samples | None
) -> Effect | None:
    samples = samples or samples_for_effects(G, read, names)
    return None if samples is None else measure_effect(edit, G, read, names, samples=samples)
