"""Runs that are not shipped, in claims: the tables of ``latentlab benchmark --runs``."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.runs import Bench
from latentlab.evaluation.encoders import STRENGTH
from latentlab.spaces import fingerprint

if TYPE_CHECKING:
    import pandas


def rows_of_runs(
    names: Iterable[str], kind: str, n: int, bench: Bench, what: str = "encoders"
) -> dict[str, "pandas.DataFrame"]:
    """The rows of the first ``n`` faces of a kind, by name of the run; ``ValueError`` for a run that is not in the
    table, and for the table of another generator.

    what: the name of the table, which ``latentlab benchmark --only`` what writes.
    """
    table, found = _table(bench, what), {}
    for name in names:
        rows = table[(table["method"] == name) & (table["faces"] == kind)].head(n)
        if rows.empty:
            known = ", ".join(table["method"].unique())
            raise ValueError(f"{bench.tables / what}.csv: expected a run named {name}, got {known}; train it, and "
                             "measure the folder of all runs again")  # fmt: skip
        found[name] = rows
    return found


def require_one(rows: Mapping[str, "pandas.DataFrame"], name: str, value: int | None = None) -> None:
    """Raises ``ValueError`` where runs that a rule takes to be trained alike differ in a column, "images_seen" (of one
    budget) or "seed", or differ from ``value``. Of older tables only the runs that have a number there are compared.

    rows: those of ``rows_of_runs``.
    """
    found = {run: int(x) for run, part in rows.items() if name in part for x in part[name].dropna().unique()}
    if len({*found.values()} | ({value} if value is not None else set())) > 1:
        wanted = "one number for the runs that the rule compares" if value is None else f"{value}"
        told = ", ".join(f"{x} of {run}" for run, x in found.items())
        raise ValueError(f"{name}: expected {wanted}, got {told}; train these runs alike, and measure the folder of "
                         "all runs again")  # fmt: skip


def is_measured(names: Iterable[str], bench: Bench, what: str = "encoders") -> bool:
    """Whether the table, see ``rows_of_runs``, is of the generator and has rows of all these runs."""
    if not (path := bench.tables / f"{what}.csv").is_file():
        return False
    table = _read(path)
    return _others(table, bench) == [] and set(names) <= set(table["method"])


def _table(bench: Bench, what: str) -> "pandas.DataFrame":
    if not (path := bench.tables / f"{what}.csv").is_file():
        raise ValueError(f"{path}: expected the table of `latentlab benchmark --only {what} --runs FOLDER`, got no "
                         "such file")  # fmt: skip
    table = _read(path)
    if others := _others(table, bench):
        raise ValueError(f"{path}: expected runs of generator {fingerprint(bench.G, 'generator')}, got "
                         f"{', '.join(others)}; measure its own with `latentlab benchmark --only {what} --runs FOLDER "
                         "--out TABLES`, and give `latentlab claims --tables TABLES`")  # fmt: skip
    return table


def _read(path: Path) -> "pandas.DataFrame":
    import pandas

    return pandas.read_csv(path, dtype={"generator": str})  # a fingerprint may have decimal digits only


def _others(table: "pandas.DataFrame", bench: Bench) -> list[str]:
    """Fingerprints of other generators than the bench's in the table."""
    if "generator" not in table:
        return ["a table without the column generator"]
    return sorted(set(table["generator"].astype(str)) - {fingerprint(bench.G, "generator")})


def column(rows: "pandas.DataFrame", name: str) -> Float[Tensor, " n"]:
    """A column of such rows, also by what stands before the brackets in its name, e.g. "perceptual"."""
    chosen = [c for c in rows.columns if c == name or c.startswith(f"{name} (")]
    if len(chosen) != 1:
        raise ValueError(f"{name}: expected one column of this name in the table of runs, got "
                         f"{', '.join(chosen) or 'none'}; measure the runs again")  # fmt: skip
    return torch.tensor(rows[chosen[0]].to_numpy(float))


def of_edits(rows: "pandas.DataFrame", factors: Iterable[str], what: str) -> Float[Tensor, "n k"]:
    """A measure of the edits of each face, e.g. "gain", (N, K); NaN where no strength matches.

    Two runs are compared by the mean of their differences over the factors, not by the difference of their means: each
    of those would leave out the edits that its own run cannot make, which are the difficult ones.
    """
    return torch.stack([column(rows, f"{factor}{STRENGTH:+g} {what}") for factor in factors], 1)


def edit_errors(rows: "pandas.DataFrame", factors: Iterable[str]) -> Float[Tensor, "n k"]:
    """Total errors of the edits of each face, see ``of_edits``."""
    return of_edits(rows, factors, "error")


def consistencies(rows: "pandas.DataFrame", factors: Iterable[str]) -> Float[Tensor, "n k"]:
    """Latent editing consistency of each face and factor, (N, K)."""
    return torch.stack([column(rows, f"lec {factor}") for factor in factors], 1)
