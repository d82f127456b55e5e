"""The form of a rule: what must hold for a claim, against which bar, and where the bar comes from."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from latentlab.evaluation.intervals import holm, samples_needed

LEVEL = 0.025  # of a one-sided comparison, so that a 95 % interval on one side of the bar decides it
# Where bars come from. A bar of our own is called so, with its reason.
SIGN = "sign"
OWN = "our own bar"


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval.

    low, high: NaN where the number has no sampling error to speak of. n, sd: number of the samples behind it and their
    standard deviation, or that of their paired differences; None if unknown. log: of a ratio, whose interval is
    symmetric in its logarithm and whose ``sd`` is that of the logarithms.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None
    sd: float | None = None
    log: bool = False

    def _scaled(self, x: float) -> float:
        return math.log(x) if self.log else x

    def p_value(self, relation: str, bar: float) -> float:
        """One-sided p-value of the hypothesis that the number is not beyond the bar: below ``LEVEL`` just where the
        whole interval is. Student's t with n - 1 degrees of freedom."""
        from scipy.stats import t

        end = self.low if relation == ">" else self.high
        if not math.isfinite(self.value) or math.isnan(end):
            return 1.0
        if math.isinf(end) or self.log and end <= 0:
            return 0.5
        gap, side = self._scaled(self.value) - self._scaled(bar), self._scaled(self.value) - self._scaled(end)
        gap, side = (gap, side) if relation == ">" else (-gap, -side)
        if side <= 0:  # samples that are all equal
            return float(gap <= 0)
        freedom = self.n - 1 if self.n else math.inf
        return float(t.sf(t.ppf(1 - LEVEL, freedom) * gap / side, freedom))

    def samples_needed(self, relation: str, bar: float, level: float = 2 * LEVEL) -> int | None:
        """Samples with which a t-test at ``level`` finds this number beyond the bar in 80 % of cases, if the samples
        go on to vary as they do; None where that is unknown, or the number lies on the other side."""
        if self.sd is None or not math.isfinite(self.value) or self.log and self.value <= 0:
            return None
        gap = self._scaled(self.value) - self._scaled(bar)
        beyond = gap > 0 if relation == ">" else gap < 0
        return samples_needed(gap, self.sd, level=level) if beyond and math.isfinite(self.sd) else None


@dataclass(frozen=True)
class Part:
    """One condition of a rule: all its cells, which are names of measured numbers, lie on one side of a bar.

    source: where the bar comes from: the paper's words, a sign, an equality with a margin, or a bar of our own.
    exact: the number itself decides; otherwise its whole interval must lie beyond the bar, after Holm's correction for
    all such cells of the rule. constructed: algebra guarantees it, so that it counts neither for the verdict nor for
    the correction.
    """

    says: str
    cells: Sequence[str]
    relation: Literal["<", ">"]
    bar: float
    source: str
    exact: bool = False
    constructed: bool = False

    @property
    def text(self) -> str:
        """The condition in one line."""
        how = "the number" if self.exact else "the interval"
        built = ", by construction" * self.constructed
        return f"{self.says}: {how} of {', '.join(self.cells)} {self.relation} {self.bar:g} ({self.source}{built})"


@dataclass(frozen=True)
class Cell:
    """The outcome of one cell of a part. p: after Holm's correction; NaN where the number itself decides. holds: None
    where it was not measured. needed: samples for 80 % power, see ``Estimate.samples_needed``."""

    part: Part
    name: str
    estimate: Estimate | None
    p: float
    holds: bool | None
    needed: int | None


@dataclass(frozen=True)
class Rule:
    """What must hold for a claim. data: what it is measured on. controls: conditions without which the measurement
    itself is at fault. faces: the number of faces of each kind that are wanted; names of cells begin with a kind.
    """

    data: str
    parts: tuple[Part, ...]
    controls: tuple[Part, ...] = ()
    faces: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The rule in full, a line for each condition."""
        lines = [f"data: {self.data}"] if self.data else []
        lines += [f"faces: {', '.join(f'{n} {kind}' for kind, n in self.faces.items())}"] * bool(self.faces)
        lines += [part.text for part in self.parts] + [f"control: {part.text}" for part in self.controls]
        tested = sum(len(part.cells) for part in self._tested)
        return "\n".join(lines + [f"Holm's correction over {tested} cells"] * (tested > 1))

    @property
    def _tested(self) -> list[Part]:
        """The parts over whose cells Holm's correction goes."""
        return [part for part in self.parts if not part.exact and not part.constructed]

    @property
    def version(self) -> str:
        """Eight hexadecimal digits that change with the text, so that data of another rule is recognised."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]

    def compare(self, numbers: Mapping[str, Estimate]) -> list[Cell]:
        """All cells of parts and controls against their bars."""
        tested = [(part, name) for part in self._tested for name in part.cells if name in numbers]
        p_values = [numbers[name].p_value(part.relation, part.bar) for part, name in tested]
        adjusted = dict(zip(((id(part), name) for part, name in tested), holm(p_values), strict=True))
        level = 2 * LEVEL / max(1, len(tested))
        cells = []
        for part in (*self.parts, *self.controls):
            for name in part.cells:
                found = numbers.get(name)
                if found is None:
                    cells.append(Cell(part, name, None, math.nan, None, None))
                    continue
                p = adjusted.get((id(part), name), math.nan)
                if math.isnan(p) and not part.exact:  # of a control, or by construction
                    p = found.p_value(part.relation, part.bar)
                beyond = found.value > part.bar if part.relation == ">" else found.value < part.bar
                needed = None if part.exact else found.samples_needed(part.relation, part.bar, level)
                cells.append(Cell(part, name, found, p, beyond if part.exact else p < LEVEL, needed))
        return cells

    def judge(self, numbers: Mapping[str, Estimate], remark: str = "") -> tuple[str, str]:
        """Verdict and reason. "reproduced" if all parts hold, "partly reproduced" if some do or some were not measured,
        "by construction" if nothing but algebra is claimed, "not reproduced" if none holds or a control is at fault.
        """
        cells = self.compare(numbers)
        outcomes = [(part, [c.holds for c in cells if c.part is part]) for part in (*self.parts, *self.controls)]
        told = {"control at fault": [], "holds": [], "fails": [], "by construction": [], "not measured": []}
        for part, holds in outcomes:
            failed, missing = holds.count(False), holds.count(None)
            if part in self.controls or part.constructed:
                word = "control at fault" if failed else "by construction" if part.constructed else ""
            else:
                word = "fails" if failed else "not measured" if missing else "holds"
            word = "not measured" if missing and not failed else word
            if word:
                share = f" ({holds.count(True)} of {len(holds)})" if failed and len(holds) > 1 else ""
                told[word].append(part.says + share)
        lacking = self.lacking(numbers)
        reason = "; ".join(f"{word}: {', '.join(says)}" for word, says in (told | {"lacks": lacking}).items() if says)
        return _verdict(told, only_built=all(p.constructed for p in self.parts)), f"{reason}. {remark}".rstrip(". ")

    def lacking(self, numbers: Mapping[str, Estimate]) -> list[str]:
        """What the measurement lacks of the faces that the rule wants, e.g. "28 of 40 clean faces"."""
        missing = []
        for kind, wanted in self.faces.items():
            found = [
                (numbers[name].n or 0) if name in numbers else 0
                for part in self.parts for name in part.cells if name.startswith(f"{kind}_") and not part.exact
            ]  # fmt: skip
            if found and min(found) < wanted:
                missing.append(f"{wanted - min(found)} of {wanted} {kind} faces")
        return missing


def _verdict(told: Mapping[str, list[str]], *, only_built: bool) -> str:
    if told["control at fault"]:
        return "not reproduced"
    if only_built:
        return "by construction"
    if not told["holds"]:
        return "not reproduced" if told["fails"] else "not measured"
    return "partly reproduced" if told["fails"] or told["not measured"] else "reproduced"
