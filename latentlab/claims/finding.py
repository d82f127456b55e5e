"""The data types of the ledger: a claim, what was measured of it, and the verdict."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from latentlab.stylegan.generator import Generator

Value = float | int | str | None


@dataclass(frozen=True)
class Claim:
    """A paper's claim, the function that measures it and the rule that turns the numbers into a verdict.

    measure: (generator, full size or quick subset) -> ``Finding``. rule: ``Finding`` -> verdict and reason.
    """

    id: str
    paper: str
    statement: str
    paper_value: str
    measure: Callable[[Generator, bool], "Finding"]
    rule: Callable[["Finding"], tuple[str, str]]


@dataclass(frozen=True, repr=False)
class Finding:
    """The numbers measured for one claim, and the verdict of the claim's rule.

    measured: numbers by name. controls: the same quantities measured where the claim need not hold. intervals:
    95 % intervals [low, high] of those measured numbers and controls that are statistics of samples. settings:
    numbers of codes, images, axes. provenance, for a recorded finding: command, date, seconds, the generator's
    fingerprint, and the number of images that the generator was trained on.
    """

    measured: dict[str, float]
    intervals: dict[str, list[float]] = field(default_factory=dict)
    controls: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Value] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""
    provenance: dict[str, Value] = field(default_factory=dict)
    claim: Claim | None = None

    def __repr__(self) -> str:
        lines = {name: self.listed(name) for name in ("measured", "controls", "settings", "provenance")}
        rows = [f"  {name}: {line}" for name, line in lines.items() if line] + [f"  {self.verdict}: {self.reason}."]
        if self.claim:
            head = f"{self.claim.id}  {self.claim.statement} {self.claim.paper}: {self.claim.paper_value}"
            rows = [head, *rows]
        return "\n".join(textwrap.fill(row, 100, subsequent_indent=" " * 6) for row in rows)

    def listed(self, name: str = "measured") -> str:
        """One of the dictionaries as a line of text, numbers with their intervals."""
        parts = []
        for key, value in getattr(self, name).items():
            low_high = "[{:.3g}, {:.3g}]".format(*self.intervals[key]) if key in self.intervals else ""
            parts.append(f"{key} {value:.3g} {low_high}".rstrip() if isinstance(value, float) else f"{key} {value}")
        return ", ".join(parts)


def verdict(parts: Mapping[str, bool], checks: Mapping[str, bool] | None = None, remark: str = "") -> tuple[str, str]:
    """Verdict and reason from the parts of a claim: "reproduced" if all hold, "partly reproduced" if some do.

    checks: controls of the measurement itself; if one fails the verdict is "not reproduced", whatever holds.

    >>> verdict({"skewed in W": True, "symmetric in P": False})
    ('partly reproduced', 'holds: skewed in W; fails: symmetric in P')
    """
    faults = [name for name, passed in (checks or {}).items() if not passed]
    holds, fails = ([name for name, held in parts.items() if held == wanted] for wanted in (True, False))
    found = "not reproduced" if faults or not holds else "partly reproduced" if fails else "reproduced"
    told = {"control at fault": faults, "holds": holds, "fails": fails}
    reason = "; ".join(f"{word}: {', '.join(names)}" for word, names in told.items() if names)
    return found, f"{reason}. {remark}" if remark else reason
