"""Marks of speed: which values meet them, and the command that checks them."""

from typing import Any

import pandas
import pytest

from latentlab.cli import main
from latentlab.evaluation import timing
from latentlab.evaluation.marks import MARKS, Mark, check_marks

GOOD = {
    "renderer, 64 px": 1_000.0, "training faces-64": 70.0, "statistics, 1,000,000 codes": 5.0,
    "statistics, memory": 48.0, "ii2s, one face, 500 steps": 8.0,
    "ii2s, every step timed": 1.0, "ii2s, 16 together": 0.5, "grouped convolutions": 1.3,
}  # fmt: skip


def tables(threads: int = 2, **changed: float) -> dict[str, pandas.DataFrame]:
    made = {}
    for name, column in (("speed", "value"), ("optimisers", "relative")):
        rows = [(m.row, (GOOD | changed)[m.row]) for m in MARKS if m.table == name and m.row in GOOD]
        made[name] = pandas.DataFrame(rows, columns=["what", column]).assign(threads=threads)
    return made


def test_good_numbers_meet_all_marks():
    checked = check_marks(tables())
    assert list(checked["row"]) == [mark.row for mark in MARKS] == list(GOOD)
    assert set(checked["verdict"]) == {"met"}
    assert checked["expected"][0] == "> 150 images/s" and checked["expected"][5] == "> 0.3, < 3 times ii2s"
    assert checked["measured"].tolist() == list(GOOD.values())


@pytest.mark.parametrize(
    ("row", "value"),
    [("renderer, 64 px", 149.0), ("statistics, 1,000,000 codes", 61.0), ("ii2s, every step timed", 0.2),
     ("ii2s, every step timed", 4.0), ("grouped convolutions", 1.0)],
)  # fmt: skip
def test_a_number_beyond_its_mark_is_missed(row: str, value: float):
    checked = check_marks(tables(**{row: value})).set_index("row")["verdict"]
    assert checked[row] == "missed" and (checked.drop(row) == "met").all()


def test_marks_of_two_cores_are_halved_on_one():
    for threads, verdict in ((1, "met"), (2, "missed"), (16, "missed")):
        checked = check_marks(tables(threads, **{"renderer, 64 px": 80.0})).set_index("row")["verdict"]
        assert checked["renderer, 64 px"] == verdict


def test_missing_rows_are_missed_and_unmeasurable_ones_unknown():
    checked = check_marks(tables(**{"statistics, memory": float("nan")})).set_index("row")["verdict"]
    assert checked["statistics, memory"] == "unknown" and (checked.drop("statistics, memory") == "met").all()
    assert check_marks(tables(), [Mark("speed", "no such row", "s", high=1)])["verdict"].tolist() == ["missed"]


class Alone:
    """Stands for a pool of one process; returns 1 s and 1 MiB for any work."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> "Alone":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def submit(self, *_: Any) -> "Alone":
        return self

    def result(self) -> tuple[float, float]:
        return 1.0, 1.0


def test_every_mark_has_its_row(monkeypatch: pytest.MonkeyPatch):
    """In the real tables, with stand-ins for all that takes time."""
    monkeypatch.setattr(timing, "_seconds", lambda work, repeats=3: 1.0)
    monkeypatch.setattr(timing, "_networks", lambda device: [])
    monkeypatch.setattr(timing, "GeneratorTraining", lambda *_: None)
    monkeypatch.setattr(timing, "ProcessPoolExecutor", Alone)
    monkeypatch.setattr(timing, "_descent", lambda what, *_, **__: {"what": what, "seconds": 1.0})
    monkeypatch.setattr(timing, "invert_ii2s", lambda *_, **__: None)
    rows = {"speed": set(timing.measure_speed()["what"]), "optimisers": set(timing.measure_optimisers()["what"])}
    assert [mark.row for mark in MARKS if mark.row not in rows[mark.table]] == []


def test_the_command_checks_the_marks(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path):
    made = tables()
    monkeypatch.setattr(timing, "measure_speed", lambda device: made["speed"])
    monkeypatch.setattr(timing, "measure_optimisers", lambda device: made["optimisers"])
    command = ["benchmark", "--check", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.count(" met") == len(MARKS) and "> 150 images/s" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"speed.csv", "optimisers.csv"}
    made["speed"].loc[0, "value"] = 1.0
    assert main(command) == 1 and " missed" in capsys.readouterr().out
    assert main([*command, "--only", "optimisers"]) == 0
    assert capsys.readouterr().out.count(" met") == 3
    assert main([*command, "--only", "networks"]) == 2
    assert "expected --only speed or optimisers" in capsys.readouterr().err
    assert main(["benchmark", "--only", "speed", "--out", str(tmp_path)]) == 0
    assert "missed" not in capsys.readouterr().out
