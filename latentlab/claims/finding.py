"""What a claim is, what was found of it, and how numbers become a verdict."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from latentlab.seeds import stream
from latentlab.stylegan.generator import Generator

Value = float | int | str | None


@dataclass(frozen=True)
class Claim:
    """A paper's claim; how it is measured, at full size or on a quick subset; and the rule that judges the numbers."""

    id: str
    paper: str
    statement: str
    paper_value: str
    measure: Callable[[Generator, bool], "Finding"]
    rule: Callable[["Finding"], tuple[str, str]]


@dataclass(frozen=True, repr=False)
class Finding:
    """The numbers of one claim and what its rule makes of them.

    measured: by name. intervals: [low, high], 95 %, of those that samples gave, controls included. controls: the
    same where the claim need not hold. settings: numbers of codes, images, axes. provenance: of a recorded finding
    command, date, seconds, the generator's fingerprint and the images that it had seen.
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
        """One of the dictionaries in a line, numbers with their intervals."""
        parts = []
        for key, value in getattr(self, name).items():
            low_high = "[{:.3g}, {:.3g}]".format(*self.intervals[key]) if key in self.intervals else ""
            parts.append(f"{key} {value:.3g} {low_high}".rstrip() if isinstance(value, float) else f"{key} {value}")
        return ", ".join(parts)


def bootstrap(values: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean) -> list[float]:
    """95 % interval of a statistic of samples (N,), by 2000 draws of N with replacement; equal N are drawn alike."""
    picks = torch.randint(len(values), (2000, len(values)), generator=stream(0, "bootstrap"))
    return np.quantile(statistic(values[picks], axis=1), [0.025, 0.975]).tolist()


def verdict(parts: Mapping[str, bool], checks: Mapping[str, bool] | None = None, remark: str = "") -> tuple[str, str]:
    """Verdict and reason: of all parts that hold, of some, of none. A check that fails, a control by which the
    measurement itself is at fault, leaves nothing reproduced.

    >>> verdict({"skewed in W": True, "symmetric in P": False})
    ('partly reproduced', 'holds: skewed in W; fails: symmetric in P')
    """
    faults = [name for name, passed in (checks or {}).items() if not passed]
    holds, fails = ([name for name, held in parts.items() if held == wanted] for wanted in (True, False))
    found = "not reproduced" if faults or not holds else "partly reproduced" if fails else "reproduced"
    told = {"control at fault": faults, "holds": holds, "fails": fails}
    reason = "; ".join(f"{word}: {', '.join(names)}" for word, names in told.items() if names)
    return found, f"{reason}. {remark}" if remark else reason
