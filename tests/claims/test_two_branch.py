"""Two branches in claims and tables: differences of runs, errors inside details, and the page."""

import json

import pandas
import pytest
import torch
from worlds import world

from latentlab import claims
from latentlab.claims import two_branch
from latentlab.claims.rules import RULES
from latentlab.claims.runs import Bench
from latentlab.evaluation import two_branch as evaluation
from latentlab.evaluation.two_branch import FACTORS
from latentlab.faces import real_set

RUNS = ("style", "sparse", "content", "two_branch")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A table in which every number of a run is its rank times one more than the face's."""
    sizes = {f"{name}{mark}": i + 1.0 for i, name in enumerate(RUNS) for mark in ("", "2")}
    sizes |= {"two_branch_psp": 4.0, "e4e": 10.0, "psp": 9.0}
    rows = []
    for name, size in sizes.items():
        for kind in ("clean", "strange"):
            numbers = [f"{c} (x)" if c == "perceptual" else c for c in two_branch.COLUMNS.values()]
            numbers += [f"{factor}+1 {what}" for factor in FACTORS for what in ("leakage", "identity (x)", "error")]
            rows += [{"method": name, "faces": kind, "image": i} | dict.fromkeys(numbers, size * (i + 1))
                     for i in range(3)]  # fmt: skip
    pandas.DataFrame(rows).to_csv(tmp_path / "two_branch.csv", index=False)
    monkeypatch.setattr(two_branch, "RESULTS", tmp_path / "two_branch.csv")


@pytest.mark.parametrize("id", ["TWO-1", "TWO-2", "TWO-3", "TWO-4", "TWO-5"])
def test_claims_are_differences_of_runs_face_by_face(results, id):
    found = claims.CLAIMS[id].measure(Bench(world(), True, faces=3))
    assert {name for part in RULES[id].parts for name in part.cells} == found.measured.keys()
    expected = {"TWO-4": {-12.0, -10.0}}.get(id, {2.0})  # mean of 1, 2, 3 times the difference of the ranks
    assert set(found.measured.values()) == expected
    assert all(sample["n"] == 3 for sample in found.samples.values())


def test_edits_are_compared_that_both_runs_can_make(results):
    """One run cannot put glasses on: it must not gain by leaving out what is difficult."""
    table = pandas.read_csv(two_branch.RESULTS)
    glasses = [c for c in table.columns if c.startswith("glasses")]
    table.loc[:, glasses] *= 100
    table.loc[table["method"] == "sparse", glasses] = float("nan")
    table.to_csv(two_branch.RESULTS, index=False)
    found = claims.CLAIMS["TWO-1"].measure(Bench(world(), True, faces=3))
    assert found.measured["clean_11_error"] == 2.0 and found.measured["clean_12_error"] > 2.0
    assert found.controls["clean_11_matched"] == 0.75 and found.controls["clean_12_matched"] == 1.0


def test_edits_without_effect_do_not_reproduce_a_claim(results):
    table = pandas.read_csv(two_branch.RESULTS)
    edited = [c for c in table.columns if "+1 " in c]
    table.loc[table["method"].isin(["sparse", "sparse2"]), edited] = float("nan")
    table.to_csv(two_branch.RESULTS, index=False)
    for id in ("TWO-1", "TWO-2"):
        found = claims.CLAIMS[id].measure(Bench(world(), True, faces=3))
        verdict, reason = RULES[id].judge(found.estimates)
        assert verdict == "not reproduced" and "both runs can make a quarter of the edits" in reason


def test_a_missing_table_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(two_branch, "RESULTS", tmp_path / "none.csv")
    with pytest.raises(ValueError, match="expected the table of `latentlab benchmark --only two_branch --runs FOLDER`"):
        claims.CLAIMS["TWO-1"].measure(Bench(world(), True))


def test_the_error_is_that_inside_the_detail():
    faces = real_set().strange[:3]
    clean = real_set().clean[:2]
    assert torch.equal(evaluation.detail_error(faces.images, faces), torch.zeros(3))
    assert evaluation.detail_error(clean.images, clean).isnan().all()
    without = evaluation.render(faces.factors, 64)  # the right face, but no detail
    error = evaluation.detail_error(without, faces)
    assert (error > (without - faces.images).square().mean((1, 2, 3))).all()


def test_the_page_has_a_row_for_each_run(tmp_path):
    table = pandas.DataFrame([{"method": m, "faces": k, "image": 0} | dict.fromkeys(evaluation.COLUMNS, 1.0)
                              for m in ("e4e", "two_branch") for k in ("clean", "strange")])  # fmt: skip
    told = {"images": 1000, "seed": 11, "hardware": "a core", "command": "latentlab train two_branch"}
    page = evaluation.describe_branches(table, [evaluation.Branched("two_branch", "e4e", None, told)])
    assert page.count("| two_branch |") == 2 and page.count("| e4e |") == 2 and "`latentlab train two_branch`" in page
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text(json.dumps({"kind": "encoder"}))
    with pytest.raises(ValueError, match="runs: expected a folder with runs of `latentlab train two_branch`"):
        evaluation.trained_branches(tmp_path)
