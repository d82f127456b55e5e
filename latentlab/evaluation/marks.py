"""Marks of speed: bounds on rows of the timing tables, checked by ``latentlab benchmark --check``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Mark:
    """A bound on one row of a timing table: ``low`` < value < ``high``. per_core: ``low`` is for two cores and is
    halved on one."""

    table: str
    row: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    per_core: bool = False


# About half of what two quiet cores reach: a busy machine may still miss some of them, so no test asserts them.
MARKS = (
    Mark("speed", "renderer, 64 px", "images/s", low=150, per_core=True),
    Mark("speed", "training faces-64", "images/s", low=20, per_core=True),
    Mark("speed", "statistics, 1,000,000 codes", "s", high=60),
    Mark("speed", "statistics, memory", "MiB", high=1_000),
    Mark("speed", "ii2s, one face, 500 steps", "s", high=30),
    Mark("optimisers", "ii2s, every step timed", "times ii2s", low=0.3, high=3),
    Mark("optimisers", "ii2s, 16 together", "times ii2s", high=0.8),
    Mark("optimisers", "grouped convolutions", "times ii2s", low=1.1),
)


def check_marks(tables: Mapping[str, "pandas.DataFrame"], marks: Sequence[Mark] = MARKS) -> "pandas.DataFrame":
    """Compares timing tables, by name, with the marks on them: one row for each mark.

    Columns: table, row, expected, measured, verdict: "met", "missed" (also where the row is missing), or "unknown"
    where this machine cannot measure it (NaN).
    """
    import pandas

    rows = []
    for mark in marks:
        table = tables[mark.table]
        found = table.loc[table["what"] == mark.row, "value" if "value" in table else "relative"]
        measured = float(found.iloc[0]) if len(found) else None
        low = mark.low * (min(int(table["threads"].iloc[0]), 2) / 2 if mark.per_core else 1)
        met = measured is not None and low < measured < mark.high
        verdict = "met" if met else "unknown" if measured is not None and math.isnan(measured) else "missed"
        bounds = [f"> {low:g}"] * math.isfinite(low) + [f"< {mark.high:g}"] * math.isfinite(mark.high)
        rows.append((mark.table, mark.row, f"{', '.join(bounds)} {mark.unit}", measured, verdict))
    return pandas.DataFrame(rows, columns=["table", "row", "expected", "measured", "verdict"])
