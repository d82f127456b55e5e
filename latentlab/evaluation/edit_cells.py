"""Cells of the table of edits: one way for one factor, measured once and kept in a file with its origin.

The file holds a line of JSON for every cell, with the values of every picture, so that tables, intervals and paired
differences are made from it without measuring again, and a run that was interrupted goes on where it was.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab.editing.edit import Edit, State, apply_edit
from latentlab.editing.files import load_edit, pack_edit, save_edit
from latentlab.editing.shipped import edits_for
from latentlab.editing.sparse import MissingWeights
from latentlab.editing.ways import WAYS, Evidence, file_stem, find_edit
from latentlab.evaluation.edits import EditTask, Measured, grade_pictures, measure_edit
from latentlab.faces import MAIN_NAMES
from latentlab.spaces import fingerprint

VERSION = 1  # of how cells are measured: to be raised when that changes
FACES, SAMPLES = "inverted faces", "own samples"  # the tasks
SHIPPED, NO_EDIT, ORACLE = "shipped", "no edit", "oracle"  # the ways besides ``WAYS``

Find = Callable[[str], Edit]  # from a factor to its edit; KeyError or ValueError where there is none
Cell = dict[str, Any]
Draw = Callable[[str], Tensor]  # from a factor to pictures (N, 3, R, R)
Say = Callable[[str], object]


class FoundEdits:
    """The edits of one way, called with a factor, each found when it is first asked for and kept in a folder.

    The files are named as those of ``latentlab train edits``, whose folder can be given. ``ValueError``, every time,
    where the way has no edit of a factor.
    """

    def __init__(self, way: str, folder: Path, G: nn.Module, evidence: Callable[[], Evidence]) -> None:
        self.way, self.folder, self.G, self.evidence = way, folder, G, evidence

    def __call__(self, factor: str) -> Edit:
        stem = file_stem(self.way, factor)
        file, refusal = self.folder / f"{stem}.edit.safetensors", self.folder / f"{stem}.refused.txt"
        if refusal.is_file():
            raise ValueError(refusal.read_text())
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                save_edit(file, find_edit(self.evidence(), self.way, factor), self.G)
            except MissingWeights:  # they may be shipped some day: not kept
                raise
            except ValueError as error:
                refusal.write_text(str(error))
                raise
        return load_edit(file, self.G)


def found_ways(
    G: nn.Module, folder: Path, names: Sequence[str] = (), *, samples: int = 10_000, seed: int = 0
) -> dict[str, Find]:
    """The shipped edits, where there are some, and those of ``WAYS`` (or of the named ones), found when asked for."""
    known: list[Evidence] = []

    def evidence() -> Evidence:
        if not known:
            known.append(Evidence(G, n=samples, seed=seed))
        return known[0]

    if unknown := [name for name in names if name not in (SHIPPED, *WAYS)]:
        raise ValueError(f"way: expected one of {SHIPPED}, {', '.join(WAYS)}; got {unknown[0]!r}")
    found: dict[str, Find] = {}
    if SHIPPED in (names or (SHIPPED,)):
        try:
            found[SHIPPED] = edits_for(G).__getitem__
        except ValueError:
            if SHIPPED in names:
                raise
    return found | {way: FoundEdits(way, folder, G, evidence) for way in WAYS if way in (names or WAYS)}


class CellFile:
    """Cells in a file of JSON lines. A cell belongs to its ``key``; of several the last counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Cell]:
        """All cells, in the order of their first measurement, without a line that an interruption cut off."""
        found: dict[str, Cell] = {}
        for line in self.path.read_text().splitlines() if self.path.is_file() else []:
            try:
                cell = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[_name(cell["key"])] = cell
        return list(found.values())

    @cached_property
    def _names(self) -> set[str]:
        return {_name(cell["key"]) for cell in self.read()}

    def __contains__(self, key: dict[str, Any]) -> bool:
        return _name(key) in self._names

    def add(self, cell: Cell) -> None:
        """Writes a cell at the end of the file."""
        self._names.add(_name(cell["key"]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                file.write(b"" if file.read(1) == b"\n" else b"\n")  # behind a line that was cut off
            file.write(json.dumps(cell).encode() + b"\n")


def place(cell: Cell) -> tuple[str, str, str]:
    """The task, way and factor of a cell."""
    return tuple(cell["key"][name] for name in ("task", "way", "factor"))


def _name(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def measure_cells(
    label: str,
    task: EditTask,
    ways: Mapping[str, Find],
    file: CellFile,
    *,
    factors: Sequence[str] = MAIN_NAMES,
    settings: Mapping[str, Any] | None = None,
    oracle: Draw | None = None,
    say: Say = lambda line: None,
) -> list[Cell]:
    """Measures every way for every factor that is not in the file yet; returns all these cells.

    label: the name of the task. settings: what else a cell depends on, such as the method of the inversions; with other
    settings it is measured anew, and so it is for another edit, generator, number of pictures or ``VERSION``. A task
    with faces also has the way "no edit" and, given the pictures that the same method makes of the edited truth of a
    factor, "oracle". A way that has no edit of a factor (``KeyError`` or ``ValueError``) is recorded with its reason.
    """
    G = task.inversion.generator
    for factor in factors:
        task.column(factor)  # refuses what the judge does not read, which is no matter of the ways
    common = {"version": VERSION, "task": label, "n": len(task), "amount": task.amount} | dict(settings or {})
    common |= {"generator": fingerprint(G, "generator")}
    keys = []

    def add(way: str, factor: str, measure: Callable[[], Cell], mark: str = "") -> None:
        keys.append(common | {"way": way, "factor": factor, "edit": mark})
        if keys[-1] not in file:
            file.add({"key": keys[-1]} | measure())
            say(f"{label}: {way}, {factor}")

    for way, find in ways.items():
        for factor in factors:
            try:
                edit = find(factor)
            except (KeyError, ValueError) as error:
                refused = {"refused": str(error) if isinstance(error, ValueError) else "no edit of this factor"}
                add(way, factor, lambda: refused)  # noqa: B023 (called at once)
            else:
                add(way, factor, lambda: _cell(task, factor, edit), edit_fingerprint(edit, G))  # noqa: B023
    yardsticks: dict[str, Draw] = {NO_EDIT: lambda factor: task.inversion.image} | ({ORACLE: oracle} if oracle else {})
    for way, draw in (yardsticks if task.faces is not None else {}).items():
        for factor in factors:
            add(way, factor, lambda: _cell(task, factor, draw(factor)))  # noqa: B023
    known = {_name(cell["key"]): cell for cell in file.read()}
    return [known[_name(key)] for key in keys]


def _cell(task: EditTask, factor: str, edit: Edit | Tensor) -> Cell:
    """What is recorded of an edit, or of pictures that were edited by other means."""
    began = time.perf_counter()
    if isinstance(edit, Edit):
        found = measure_edit(task, edit, factor)
        about = {"source": edit.source, "space": edit.space, "unit": edit.unit, "std": edit.std}
    else:
        found, about = Measured(*grade_pictures(task, factor, edit)), {}
    change = found.change.double()
    change, others = change[~change.isnan().any(1)], torch.arange(change.shape[1]) != task.column(factor)
    leaks = {}
    if len(change) > 1:
        mean, std = change.mean(0).cpu(), change.std(0).cpu()
        leaks = {"mean": _listed(mean), "std": _listed(std), "systematic": float(mean[others].abs().mean()),
                 "scatter": float(std[others].mean())}  # fmt: skip
    made = {"latentlab": version("latentlab"), "torch": torch.__version__, "date": date.today().isoformat()}
    return {
        "values": {name: _listed(values) for name, values in found.values.items()},
        "change": leaks,
        "edit": {name: value for name, value in about.items() if value == value},  # without NaN
        "made": made | {"seconds": round(time.perf_counter() - began, 2)},
    }


def _listed(values: Tensor) -> list[float | None]:
    return [float(f"{v:.4g}") if v == v else None for v in values.tolist()]


def edit_fingerprint(edit: Edit, G: nn.Module) -> str:
    """12 hexadecimal digits of all that an edit is; of a kind that cannot be saved, of what it does to ``w_avg``."""
    try:
        tensors, metadata = pack_edit(edit, G)
        digest = hashlib.sha256(json.dumps(metadata["edit"], sort_keys=True, default=str).encode())
    except ValueError:
        after = apply_edit(edit, State(G.broadcast(G.w_avg[None])), torch.ones(1).to(G.w_avg), G)
        tensors = {f"{i}": t for i, t in enumerate([after.w_plus, *(after.styles or [])])}
        digest = hashlib.sha256(edit.source.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
