"""The data types of the ledger: a claim, and what was measured of it."""

import html
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from latentlab.claims.explanations import NUMBERS
from latentlab.claims.reasons import why
from latentlab.claims.rule import Cell, Estimate, Rule
from latentlab.claims.runs import Bench, Planned
from latentlab.evaluation.intervals import Statistic, confidence_interval, nanmean, share_interval

WIDTH = 100  # columns of what is printed

Value = float | int | str | None


def _no_remark(found: "Finding") -> str:
    return ""


def _no_descents(bench: Bench) -> Sequence[Planned]:
    return ()


@dataclass(frozen=True)
class Claim:
    """A paper's claim, the function that measures it and the rule that turns the numbers into a verdict.

    measure: from a bench, which has generator and size, to a ``Finding``. remark: a sentence on the numbers that the
    rule does not judge. plan: the descents that ``measure`` needs.
    """

    id: str
    paper: str
    statement: str
    paper_value: str
    measure: Callable[[Bench], "Finding"]
    rule: Rule
    remark: Callable[["Finding"], str] = _no_remark
    plan: Callable[[Bench], Sequence[Planned]] = _no_descents

    def judge(self, found: "Finding") -> tuple[str, str]:
        """Verdict and reason of these numbers by the claim's rule."""
        return self.rule.judge(found.estimates, self.remark(found))


@dataclass(frozen=True, repr=False)
class Finding:
    """The numbers measured for one claim, and the verdict of the claim's rule.

    measured: numbers by name. controls: the same quantities measured where the claim need not hold. intervals:
    95 % intervals [low, high] of those measured numbers and controls that are statistics of samples. samples: their
    number "n" and standard deviation "sd" (that of the logarithms where "log" is 1). settings: numbers of codes,
    images, axes. rule: version of the rule by which the verdict was found. provenance, for a recorded finding: command,
    date, seconds, the generator's name and fingerprint, and the number of images that the generator was trained on.
    others: the same for other generators, by name. outdated: why a recorded finding is to be measured again, or "".
    """

    measured: dict[str, float]
    intervals: dict[str, list[float]] = field(default_factory=dict)
    controls: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Value] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""
    provenance: dict[str, Value] = field(default_factory=dict)
    samples: dict[str, dict[str, float]] = field(default_factory=dict)
    rule: str = ""
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    outdated: str = ""
    claim: Claim | None = None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Measured numbers and controls with their intervals and samples."""
        found = {}
        for name, value in (self.measured | self.controls).items():
            low, high = self.intervals.get(name, (float("nan"),) * 2)
            told = self.samples.get(name, {})
            n, log = told.get("n"), bool(told.get("log"))
            found[name] = Estimate(value, low, high, None if n is None else int(n), told.get("sd"), log)
        return found

    @property
    def cells(self) -> list[Cell]:
        """The numbers against the bars of the claim's rule."""
        return self.claim.rule.compare(self.estimates) if self.claim else []

    @property
    def outcomes(self) -> dict[str, str]:
        """The parts of the rule by what came of them, e.g. "holds"; empty where another rule judged the numbers."""
        if self.claim is None or self.outdated:
            return {}
        return {word: "; ".join(says) for word, says in self.claim.rule.summarize(self.estimates).items()}

    @property
    def power(self) -> tuple[int | None, int | None]:
        """Number of samples of the comparison of the rule that needs the most for 80 % power, and how many it needs.

        Where no need is known, since no comparison lies on the claimed side of its bar: the smallest number of samples,
        and None. Both are None where no comparison has samples.
        """
        parts = self.claim.rule.parts if self.claim else ()
        cells = [c for c in self.cells if c.part in parts and not c.part.exact and c.estimate and c.estimate.n]
        known = [cell for cell in cells if cell.needed is not None]
        if known:
            most = max(known, key=lambda cell: cell.needed)
            return most.estimate.n, most.needed
        return min((cell.estimate.n for cell in cells), default=None), None

    def __repr__(self) -> str:
        lines = {name: self.listed(name) for name in ("measured", "controls", "settings", "provenance")}
        rows = [f"  {name}: {line}" for name, line in lines.items() if line]
        if outcomes := self.outcomes:
            remark = self.claim.remark(self)
            rows += [f"  {self.verdict}", *(f"    {word}: {says}" for word, says in outcomes.items())]
            rows += [f"    {remark}."] * bool(remark)
        else:
            rows += [f"  {self.verdict}: {self.reason}."]
        rows += [f"  {self.outdated}"] if self.outdated else []
        if self.claim:
            head = f"{self.claim.id}  {self.claim.statement} {self.claim.paper}: {self.claim.paper_value}"
            rows = [head, *rows]
        return "\n".join(textwrap.fill(row, WIDTH, subsequent_indent=" " * 6) for row in rows)

    def listed(self, name: str = "measured") -> str:
        """One of the dictionaries as a line of text, numbers with their intervals."""
        parts = []
        for key, value in getattr(self, name).items():
            low, high = self.intervals.get(key, (float("nan"),) * 2)
            low_high = f"[{low:.3g}, {high:.3g}]" if low == low else ""
            parts.append(f"{key} {value:.3g} {low_high}".rstrip() if isinstance(value, float) else f"{key} {value}")
        return ", ".join(parts)

    def excerpt(self, *names: str) -> "Excerpt":
        """The verdict and some of the numbers, for a notebook. names: of measured numbers or controls, or their
        beginnings followed by "*". An unknown name raises ``ValueError``, unless the record is outdated: a rule of
        another version has other numbers."""
        every, chosen = self.measured | self.controls, []
        for name in names:
            fits = [key for key in every if key == name or (name.endswith("*") and key.startswith(name[:-1]))]
            if not fits and not self.outdated:
                raise ValueError(f"names: expected numbers among {', '.join(every)}; got {name!r}")
            chosen += [key for key in fits or [name] if key not in chosen]
        return Excerpt(self, tuple(chosen))

    def explained(self) -> str:
        """The whole record: the numbers, the rule, and each number against its bar with the samples that it needs."""
        rule = self.claim.rule
        earlier = f", recorded under {self.rule or 'a rule without version'}" * (self.rule != rule.version)
        rows = [f"  rule {rule.version}{earlier}", *(f"    {line}" for line in rule.text.splitlines())]
        if any(cell.estimate for cell in self.cells):
            rows.append("  against the bars (p: two-sided, after Holm's correction)")
            rows += [f"    {_compared(cell)}" for cell in self.cells]
        rows += [f"  numbers: {NUMBERS[self.claim.id].replace('`', '')}"] if self.claim.id in NUMBERS else []
        rows += [f"  why: {explained}"] if (explained := why(self)) else []
        rows += [f"  with {name}: {other['verdict']}: {other['reason']}." for name, other in self.others.items()]
        return "\n".join([repr(self), *(textwrap.fill(r, WIDTH, subsequent_indent=" " * 8) for r in rows)])


@dataclass(frozen=True, repr=False)
class Excerpt:
    """Some numbers of a record and its verdict; in a notebook the whole record is folded below them."""

    found: Finding
    names: tuple[str, ...]

    def _head(self) -> tuple[str, str]:
        claim, star = self.found.claim, "*" * bool(self.found.outdated)
        statement = f"{claim.id}  {claim.statement} {claim.paper}: {claim.paper_value}" if claim else ""
        return statement, f"{self.found.verdict}{star}"

    def _rows(self) -> list[tuple[str, str, str]]:
        """Name, value and interval of each number."""
        every, rows = self.found.measured | self.found.controls, []
        for name in self.names:
            if name not in every:
                rows.append((name, "not measured yet", ""))
                continue
            low, high = self.found.intervals.get(name, (float("nan"),) * 2)
            rows.append((name, f"{every[name]:.3g}", f"{low:.3g} to {high:.3g}" if low == low else ""))
        return rows

    def __repr__(self) -> str:
        statement, verdict = self._head()
        lines = [statement, *(f"  {' '.join(filter(None, row))}" for row in self._rows()), f"  {verdict}"]
        return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent=" " * 6) for line in lines if line)

    def _repr_html_(self) -> str:
        statement, verdict = (html.escape(text) for text in self._head())
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value}</td><td>{interval}</td></tr>"
                       for name, value, interval in self._rows())  # fmt: skip
        head = "<tr><th>number</th><th>value</th><th>95 % interval</th></tr>" * bool(rows)
        whole = html.escape(repr(self.found))
        return (f"<p>{statement}<br>Ledger: <b>{verdict}</b></p><table>{head}{rows}</table>"
                f"<details><summary>the whole record</summary><pre>{whole}</pre></details>")  # fmt: skip


def p_text(cell: Cell) -> str:
    """The two-sided p-value of a comparison; "" where the number itself decides, "1" where it lies on the other side of
    its bar."""
    p = min(1.0, 2 * cell.p)
    return "" if cell.part.exact else "< 1e-6" if p < 1e-6 else f"{p:.2g}"


def _compared(cell: Cell) -> str:
    """One comparison as a line."""
    bar = f"{cell.part.relation} {cell.part.bar:g}"
    if cell.estimate is None:
        return f"{cell.name}: not measured ({bar})"
    e = cell.estimate
    told = f"{cell.name} {e.value:.3g}" + (f" [{e.low:.3g}, {e.high:.3g}]" if e.low == e.low else "")
    told += f" {bar}: {cell.outcome}"
    if not cell.part.exact:
        told += f", p {p_text(cell)}" + f", n {e.n}" * bool(e.n)
        told += f", 80 % power with {cell.needed}" * bool(cell.needed)
    return told


def spread_of(x: np.ndarray, statistic: Callable) -> dict[str, float]:
    """Number and standard deviation of samples (N,), for ``Finding.samples``: that of the logarithms for scipy's
    ``gmean``; none for statistics that are no means."""
    from scipy.stats import gmean

    log = statistic is gmean
    if len(x) < 2 or not (log or statistic in (np.mean, nanmean)):
        return {"n": len(x)}
    return {"n": len(x), "sd": float(np.std(np.log(x) if log else x, ddof=1))} | ({"log": 1} if log else {})


def over_samples(columns: Mapping[str, Tensor | np.ndarray], *, log: bool = False) -> dict[str, dict]:
    """Means of columns of samples (N,), geometric means with ``log``, as keywords of a ``Finding``: measured, intervals
    and samples. Intervals are Student's, but Wilson's for columns of booleans, whose mean is a share. NaN samples are
    left out.

    The type decides, not the values: a difference of two shares may happen to be 0 or 1 on all faces, and Wilson's
    interval excludes 0 as soon as a single face has 1. No rule tests a share of booleans; if one did, its comparison
    would still hold just where the whole interval lies beyond the bar, but ``Estimate.p_value``, which takes the
    interval to be Student's, is only near to the score test's elsewhere.
    """
    from scipy.stats import gmean

    found: dict[str, dict] = {"measured": {}, "intervals": {}, "samples": {}}
    for name, values in columns.items():
        x = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        is_share, x = x.dtype == bool, x.astype(float)
        x = x[~np.isnan(x)]
        if len(x):
            statistic = gmean if log else np.mean
            interval = share_interval(int(x.sum()), len(x)) if is_share else confidence_interval(x, statistic)
            found["measured"][name] = float(statistic(x))
            found["intervals"][name] = interval
            found["samples"][name] = spread_of(x, statistic)
    return found


def over_resamples(statistics: Mapping[str, tuple[Statistic, int]]) -> dict[str, dict]:
    """Statistics that are no means over faces, as keywords of a ``Finding``, with BCa intervals from resampled faces.

    statistics: name -> the statistic, a function of the numbers 0 to N - 1 of the faces that take part, (.., N), and N.
    """
    found: dict[str, dict] = {"measured": {}, "intervals": {}, "samples": {}}
    for name, (statistic, n) in statistics.items():
        faces = np.arange(n, dtype=float)
        found["measured"][name] = float(statistic(faces, axis=0))
        found["intervals"][name] = confidence_interval(faces, statistic, method="bca")
        found["samples"][name] = {"n": n}
    return found
