"""The table of ways to edit: means with intervals, paired differences to the shipped edits, and a page of them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from latentlab.editing.edit import apply_edit
from latentlab.evaluation.edit_cells import NO_EDIT, ORACLE, SHIPPED, Cell, CellFile, Say, found_ways, measure_cells
from latentlab.evaluation.edits import AMOUNT, LIMIT, EditTask, own_samples
from latentlab.evaluation.intervals import confidence_interval, nanmean
from latentlab.evaluation.inversions import load_judges
from latentlab.evaluation.tables import accepted
from latentlab.faces import MAIN_NAMES, real_set
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.weights import read_manifest
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

FACES, SAMPLES = "inverted faces", "own samples"
JUDGES = ("judges.attributes.safetensors", "judges.identity.safetensors")
KEYS = ["task", "way", "factor", "measure"]

# What the project asks of the shipped edits on inverted faces: measure -> (1: at least, -1: at most; value).
GOALS = {"gain": (1, 0.9), "leakage above floor": (-1, 0.1), "identity": (1, 0.9), "error": (-1, 1.0)}
# The tables of the page: measure -> heading and what it says.
HEADINGS = {
    "matched": ("Matched", "share of the usable pictures on which some strength reaches what was asked"),
    "gain": ("Gain", "share of the true change that happened; 1 is all of it"),
    "error": ("Total error", "distance from the true change, relative to its size; no edit has 1, the truth 0"),
    "leakage above floor": ("Leakage above its floor", "mean absolute change of the other factors in standard "
                            "deviations, less what the judge reads when the truth itself is edited"),
    "leakage": ("Leakage", "mean absolute change of the other factors in standard deviations"),
    "leakage max": ("Largest leak", "absolute change of the factor that changes most, in standard deviations"),
    "systematic": ("Systematic part of the leakage", "mean over the other factors of the absolute mean change"),
    "scatter": ("Scatter of the leakage", "mean over the other factors of the standard deviation of the change over "
                "pictures, which no straight line can take away"),
    "identity": ("Identity", "similarity of the picture before and after; 1 is the same person"),
    "strength": ("Strength", "in units of what should do by the edit's own account; 1 is well calibrated"),
}  # fmt: skip
SHOWN = {
    FACES: ("matched", "gain", "error", "leakage above floor", "leakage max", "identity", "strength"),
    SAMPLES: ("matched", "leakage", "leakage max", "systematic", "scatter", "identity", "strength"),
}
COMPARED = {FACES: ("error", "gain", "leakage above floor", "identity"), SAMPLES: ("leakage", "identity")}


def measure_edits(
    out: Path,
    *,
    generator: str = "faces-64",
    method: str = "ii2s",
    steps: int = 300,
    ways: Sequence[str] = (),
    factors: Sequence[str] = (),
    n: int = 40,
    found: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    say: Say = lambda line: None,
) -> "pandas.DataFrame":
    """Ways to edit beside each other, on ``n`` clean faces of the real set and on ``n`` samples; see ``tabulate``.

    method: inverts the faces and, for the oracle, their edited truths, with ``steps`` if it takes steps. ways, factors:
    all and the main ones unless named. found: folder of edits by ``latentlab train edits``; those that are not there
    are found and put there, which takes minutes each for some ways. out: folder of ``edits.jsonl``, to which each cell
    is added when it is measured; of inversions; and of the page ``edits.md``. What is there is not made again.
    """
    G, judges = load(generator, device=device), load_judges(device=device)
    chosen = found_ways(G, found or out / "edits", ways, seed=seed)
    knobs, faces = accepted(method, steps=steps, seed=seed), real_set(G.resolution).clean
    if not 2 <= n <= len(faces):
        raise ValueError(f"n: expected 2 to {len(faces)}, the clean faces of the real set, got {n}")
    faces = faces[:n]
    make = partial(_inversion, out / "inversions", G, method, knobs)
    manifest = read_manifest()
    settings = {"seed": seed, "judges": [manifest[name]["sha256"][:12] for name in JUDGES]}
    known = {"factors": factors or MAIN_NAMES, "file": CellFile(out / "edits.jsonl"), "say": say}
    samples = EditTask(own_samples(G, n, seed=seed), judges)
    cells = measure_cells(SAMPLES, samples, chosen, settings=settings, **known)
    task = EditTask(make(f"{n} faces", faces.images), judges, faces)

    def oracle(factor: str) -> Tensor:
        return make(f"{n} {factor} {AMOUNT:g}", task.request(factor).truth.images).image

    settings |= {"method": method} | knobs
    cells = measure_cells(FACES, task, chosen, settings=settings, oracle=oracle, **known) + cells
    table = tabulate(cells)
    (out / "edits.md").write_text(describe(table, cells))
    return table


def _inversion(
    folder: Path, G: nn.Module, method: str, knobs: Mapping[str, Any], what: str, images: Tensor
) -> Inversion:
    """The inversion of these pictures, kept in a file for the next run if its method edits in the default way."""
    about = " ".join([method, *(f"{k} {v}" for k, v in knobs.items()), what])
    path = folder / f"{about.replace(' ', '-')}.safetensors"
    if path.is_file():
        try:
            return Inversion.load(path, G)
        except ValueError:  # of another generator
            path.unlink()
    with torch.enable_grad():
        found = invert(images.to(G.w_avg.device), G, method, **knobs)
    if found.interrupted:
        raise KeyboardInterrupt
    if found.editor is apply_edit:
        folder.mkdir(parents=True, exist_ok=True)
        found.save(path)
    return found


def tabulate(cells: Sequence[Cell], baseline: str = SHIPPED) -> "pandas.DataFrame":
    """One row for each task, way, factor and measure of the cells.

    mean, low, high: over the pictures, with the 95 % interval (BCa bootstrap). n: pictures with a value. difference,
    difference_low, difference_high: to the way ``baseline``, over the ``pairs`` pictures where both have a value; NaN
    for the baseline itself. systematic and scatter of the leakage have no intervals. See ``measure_edit`` for the
    measures. A cell without an edit has no rows.
    """
    import pandas

    measured = {_place(cell): _values(cell) for cell in cells if "values" in cell}
    rows = []
    for (task, way, factor), values in measured.items():
        other = measured.get((task, baseline, factor), {}) if way != baseline else {}
        for measure, x in values.items():
            row = {"task": task, "way": way, "factor": factor, "measure": measure} | _summary(x)
            if measure in other and len(x) > 1:
                paired = _summary(x - other[measure])
                row |= {"difference": paired["mean"], "difference_low": paired["low"],
                        "difference_high": paired["high"], "pairs": paired["n"]}  # fmt: skip
            rows.append(row)
    columns = [*KEYS, "mean", "low", "high", "n", "difference", "difference_low", "difference_high", "pairs"]
    return pandas.DataFrame(rows, columns=columns)


def _place(cell: Cell) -> tuple[str, str, str]:
    return tuple(cell["key"][name] for name in KEYS[:3])


def _values(cell: Cell) -> dict[str, np.ndarray]:
    found = {name: np.array(values, dtype=float) for name, values in cell["values"].items()}
    if "floor" in found:
        found["leakage above floor"] = found["leakage"] - found["floor"]
    return found | {name: np.array([cell["change"].get(name, np.nan)]) for name in ("systematic", "scatter")}


def _summary(x: np.ndarray) -> dict[str, float]:
    known = int((~np.isnan(x)).sum())
    low, high = confidence_interval(x, method="bca") if known > 1 else (float("nan"),) * 2
    return {"mean": float(nanmean(x)) if known else float("nan"), "low": low, "high": high, "n": known}


def describe(table: "pandas.DataFrame", cells: Sequence[Cell], baseline: str = SHIPPED) -> str:
    """The table as a page of Markdown, with what it was made from."""
    parts = ["# Edits, measured", _introduction()]
    for task in (label for label in (FACES, SAMPLES) if label in set(table["task"])):
        rows = table[table["task"] == task]
        parts.append(f"## {task.capitalize()}\n\n{_about(next(c for c in cells if _place(c)[0] == task))}")
        parts += [_grid(rows, measure) for measure in SHOWN[task] if measure in set(rows["measure"])]
        if baseline in set(rows["way"]):
            parts += [_goals(rows, baseline)] if task == FACES else []
            parts += [_differences(rows, measure, baseline) for measure in COMPARED[task]]
    refused = [(*_place(cell)[1:], cell["refused"]) for cell in cells if "refused" in cell]
    if refused:
        lines = dict.fromkeys(f"- {way}, {factor}: {why}" for way, factor, why in refused)
        parts.append("## No edit\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _introduction() -> str:
    return (
        "Written by `latentlab benchmark --only edits`; `edits.jsonl` holds the values of every picture, `edits.csv` "
        "all measures with intervals.\n\n"
        f"Each picture is asked to change one factor by {AMOUNT:g} standard deviations of the face world, upwards and "
        "downwards in turn where it has room for both; glasses are switched. Every edit is measured at matched "
        f"strength: on each picture the strength, up to {LIMIT} times the edit's own, at which the attribute judge "
        "sees the factor move as far as in the edited truth, or is nearly as sure of the switch. Standard deviations "
        "are those of the factors over the face world. Means are over matched pictures; the column \"mean\" is over "
        "the factors. Numbers in brackets are 95 % intervals over the pictures."
    )


def _about(cell: Cell) -> str:
    told = {k: v for k, v in cell["key"].items() if k not in ("task", "way", "factor", "edit")}
    made = cell.get("made", {})
    told |= {k: made[k] for k in ("latentlab", "torch", "date") if k in made}
    return ", ".join(f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in told.items()) + "."


def _grid(rows: "pandas.DataFrame", measure: str) -> str:
    """Ways by factors, means alone."""
    some = rows[rows["measure"] == measure]
    title, says = HEADINGS[measure]
    wide = some.pivot(index="way", columns="factor", values="mean")
    wide = wide.reindex(index=dict.fromkeys(some["way"]), columns=dict.fromkeys(some["factor"]))
    wide = wide.dropna(how="all")
    wide["mean"] = wide.mean(axis=1)
    return f"### {title}\n\n{says[0].upper()}{says[1:]}.\n\n{_markdown(wide.map(_number))}"


def _differences(rows: "pandas.DataFrame", measure: str, baseline: str) -> str:
    some = rows[(rows["measure"] == measure) & ~rows["way"].isin((baseline, ORACLE, NO_EDIT))]
    cells = {(r.way, r.factor): _interval(r.difference, r.difference_low, r.difference_high) for r in some.itertuples()}
    import pandas

    wide = pandas.Series(cells, dtype=object).unstack() if cells else pandas.DataFrame()
    wide = wide.reindex(index=dict.fromkeys(some["way"]), columns=dict.fromkeys(some["factor"])).fillna("")
    return f"### {HEADINGS[measure][0]}: difference to {baseline}, paired\n\n{_markdown(wide)}"


def _goals(rows: "pandas.DataFrame", baseline: str) -> str:
    import pandas

    some = rows[(rows["way"] == baseline) & rows["measure"].isin(GOALS)]
    found: dict[str, dict[str, str]] = {}
    for r in some.itertuples():
        sign, goal = GOALS[r.measure]
        text = f"{_interval(r.mean, r.low, r.high)}{'' if sign * (r.mean - goal) >= 0 else ' missed'}"
        found.setdefault(r.factor, {})[f"{r.measure} {'>=' if sign > 0 else '<='} {goal:g}"] = text
    return f"### Goals of the {baseline} edits\n\n{_markdown(pandas.DataFrame(found).T)}"


def _markdown(wide: "pandas.DataFrame") -> str:
    head = ["", *map(str, wide.columns)]
    body = ([name, *row] for name, row in zip(wide.index, wide.values, strict=True))
    lines = [head, ["---", *["---:"] * len(wide.columns)], *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.2f}"


def _interval(mean: float, low: float, high: float) -> str:
    return "" if mean != mean else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
