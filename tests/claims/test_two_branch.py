"""Two branches in claims and tables: differences of runs, errors inside details, and the page."""

import json
import math
from dataclasses import asdict, replace

import pandas
import pytest
import torch
from worlds import world

import latentlab as ll
from latentlab import claims
from latentlab.claims import runs, two_branch
from latentlab.claims.reasons import why
from latentlab.claims.rules import RULES
from latentlab.claims.runs import Bench
from latentlab.evaluation import two_branch as evaluation
from latentlab.evaluation.inversions import load_judges
from latentlab.evaluation.two_branch import FACTORS
from latentlab.faces import real_set
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint
from latentlab.training.two_branch import CONTENT, LOSSES, configure_two_branch

RUNS = ("style{}", "full{} (style)", "content{}", "full{}")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A table in which every number of a run is its rank times one more than the face's."""
    sizes = {name.format(mark): i + 1.0 for i, name in enumerate(RUNS) for mark in ("", "2")}
    sizes |= {"two_branch": 4.0, "two_branch_psp": 4.0, "e4e": 10.0, "psp": 9.0}
    rows = []
    for name, size in sizes.items():
        for kind in ("clean", "strange"):
            numbers = [f"{c} (x)" if c == "perceptual" else c for c in two_branch.COLUMNS.values()]
            numbers += [f"{factor} {what}" for factor in FACTORS for what in ("leakage", "identity (x)", "error")]
            numbers += ["asked leakage", "asked identity"]
            made = dict.fromkeys((f"{factor} matched" for factor in FACTORS), 1.0)
            made |= {"images_seen": 10_000, "seed": 12 if "2" in name else 11} if name not in ("e4e", "psp") else {}
            rows += [{"method": name, "faces": kind, "image": i} | made | dict.fromkeys(numbers, size * (i + 1))
                     | {"asked reach": 2 * size * (i + 1)} for i in range(3)]  # fmt: skip
    path = tmp_path / "two_branch.csv"
    pandas.DataFrame(rows).assign(generator=fingerprint(world(), "generator")).to_csv(path, index=False)
    monkeypatch.setattr(runs, "TABLES", tmp_path)
    return path


@pytest.mark.parametrize("id", ["TWO-1", "TWO-2", "TWO-3", "TWO-4", "TWO-5"])
def test_claims_are_differences_of_runs_face_by_face(results, id):
    found = claims.CLAIMS[id].measure(Bench(world(), True, faces=3))
    assert {name for part in RULES[id].parts for name in part.cells} == found.measured.keys()
    expected = {"TWO-4": {-12.0, -10.0}}.get(id, {2.0})  # mean of 1, 2, 3 times the difference of the ranks
    others = {name: found.measured.pop(name) for name in list(found.measured) if name.endswith("_less_others")}
    assert set(found.measured.values()) == expected
    assert set(others.values()) == ({-2.0} if id == "TWO-5" else set())  # gains 2 where the other edits gain 4
    assert all(sample["n"] == 3 for sample in found.samples.values())
    if id == "TWO-1":
        assert found.controls["asked_strange_12_reach"] == 2 * found.controls["asked_clean_11_leakage"] == 4.0
        assert "clean faces, seed 11: the judge reads +4.00 of the change" in claims.CLAIMS[id].remark(found)


def test_edits_are_compared_that_both_runs_can_make(results):
    """One run cannot put glasses on: it must not gain by leaving out what is difficult."""
    table = pandas.read_csv(results)
    glasses = [c for c in table.columns if c.startswith("glasses ") and not c.endswith("matched")]
    table.loc[:, glasses] *= 100
    table["glasses matched"] = (table["method"] != "full (style)").astype(float)
    table.loc[table["method"] == "full (style)", glasses] = float("nan")
    table.loc[table["image"] == 0, [c for c in table.columns if c.startswith("beard")]] = float("nan")  # has no room
    table.to_csv(results, index=False)
    found = claims.CLAIMS["TWO-1"].measure(Bench(world(), True, faces=3))
    assert found.measured["clean_11_error"] == 2.0 and found.measured["clean_12_error"] > 2.0
    assert found.controls["clean_11_matched"] == pytest.approx((2 / 3 + 0.75 + 0.75) / 3)
    assert found.controls["clean_12_matched"] == 1.0


def test_edits_without_effect_do_not_reproduce_a_claim(results):
    table = pandas.read_csv(results)
    sparse, made = table["method"].str.endswith("(style)"), [f"{factor} matched" for factor in FACTORS]
    table.loc[sparse, [c for c in table.columns if c.startswith(FACTORS) and c not in made]] = float("nan")
    table.loc[sparse, made] = 0.0
    table.to_csv(results, index=False)
    for id in ("TWO-1", "TWO-2"):
        found = claims.CLAIMS[id].measure(Bench(world(), True, faces=3))
        verdict, reason = RULES[id].judge(found.estimates)
        assert verdict == "not reproduced" and "both runs can make half of the edits" in reason


@pytest.mark.parametrize("id", ["TWO-1", "TWO-2", "TWO-3", "TWO-5"])
def test_runs_that_are_not_trained_alike_are_refused(results, id):
    """One budget of both seeds, and the seed that the name of the number has."""
    table = pandas.read_csv(results)
    for name, value, message in (("images_seen", 30_000, "images_seen: expected one number for the runs"),
                                 ("seed", 11, "seed: expected 12, got .*11 of ")):  # fmt: skip
        second = table["method"].isin([run.format("2") for run in RUNS])
        table.assign(**{name: table[name].where(~second, value)}).to_csv(results, index=False)
        with pytest.raises(ValueError, match=message):
            claims.CLAIMS[id].measure(Bench(world(), True, faces=3))


def test_tables_say_how_runs_were_trained(monkeypatch):
    """Also of a run without its content branch, which has no provenance of its own; not of an encoder alone."""
    def grade(branches, G, faces):
        return pandas.DataFrame({"method": [branches.name] * 2})

    monkeypatch.setattr(evaluation, "grade_branches", grade)
    made = {"images": 10_000, "seed": 12}
    several = [evaluation.Branched("e4e", "e4e"), evaluation.Branched("full2", "e4e", None, made),
               evaluation.Branched("full2 (style)", "e4e")]  # fmt: skip
    table = evaluation.measure_branches(several, world()).set_index("method")
    assert table.loc["e4e"].drop(columns="generator").isna().all(axis=None)
    assert (table["generator"] == fingerprint(world(), "generator")).all()
    for name in ("full2", "full2 (style)"):
        assert (table.loc[name, "images_seen"] == 10_000).all() and (table.loc[name, "seed"] == 12).all()


def test_a_missing_table_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "TABLES", tmp_path)
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


@pytest.fixture(scope="module")
def dense():
    """The style branch of regressions in W: its targets move a factor by as many standard deviations; glasses by 0.4
    of them, so that it takes most of the range to put them on."""
    G = ll.load("faces-64")
    shape = configure_two_branch(G, ll.encoder_for(G, "e4e"), "e4e", images=8).shape
    network = TwoBranch(replace(shape, resolutions=(), channels=())).requires_grad_(False)
    for d, std, name in zip(network.style_directions, shape.std, shape.attributes, strict=True):
        d.copy_(ll.directions_for(G)[name].vector * std / ll.directions_for(G)[name].std)
    network.style_directions[shape.attributes.index("glasses")] *= 0.4
    return network


def test_edits_are_measured_to_the_end_of_the_networks_range(dense, monkeypatch):
    """Glasses on or off are 2.2 standard deviations, so that a range of 2 would leave them out."""
    G, faces, judges = ll.load("faces-64"), real_set().clean[:2], load_judges()
    assert (faces.factors["glasses"] == 0).all() and 1 / dense.config.std[0] > 2.1
    monkeypatch.setattr(evaluation, "FACTORS", ("glasses",))
    rows = evaluation.grade_branches(evaluation.Branched("dense", "e4e", dense), G, faces, judges)
    assert (rows["glasses matched"] == 1).all() and rows["glasses error"].notna().all()
    assert rows["glasses identity (face world, 64 px)"].between(0.3, 1).all()
    assert rows["yaw reach"].between(0.7, 1.5).all() and rows["zeros"].max() == 0
    assert rows["asked reach"].between(0.5, 1.6).all() and rows["asked leakage"].between(0.01, 1).all()
    assert rows["asked identity"].between(0.3, 1).all() and rows["asked change"].between(1e-4, 0.1).all()
    monkeypatch.setattr(evaluation, "POSE", "none")
    torch.testing.assert_close(torch.tensor(rows["edit error"]), torch.tensor(rows["glasses error"]))
    short = TwoBranch(replace(dense.config, most=2.0)).requires_grad_(False)
    short.load_state_dict(dense.state_dict())
    short = evaluation.grade_branches(evaluation.Branched("short", "e4e", short), G, faces, judges)
    assert short["glasses matched"].tolist() == [1, 0] and short["edit error"].isna().tolist() == [False, True]
    assert short["asked identity"].isna().all()  # 2.2 standard deviations cannot be asked for


def test_full_models_are_measured_without_their_content_too(tmp_path):
    """So that the row of the ablation with sparsity alone needs no training of its own."""
    G = ll.load("faces-64")
    for name, weight in (("content", 0.0), ("full", 1.0), ("style", None)):
        losses = LOSSES | ({"alignment": weight} if weight is not None else dict.fromkeys(CONTENT, 0.0))
        config = configure_two_branch(G, ll.encoder_for(G, "e4e"), "e4e", images=8, losses=losses)
        (tmp_path / name).mkdir()
        state = {"config": asdict(config), "network": TwoBranch(config.shape).state_dict(), "progress": (1, 8)}
        torch.save(state, tmp_path / name / "checkpoint.pt")
        (tmp_path / name / "run.json").write_text(json.dumps({"kind": "two_branch", "encoder": "e4e"}))
    found = evaluation.trained_branches(tmp_path, G)
    assert [b.name for b in found] == ["content", "full", "full (style)", "style"]
    assert found[2].network.config.resolutions == () == found[3].network.config.resolutions
    assert {b.network.encoder_fingerprint for b in found} == {config.encoder_fingerprint}
    (tmp_path / "full").rename(tmp_path / "two_branch")  # in place of the shipped one
    chosen = evaluation.chosen_branches(G, tmp_path)
    assert [b.name for b in chosen] == [
        "psp", "e4e", "two_branch_psp", "two_branch_psp (style)", "content", "style", "two_branch", "two_branch (style)"
    ]  # fmt: skip
    assert chosen[0].network is None and chosen[-2].network.sparsity.min() == 1  # untrained


def test_shipped_networks_are_measured_without_a_folder_of_runs():
    G = ll.load("faces-64")
    found = evaluation.shipped_branches(G)
    names = ["two_branch", "two_branch (style)", "two_branch_psp", "two_branch_psp (style)"]
    assert [b.name for b in found] == names and [b.encoder for b in found] == ["e4e", "e4e", "psp", "psp"]
    assert found[0].provenance["images"] == 30_000 and found[0].provenance["command"].startswith("latentlab train")
    assert found[1].network.config.resolutions == ()
    assert evaluation.shipped_branches(ll.load("faces-64-deep")) == []


def test_runs_of_other_networks_are_not_measured(tmp_path):
    """A generator or encoder that was replaced has other codes than those that the run was trained with."""
    G = ll.load("faces-64")
    config = asdict(configure_two_branch(G, ll.encoder_for(G, "e4e"), "e4e", images=8, losses=dict.fromkeys(LOSSES, 0)))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"kind": "two_branch", "encoder": "e4e"}))
    state = {"network": TwoBranch(TwoBranchConfig.from_dict(config["shape"])).state_dict(), "progress": (1, 8)}

    def read(**changed: str | None) -> list[evaluation.Branched]:
        torch.save(state | {"config": config | changed}, tmp_path / "run" / "checkpoint.pt")
        return evaluation.trained_branches(tmp_path, G)

    assert len(read()) == len(read(encoder_fingerprint=None)) == 1
    with pytest.raises(ValueError, match="run: expected a run of the generator .*, got one of other"):
        read(generator="other")
    with pytest.raises(ValueError, match="run: expected a run with the shipped encoder e4e, .*, got one with other"):
        read(encoder_fingerprint="other")


def test_the_page_has_a_row_for_each_run(tmp_path):
    numbers = dict.fromkeys([*evaluation.COLUMNS, *evaluation.ASKED], 1.0)
    table = pandas.DataFrame([{"method": m, "faces": k, "image": 0} | numbers
                              for m in ("e4e", "two_branch") for k in ("clean", "strange")])  # fmt: skip
    told = {"images": 1000, "seed": 11, "hardware": "a core", "command": "latentlab train two_branch"}
    page = evaluation.describe_branches(table, [evaluation.Branched("two_branch", "e4e", None, told)])
    assert page.count("| two_branch |") == 4 and page.count("| e4e |") == 4 and "`latentlab train two_branch`" in page
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text(json.dumps({"kind": "encoder"}))
    with pytest.raises(ValueError, match="runs: expected a folder with runs of `latentlab train two_branch`"):
        evaluation.trained_branches(tmp_path, ll.load("faces-64"))


def test_the_content_branch_is_compared_edit_by_edit():
    """Only edits that both make count; another order of the faces changes nothing."""
    made = [f"{factor} {key}" for factor in evaluation.FACTORS for key in ("error", "gain", "leakage", "identity (x)")]

    def rows(method: str, first: float, faces: list[int]) -> list[dict]:
        one = dict.fromkeys(made, 1.0) | {"method": method, "faces": "clean"}
        return [one | {"image": i, "smile error": first + i, "age error": math.nan} for i in faces]

    alone = [one | {"glasses gain": math.nan} for one in rows("run (style)", 2.0, [0, 1, 2])]
    found = evaluation._differences(pandas.DataFrame(rows("run", 5.0, [2, 0, 1]) + alone + rows("e4e", 9.0, [0, 1, 2])))
    assert found["method"].unique().tolist() == ["run"] and len(found) == 3
    torch.testing.assert_close(found["edit error"].tolist(), [1.0] * 3)  # smile 3, glasses and beard 0, age not made
    assert (found[["edit gain", "edit leakage", "edit identity"]] == 0).all(axis=None)


def test_without_content_the_strip_has_the_same_picture_twice(dense):
    faces = real_set()[:2]
    rows = evaluation.strip_rows(evaluation.Branched("style", "e4e", dense), ll.load("faces-64"), faces)
    torch.testing.assert_close(rows["two branches"], rows["e4e"], atol=1e-4, rtol=1e-4)
    for factor in evaluation.DRAWN:
        style, both, truth = (rows[f"{factor}: {what}"] for what in ("style only", "both", "truth"))
        torch.testing.assert_close(both, style, atol=1e-4, rtol=1e-4)
        assert not torch.equal(style, rows["e4e"]) and not torch.equal(truth, faces.images)


def test_why_the_pose_is_not_limited_in_particular_is_told_from_the_record():
    record = claims.recorded("TWO-5")
    said = why(record)
    assert "loses 0.13 to 0.18 of what is asked for, the edits of TWO-1 lose 0.25 to 0.28" in said, said
    assert "0.22 to 0.27 less with the penalty, 0.33 to 0.38 less without it" in said, said
    more = {name: -x if name.endswith("_less_others") else x for name, x in record.measured.items()}
    assert not why(replace(record, measured=more))  # the pose loses more than the others
