"""The form of a rule: what must hold for a claim, against which bar, and where the bar comes from."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from latentlab.evaluation.intervals import holm, samples_needed

LEVEL = 0.025  # of a one-sided comparison, so that a 95 % interval on one side of the bar decides it
# Where bars come from. A bar of our own is called so, with its reason.
SIGN = "sign"
OWN = "our own bar"

Outcome = Literal["holds", "undecided", "fails", "not measured"]
# In the order of a reason
WORDS = ("control that fails", "control undecided", "holds", "undecided", "fails", "by construction", "not measured")


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

    def is_opposite(self, relation: str, bar: float) -> bool:
        """Whether the whole interval lies on the other side of the bar; False without an interval."""
        return bool(self.high < bar if relation == ">" else self.low > bar)

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
    """The outcome of one cell of a part.

    p: one-sided, after Holm's correction (that of controls and of what is by construction without it); NaN where the
    number itself decides. outcome: "holds" where p is below ``LEVEL``, "fails" where the whole 95 % interval lies on
    the other side of the bar, else "undecided"; where the number itself decides, "holds" or "fails" by its side.
    needed: samples for 80 % power, see ``Estimate.samples_needed``.
    """

    part: Part
    name: str
    estimate: Estimate | None
    p: float
    outcome: Outcome
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
                    cells.append(Cell(part, name, None, math.nan, "not measured", None))
                    continue
                p = adjusted.get((id(part), name), math.nan)
                if math.isnan(p) and not part.exact:  # of a control, or by construction
                    p = found.p_value(part.relation, part.bar)
                needed = None if part.exact else found.samples_needed(part.relation, part.bar, level)
                cells.append(Cell(part, name, found, p, _outcome(part, found, p), needed))
        return cells

    def summarize(self, numbers: Mapping[str, Estimate]) -> dict[str, list[str]]:
        """What the parts and controls say, by what came of them, and under "lacks" the faces that are missing.

        A part "holds" if all its cells hold, "fails" if one fails, is "undecided" if one is, and else "not measured".
        Controls, and parts by construction, are told as "control that fails" or "control undecided"; controls that hold
        are not told. Where the cells of a part differ, their outcomes are counted in brackets.
        """
        cells, told = self.compare(numbers), {word: [] for word in WORDS}
        for part in (*self.parts, *self.controls):
            count = Counter(cell.outcome for cell in cells if cell.part is part)
            word = next(word for word in ("fails", "undecided", "not measured", "holds") if count[word])
            if part in self.controls or part.constructed:
                word = {"fails": "control that fails", "undecided": "control undecided"}.get(word, word)
                word = "by construction" if word == "holds" and part.constructed else word
            if word != "holds" or part not in self.controls:
                told[word].append(part.says + _counted(count))
        return {word: says for word, says in (told | {"lacks": self.lacking(numbers)}).items() if says}

    def judge(self, numbers: Mapping[str, Estimate], remark: str = "") -> tuple[str, str]:
        """Verdict and reason. "reproduced" if all parts hold, "partly reproduced" if some do, "by construction" if
        nothing but algebra is claimed, "not reproduced" if none holds or a control does not.
        """
        told = self.summarize(numbers)
        reason = "; ".join(f"{word}: {', '.join(says)}" for word, says in told.items())
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


def _outcome(part: Part, found: Estimate, p: float) -> Outcome:
    if math.isnan(found.value):
        return "undecided"
    if part.exact:
        return "holds" if (found.value > part.bar if part.relation == ">" else found.value < part.bar) else "fails"
    return "holds" if p < LEVEL else "fails" if found.is_opposite(part.relation, part.bar) else "undecided"


def _counted(count: Mapping[str, int]) -> str:
    """The outcomes of a part's cells where they differ, e.g. " (5 hold, 1 fails)"."""
    if len(count) < 2:
        return ""
    words = ("holds", "undecided", "fails", "not measured")
    each = [f"{count[word]} {word if count[word] == 1 else word.removesuffix('s')}" for word in words if count[word]]
    return f" ({', '.join(each)})"


def _verdict(told: Mapping[str, list[str]], *, only_built: bool) -> str:
    if "control that fails" in told or "control undecided" in told:
        return "not reproduced"
    if only_built:
        return "by construction"
    not_held = "fails" in told or "undecided" in told
    if "holds" not in told:
        return "not reproduced" if not_held else "not measured"
    return "partly reproduced" if not_held or "not measured" in told else "reproduced"
