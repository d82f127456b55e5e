"""Encoders that are not shipped, in claims: the table of ``latentlab benchmark --only encoders --runs``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.evaluation.encoders import STRENGTH

if TYPE_CHECKING:
    import pandas

RESULTS = Path(__file__).parents[2] / "docs" / "encoders.csv"


def rows_of_runs(names: Iterable[str], kind: str, n: int) -> dict[str, "pandas.DataFrame"]:
    """The rows of the first ``n`` faces of a kind, by name of the run; ``ValueError`` for a run that is not in it."""
    table, found = _table(), {}
    for name in names:
        rows = table[(table["method"] == name) & (table["faces"] == kind)].head(n)
        if rows.empty:
            known = ", ".join(table["method"].unique())
            raise ValueError(f"{RESULTS}: expected a run named {name}, got {known}; train it, and measure the folder "
                             "of all runs again")  # fmt: skip
        found[name] = rows
    return found


def is_measured(names: Iterable[str]) -> bool:
    """Whether the table has rows of all these runs."""
    return RESULTS.is_file() and set(names) <= set(_table()["method"])


def _table() -> "pandas.DataFrame":
    import pandas

    if not RESULTS.is_file():
        raise ValueError(f"{RESULTS}: expected the table of `latentlab benchmark --only encoders --runs FOLDER`, got "
                         "no such file")  # fmt: skip
    return pandas.read_csv(RESULTS)


def column(rows: "pandas.DataFrame", name: str) -> Float[Tensor, " n"]:
    """A column of such rows, also by what stands before the brackets in its name, e.g. "perceptual"."""
    (chosen,) = (c for c in rows.columns if c == name or c.startswith(f"{name} ("))
    return torch.tensor(rows[chosen].to_numpy(float))


def edit_errors(rows: "pandas.DataFrame", factors: Iterable[str]) -> Float[Tensor, "n k"]:
    """Total errors of the edits of each face, (N, K); NaN where no strength matches."""
    return torch.stack([column(rows, f"{factor}{STRENGTH:+g} error") for factor in factors], 1)


def consistencies(rows: "pandas.DataFrame", factors: Iterable[str]) -> Float[Tensor, "n k"]:
    """Latent editing consistency of each face and factor, (N, K)."""
    return torch.stack([column(rows, f"lec {factor}") for factor in factors], 1)
