"""The table of ways to edit: means with intervals, and paired differences to the shipped edits."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from latentlab.editing.edit import apply_edit
from latentlab.evaluation.edit_cells import (
    FACES,
    SAMPLES,
    SHIPPED,
    Cell,
    CellFile,
    Say,
    found_ways,
    measure_cells,
    place,
)
from latentlab.evaluation.edit_page import describe
from latentlab.evaluation.edits import AMOUNT, EditTask, own_samples
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

JUDGES = ("judges.attributes.safetensors", "judges.identity.safetensors")
KEYS = ["task", "way", "factor", "measure"]


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

    mean, low, high: over the pictures, with the 95 % interval (Student's t). n: pictures with a value. difference,
    difference_low, difference_high: to the way ``baseline``, over the ``pairs`` pictures where both have a value; NaN
    for the baseline itself. systematic and scatter of the leakage have no intervals. See ``measure_edit`` for the
    measures. A cell without an edit has no rows.
    """
    import pandas

    measured = {place(cell): _values(cell) for cell in cells if "values" in cell}
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


def _values(cell: Cell) -> dict[str, np.ndarray]:
    found = {name: np.array(values, dtype=float) for name, values in cell["values"].items()}
    if "floor" in found:
        found["leakage above floor"] = found["leakage"] - found["floor"]
    return found | {name: np.array([cell["change"].get(name, np.nan)]) for name in ("systematic", "scatter")}


def _summary(x: np.ndarray) -> dict[str, float]:
    known = int((~np.isnan(x)).sum())
    low, high = confidence_interval(x) if known > 1 else (float("nan"),) * 2
    return {"mean": float(nanmean(x)) if known else float("nan"), "low": low, "high": high, "n": known}
