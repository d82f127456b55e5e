"""Rules for the notebooks as source files: no outputs, short cells, claims as asserts. (nbval runs them.)"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
SOLUTIONS = sorted(FOLDER.glob("solutions/*.ipynb"))
UNWANTED = r"^\s*[!%]\s*pip|sys\.path|os\.chdir|\.cuda\(|/home/|/root/|[A-Z]:\\"
HEAD = {  # what the first cell says, so that a reader can decide to go on
    "a title": r"\A# ",
    "a question": r"\?",
    "the minutes it takes": r"\d\s*min",
}
PAPER = {"its paper": r"(?i)arxiv|paper"}


def code_of(notebook: dict) -> list[str]:
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def faults_of_any(notebook: dict) -> list[str]:
    """The rules for lessons and solutions alike."""
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    faults = [] if notebook["metadata"].get("kernelspec", {}).get("name") == "python3" else ["kernel is not python3"]
    if any(cell["outputs"] or cell["execution_count"] for cell in code):
        faults.append("has outputs or execution counts")
    lines = [len(cell["source"].splitlines()) for cell in code]
    faults += [f"code cell {i} has {n} lines, over 30" for i, n in enumerate(lines) if n > 30]
    run = [cell["source"] for cell in code if "nbval-skip" not in cell["metadata"].get("tags", [])]
    if not any(re.search(r"\bassert(_\w+)?\b", source) for source in run):
        faults.append("asserts nothing that CI runs")
    found = [m.group().strip() for source in code_of(notebook) for m in re.finditer(UNWANTED, source, re.M)]
    return faults + [f"has {text}" for text in found]


def faults_of_lesson(notebook: dict, name: str) -> list[str]:
    first = name.startswith("00")  # five minutes, and no paper of its own
    count, lines = len(notebook["cells"]), [len(source.splitlines()) for source in code_of(notebook)]
    low = 15 if first else 30
    faults = [] if low <= count <= 60 else [f"has {count} cells, not {low} to 60"]
    if lines and median(lines) > 8:
        faults.append(f"its median code cell has {median(lines)} lines, over 8")
    head = notebook["cells"][0] if count else {"cell_type": "none", "source": ""}
    if head["cell_type"] != "markdown":
        return [*faults, "does not begin with text"]
    wanted = HEAD if first else HEAD | PAPER
    missing = [what for what, how in wanted.items() if not re.search(how, head["source"])]
    return faults + [f"does not begin with {what}" for what in missing]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(FOLDER).with_suffix("")) for path in paths]


def load(path: Path) -> dict:
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", LESSONS + SOLUTIONS, ids=names(LESSONS + SOLUTIONS))
def test_notebook_is_a_source(path: Path):
    faults = faults_of_any(load(path))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", LESSONS, ids=names(LESSONS))
def test_lesson_has_its_form(path: Path):
    faults = faults_of_lesson(load(path), path.stem)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", SOLUTIONS, ids=names(SOLUTIONS))
def test_solution_belongs_to_a_lesson(path: Path):
    assert path.stem[:2] in {lesson.stem[:2] for lesson in LESSONS}


def lesson(code: str = "assert True", head: str = "# T\nWhy? Paper: arXiv 2012.09036. 9 min", cells: int = 30) -> dict:
    new = nbformat.v4
    first, last = new.new_markdown_cell(head), new.new_code_cell(code)
    between = [new.new_code_cell(f"x = {i}") for i in range(cells - 2)]
    kernel = {"name": "python3", "display_name": "Python 3"}
    return new.new_notebook(cells=[first, *between, last], metadata={"kernelspec": kernel})


def run_last_cell(notebook: dict) -> None:
    notebook["cells"][-1]["execution_count"] = 1


def skip_last_cell(notebook: dict) -> None:
    notebook["cells"][-1]["metadata"]["tags"] = ["nbval-skip"]


def rename_kernel(notebook: dict) -> None:
    notebook["metadata"]["kernelspec"]["name"] = "conda-env-me"


def lengthen_cells(notebook: dict) -> None:
    for cell in notebook["cells"][1:-1]:
        cell["source"] = "x = 1\n" * 9


def leave_alone(notebook: dict) -> None: ...


@pytest.mark.parametrize(
    "notebook, harm, culprit",
    [
        (lesson(), run_last_cell, "execution counts"),
        (lesson(), rename_kernel, "not python3"),
        (lesson(), skip_last_cell, "asserts nothing"),
        (lesson(), lengthen_cells, "median"),
        (lesson("assert True\n" + "x = 1\n" * 30), leave_alone, "over 30"),
        (lesson("assert True\n!pip install x"), leave_alone, "has !pip"),
        (lesson(cells=29), leave_alone, "29 cells"),
        (lesson(cells=61), leave_alone, "61 cells"),
        (lesson(head="# T\nWhy? 9 min"), leave_alone, "its paper"),
        (lesson(head="# T\nPaper, 9 min"), leave_alone, "a question"),
        (lesson(head="# T\nWhy? Paper"), leave_alone, "the minutes"),
    ],
)
def test_a_seeded_fault_is_found(notebook: dict, harm: Callable[[dict], None], culprit: str):
    harm(notebook)
    faults = faults_of_any(notebook) + faults_of_lesson(notebook, "01_x")
    assert len(faults) == 1 and culprit in faults[0], faults


def test_a_sound_lesson_has_no_faults():
    assert faults_of_any(lesson()) + faults_of_lesson(lesson(), "01_x") == []
    short = lesson(head="# T\nWhy? 9 min", cells=15)
    assert faults_of_lesson(short, "00_start_here") == []


# The kernel replies at once, and its message that the cell is done comes 6 s later, as on a busy machine.
LATE = """
import threading
kernel = get_ipython().kernel
publish, this_cell = kernel._publish_status, kernel.get_parent("shell")
def publish_late(status, channel, parent=None):
    threading.Timer(6, publish, (status, channel, this_cell)).start()
kernel._publish_status = publish_late
"""


@pytest.mark.slow  # nbval's own limit is 5 s, and the test has to exceed it
def test_late_output_is_waited_for(tmp_path: Path):
    """conftest.py beside notebooks/ and tests/ raises nbval's limit; a copy of it does so for another notebook."""
    notebook = lesson(LATE, cells=2)
    nbformat.write(notebook, tmp_path / "late.ipynb")
    shutil.copy(FOLDER.parent / "conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
