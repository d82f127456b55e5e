"""Edits measured in a world that renders what its codes say: a true edit, one that leaks, one that does nothing."""

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from torch import nn

from latentlab.cli import main
from latentlab.editing.edit import Direction, Edit, State
from latentlab.editing.sparse import MissingWeights
from latentlab.evaluation import Judges, edit_cells, edit_tables, load_judges
from latentlab.evaluation.edit_cells import (
    FACES,
    SAMPLES,
    CellFile,
    FoundEdits,
    edit_fingerprint,
    found_ways,
    measure_cells,
)
from latentlab.evaluation.edit_page import describe
from latentlab.evaluation.edit_tables import tabulate
from latentlab.evaluation.edits import AMOUNT, EditTask, measure_edit, own_samples
from latentlab.faces import NAMES, FaceSet, factor_std, real_set
from latentlab.inversion.result import Inversion

MOVED = ("yaw", "smile", "glasses")  # what the codes move, in standard deviations


class World(nn.Module):
    """w = (number of a face, then how far each of MOVED is moved); its picture is that face, rendered."""

    z_dim = w_dim = 4
    num_ws, resolution = 2, 64

    def __init__(self, faces: FaceSet) -> None:
        super().__init__()
        self.mapping_scale = nn.Parameter(torch.tensor(1000.0), requires_grad=False)
        self.register_buffer("w_avg", torch.zeros(4))
        self.faces, self.drawn = faces, 0

    def mapping(self, z):
        number = (z[:, 0] * self.mapping_scale).abs().long() % len(self.faces)
        return torch.cat([number[:, None].float(), torch.zeros(len(z), 3)], 1)

    def broadcast(self, w):
        return w[:, None].expand(-1, 2, -1)

    def synthesis(self, w_plus, **_):
        w, self.drawn = w_plus[:, 0], self.drawn + len(w_plus)
        faces = self.faces[w[:, 0].round().long()]
        std = factor_std()
        values = {name: faces.factors[name] + w[:, 1 + i] * std[NAMES.index(name)] for i, name in enumerate(MOVED)}
        values["glasses"] = (values["glasses"] > 0.5).float()
        return faces.with_factors(**values).images


class Blind(nn.Module):
    """A judge that reads the same in every picture."""

    def __init__(self, judge: nn.Module) -> None:
        super().__init__()
        self.names, self.binary, self.mean, self.std = judge.names, judge.binary, judge.mean, judge.std

    def forward(self, images):
        return torch.zeros(len(images), len(self.names))


def direction(name: str, *, std: float = 1.0, leak: float = 0.0, gain: float = 1.0, source: str = "") -> Direction:
    """Moves ``name`` by ``gain`` standard deviations and smile by ``leak``; says that it moves by ``std`` of them."""
    vector = torch.zeros(4)
    vector[1 + MOVED.index("smile")] += leak
    vector[1 + MOVED.index(name)] += gain
    return Direction(name, vector, std * float(factor_std()[NAMES.index(name)]), source=source)


@pytest.fixture(scope="module")
def judges() -> Judges:
    return load_judges()


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return real_set().clean[:6]


@pytest.fixture(scope="module")
def task(faces: FaceSet, judges: Judges) -> EditTask:
    G = World(faces)
    state = State(G.broadcast(torch.cat([torch.arange(6.0)[:, None], torch.zeros(6, 3)], 1)))
    return EditTask(Inversion(state, state.draw(G), G, "exact"), judges, faces)


def test_a_request_stays_in_range_and_goes_both_ways(task, faces):
    request = task.request("yaw")
    wanted = AMOUNT * factor_std()[NAMES.index("yaw")]
    assert set(request.change.sign().tolist()) == {1.0, -1.0} and (request.change.abs() <= wanted + 1e-5).all()
    torch.testing.assert_close(request.truth.factors["yaw"], faces.factors["yaw"] + request.change)
    assert (request.truth.factors["yaw"].abs() <= 35).all()
    seen = task.read(request.truth.images)[:, NAMES.index("yaw")] - task.read(faces.images)[:, NAMES.index("yaw")]
    torch.testing.assert_close(request.target - task.before[:, NAMES.index("yaw")], seen)
    full = EditTask(task.inversion, task.judges, faces.with_factors(beard=1.0)).request("beard")
    assert (full.change < 0).all() and full.usable.all()  # no room upwards
    blind = EditTask(task.inversion, replace(task.judges, attributes=Blind(task.judges.attributes)), faces)
    assert not blind.request("yaw").usable.any() and request.usable.all()
    switched = task.request("glasses")
    assert torch.equal(switched.truth.factors["glasses"], 1 - faces.factors["glasses"])
    with pytest.raises(ValueError, match="factor: expected one that the attribute judge reads, got 'wings'"):
        task.request("wings")


def test_the_true_edit_has_all_of_its_values(task):
    task.inversion.generator.drawn = 0
    found = measure_edit(task, direction("yaw"), "yaw")
    assert task.inversion.generator.drawn <= 7  # each once, at the strength that it should have
    wanted = {"matched": 1, "strength": 1, "reach": 1, "gain": 1, "error": 0, "residual": 0}
    for name, value in wanted.items():
        torch.testing.assert_close(found.values[name], torch.full((6,), float(value)), atol=0.03, rtol=0)
    for value, floor in (("leakage", "floor"), ("identity", "identity floor"), ("identity of target", "identity")):
        torch.testing.assert_close(found.values[value], found.values[floor], atol=0.02, rtol=0)
    assert (found.change[:, NAMES.index("yaw")] > 1).all()  # of both signs, the way that was asked for


def test_a_wrong_account_of_its_strength_is_put_right(task):
    found = measure_edit(task, direction("yaw", std=2.0), "yaw")  # moves by half of what it says
    torch.testing.assert_close(found.values["strength"], torch.full((6,), 2.0), atol=0.1, rtol=0)
    torch.testing.assert_close(found.values["reach"], torch.full((6,), 0.5), atol=0.15, rtol=0)
    torch.testing.assert_close(found.values["gain"], torch.ones(6), atol=0.06, rtol=0)
    strong = measure_edit(task, direction("yaw", std=0.4), "yaw")
    torch.testing.assert_close(strong.values["strength"], torch.full((6,), 0.4), atol=0.03, rtol=0)
    unknown = replace(direction("yaw"), std=float("nan"))
    torch.testing.assert_close(measure_edit(task, unknown, "yaw").values["strength"], torch.ones(6), atol=0.03, rtol=0)


class Cubic(Edit):
    """Turns the head by s^3 standard deviations."""

    name, space, std = "yaw", "W", float(factor_std()[NAMES.index("yaw")])

    def __call__(self, state, strengths, G):
        return direction("yaw")(state, strengths**3, G)


def test_a_curved_answer_is_matched_in_few_pictures(task):
    task.inversion.generator.drawn = 0
    found, request = measure_edit(task, Cubic(), "yaw"), task.request("yaw")
    assert (found.values["matched"] == 1).all() and task.inversion.generator.drawn <= 6 * 6
    turned = found.values["strength"] * AMOUNT  # in standard deviations of the face world, before the cube
    torch.testing.assert_close(turned**3, request.change.abs() / Cubic.std, atol=0.06, rtol=0)
    torch.testing.assert_close(found.values["gain"], torch.ones(6), atol=0.05, rtol=0)


def test_a_leak_is_seen_with_its_sign(task):
    k = NAMES.index("smile")
    clean, leaking = (measure_edit(task, direction("yaw", leak=leak), "yaw") for leak in (0.0, 0.5))
    assert (leaking.values["leakage"] > clean.values["leakage"]).all()
    assert (leaking.values["leakage max"] > leaking.values["leakage"]).all()
    moved = leaking.change[:, k] - clean.change[:, k]
    torch.testing.assert_close(moved.mean(), torch.tensor(0.5 * AMOUNT), atol=0.25, rtol=0)
    assert (leaking.values["error"] > clean.values["error"] + 0.02).all()


def test_edits_that_cannot_match(task):
    for edit in (direction("yaw", gain=0.0), direction("yaw", gain=-1.0)):
        found = measure_edit(task, edit, "yaw")
        assert (found.values["matched"] == 0).all() and found.values["reach"].max() < 0.1
        assert found.values["gain"].isnan().all() and found.change.isnan().all()


def test_a_switch_takes_no_more_strength_than_it_needs(task):
    """Glasses are there from half of the nominal strength on; a face would be no more edited at twice that."""
    glasses = measure_edit(task, direction("glasses"), "glasses")
    assert (glasses.values["strength"] < 0.8).all()
    assert (glasses.values["matched"] == 1).all() and (glasses.values["error"] < 0.05).all()


def test_no_strength_beyond_the_edits_range_is_tried(task, monkeypatch):
    """Glasses appear at half of their nominal strength, some 1.1 standard deviations."""
    edit, tried, own = direction("glasses"), [], Inversion.edit

    def note(self, edit, strengths):
        tried.append(float(strengths.abs().max()))
        return own(self, edit, strengths)

    monkeypatch.setattr(Inversion, "edit", note)
    for most, share in ((1.0, 0.0), (1.5, 1.0)):
        tried.clear()
        found = measure_edit(task, edit, "glasses", most=most)
        assert (found.values["matched"] == share).all() and max(tried) == most


def test_samples_have_no_truth_and_no_inversion(task, judges):
    samples = own_samples(task.inversion.generator, 5)
    found = EditTask(samples, judges)
    request = found.request("yaw")
    torch.testing.assert_close(request.target, found.before[:, NAMES.index("yaw")] + request.change)
    values = measure_edit(found, direction("yaw"), "yaw").values
    assert values.keys() == {"matched", "reach", "strength", "leakage", "leakage max", "identity"}
    for name in ("strength", "reach"):
        assert float(values[name].mean()) == pytest.approx(1, abs=0.2)
    assert torch.equal(own_samples(samples.generator, 5).latent, samples.latent)
    assert not torch.equal(own_samples(samples.generator, 5, seed=1).latent, samples.latent)


def test_cells_are_measured_once(task, tmp_path):
    file, said = CellFile(tmp_path / "cells.jsonl"), []
    ways = {"good": direction, "bad": lambda factor: direction(factor, leak=1.0), "none": {}.__getitem__}
    known = {"factors": ["yaw"], "say": said.append, "oracle": lambda factor: task.request(factor).truth.images}
    cells = measure_cells("f", task, ways, file, **known)
    assert said == [f"f: {way}, yaw" for way in ("good", "bad", "none", "no edit", "oracle")]
    assert [cell["key"]["way"] for cell in cells] == ["good", "bad", "none", "no edit", "oracle"]
    assert cells[0]["values"]["gain"] == pytest.approx([1] * 6, abs=0.03) and cells[0]["edit"]["space"] == "W"
    assert cells[2]["refused"] == "no edit of this factor" and "values" not in cells[2]
    assert cells[3]["values"]["error"] == [1] * 6 and max(cells[3]["values"]["leakage"]) == 0
    assert cells[4]["values"]["error"] == pytest.approx([0] * 6, abs=1e-3)
    assert cells[1]["change"]["systematic"] > cells[0]["change"]["systematic"]
    with open(file.path, "a") as broken:
        broken.write('{"key": {"way": "cut o')
    again = measure_cells("f", task, ways, CellFile(file.path), **known)
    assert len(said) == 5 and again == cells
    changed = ways | {"good": lambda factor: direction(factor, source="another")}
    measure_cells("f", task, changed, CellFile(file.path), **known)
    assert said[5:] == ["f: good, yaw"]
    measure_cells("f", task, {}, CellFile(file.path), factors=["yaw"], settings={"method": "x"}, say=said.append)
    assert said[6:] == ["f: no edit, yaw"] and len(CellFile(file.path).read()) == 7
    with pytest.raises(ValueError, match="factor: expected one that the attribute judge reads, got 'wings'"):
        measure_cells("f", task, ways, file, factors=["wings"])


def test_an_edit_has_a_fingerprint(task):
    G = task.inversion.generator
    marks = [edit_fingerprint(edit, G) for edit in (direction("yaw"), direction("yaw"), direction("yaw", leak=0.1))]
    assert marks[0] == marks[1] != marks[2]

    class Own(Edit):
        name, space = "yaw", "W"

        def __init__(self, step: float) -> None:
            self.step = step

        def __call__(self, state, strengths, G):
            return replace(state, w_plus=state.w_plus + self.step)

    own = [edit_fingerprint(Own(step), G) for step in (0.1, 0.1, 0.2)]
    assert own[0] == own[1] != own[2]


def test_edits_are_found_when_asked_for_and_kept(task, tmp_path, monkeypatch):
    G, asked = task.inversion.generator, []

    def find(evidence: str, way: str, factor: str) -> Edit:
        asked.append((evidence, way, factor))
        if factor == "age":
            raise ValueError("it does not move age")
        return direction(factor)

    monkeypatch.setattr(edit_cells, "find_edit", find)
    for _ in range(2):
        edits = FoundEdits("learned in S", tmp_path / "found", G, lambda: "evidence")
        assert torch.equal(edits("yaw").vector, direction("yaw").vector)
        with pytest.raises(ValueError, match="it does not move age"):
            edits("age")
    assert asked == [("evidence", "learned in S", "yaw"), ("evidence", "learned in S", "age")]
    assert (tmp_path / "found" / "yaw.learned-in-S.edit.safetensors").is_file()  # as `latentlab train edits` names it
    assert list(found_ways(G, tmp_path, ["SeFa", "W regression"])) == ["W regression", "SeFa"]
    assert "shipped" not in found_ways(G, tmp_path) and "learned in S" in found_ways(G, tmp_path)
    with pytest.raises(ValueError, match="way: expected one of shipped, W regression, .*; got 'magic'"):
        found_ways(G, tmp_path, ["magic"])
    with pytest.raises(ValueError, match="expected a generator with shipped edits"):
        found_ways(G, tmp_path, ["shipped"])


def test_a_way_without_its_weights_is_asked_again(faces, tmp_path, monkeypatch):
    """They may be shipped later, while a refusal for what the samples show is final."""
    shipped = []

    def find(evidence, way, factor):
        if not shipped:
            raise MissingWeights("G: expected shipped two branches")
        return direction(factor)

    monkeypatch.setattr(edit_cells, "find_edit", find)
    edits = FoundEdits("sparse (two branches)", tmp_path, World(faces), lambda: None)
    with pytest.raises(ValueError, match="expected shipped two branches"):
        edits("yaw")
    shipped.append("now")
    assert edits("yaw").name == "yaw"


def cell(way: str, error: list, *, task: str = FACES, refused: str = "") -> dict:
    key = {"task": task, "way": way, "factor": "yaw", "n": 4, "method": "ii2s"}
    if refused:
        return {"key": key, "refused": refused}
    values = {"error": error, "gain": [1.0] * 4, "leakage": [0.3] * 4, "floor": [0.1] * 4, "identity": [0.8] * 4}
    return {"key": key, "values": values, "change": {"systematic": 0.2, "scatter": 0.4}, "made": {"torch": "2"}}


def test_tables_hold_means_intervals_and_paired_differences():
    cells = [cell("shipped", [0.1, 0.2, 0.3, None]), cell("other", [0.4, None, 0.7, 0.9]),
             cell("no edit", [1.0] * 4), cell("gone", [], refused="moves nothing")]  # fmt: skip
    table = tabulate(cells).set_index(["way", "measure"])
    row = table.loc[("other", "error")]
    assert row["mean"] == pytest.approx(2 / 3) and row["n"] == 3 and row["low"] < 2 / 3 < row["high"]
    assert row["difference"] == pytest.approx(0.35) and row["pairs"] == 2  # of .3 and .4
    half = 12.706 * 0.05  # Student's t of one degree of freedom times the standard error
    assert row["difference_low"] == pytest.approx(0.35 - half, abs=1e-3)
    assert row["difference_high"] == pytest.approx(0.35 + half, abs=1e-3)
    assert np.isnan(table.loc[("shipped", "error")]["difference"])
    assert table.loc[("other", "leakage above floor")]["mean"] == pytest.approx(0.2)
    assert table.loc[("other", "scatter")]["mean"] == 0.4 and "gone" not in table.index.get_level_values(0)
    page = describe(tabulate(cells), cells)
    assert "| other | 0.67 | 0.67 |" in page and "0.35 [-0.29, 0.99]" in page and "- gone, yaw: moves nothing" in page
    assert page.index("## Edits that could not be found") < page.index("- gone, yaw: moves nothing")
    assert f"## {FACES.capitalize()}" in page and SAMPLES.capitalize() not in page and "method ii2s" in page


def test_goals_are_met_missed_or_met_by_the_mean_alone():
    own = cell("shipped", [0.1, 0.2, 0.3, None])
    own["edit"] = {"space": "S"}
    own["values"] |= {"matched": [1, 1, 1, 0], "gain": [0.6, 0.9, 1.3, None]}
    cells = [own, cell("no edit", [1.0] * 4), cell("oracle", [0.5] * 4)]
    own["values"]["identity floor"] = [0.97] * 4
    page = describe(tabulate(cells), cells)
    assert "| yaw | S | 0.75 | 0.93 [0.06, 1.81] by the mean |" in page
    assert "0.20 [0.20, 0.20] missed | 0.80 [0.80, 0.80] missed | 0.20 [-0.05, 0.45] met |" in page
    assert "Of 1 factors, the mean meets: gain >= 0.9 in 1, leakage above its floor < 0.1 in 0," in page
    assert "| yaw | 1.00 [1.00, 1.00] | 0.50 [0.50, 0.50] | 0.20 [0.20, 0.20] | 0.80 [0.80, 0.80] | 0.97 [" in page
    own["values"]["error"] = [1.0] * 4  # is no edit
    assert "1.00 [1.00, 1.00] missed |" in describe(tabulate(cells), cells)


def test_a_page_of_both_tasks_has_leaks_ties_and_the_share_of_the_inversion():
    change = {"mean": [0.001] * len(NAMES), "std": [0.5] * len(NAMES), "systematic": 0.2, "scatter": 0.4}
    change["mean"][NAMES.index("age")] = 0.7
    change["mean"][NAMES.index("hair_grey")] = -0.3
    cells = [cell("shipped", [0.2] * 4), cell("shipped", [0.2] * 4, task=SAMPLES), cell("gone", [], refused="no")]
    for c in cells[:2]:
        c["key"]["factor"], c["change"] = "glasses", change
    cells[1]["values"] = {"leakage": [0.2] * 4, "identity": [0.9] * 4}
    page = describe(tabulate(cells), cells)
    leaks = page.split("### Leakage matrix")[1]
    assert "| glasses | +0.00 (0.50) | age +0.70, hair_grey -0.30," in leaks
    assert "| shipped | 0.70 [0.21, 1.19] |" in leaks.split("### Changes of correlated factors")[1]
    shares = page.split("## The share of the inversion")[1]
    assert "| shipped | 0.30 | 0.20 | 0.10 |" in shares and "| shipped | 0.80 | 0.90 | -0.10 |" in shares
    assert shares.index("### Leakage\n") < shares.index("### Scatter") < shares.index("### Identity")


def test_the_command_writes_table_page_and_cells(tmp_path, monkeypatch, capsys):
    def ways(G, folder, names, **_):
        vector = torch.randn(G.w_dim, generator=torch.Generator().manual_seed(0)) / 10
        return {"shipped": lambda f: Direction(f, vector, 5.0), "random": lambda f: Direction(f, -vector, 5.0)}

    real = real_set()[:6]  # 2 of them are clean
    monkeypatch.setattr(edit_tables, "real_set", lambda resolution: real)
    monkeypatch.setattr(edit_tables, "found_ways", ways)
    asked = ["benchmark", "--only", "edits", "--faces", "2", "--steps", "1", "--factor", "yaw", "--out", str(tmp_path)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert f"{SAMPLES}: random, yaw" in said and f"{FACES}: oracle, yaw" in said
    table = pandas.read_csv(tmp_path / "edits.csv")
    assert set(table["way"]) == {"shipped", "random", "no edit", "oracle"}
    assert (tmp_path / "edits.md").read_text().startswith("# Edits, measured")
    lines = [json.loads(line) for line in (tmp_path / "edits.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and all(len(line["key"]["judges"]) == 2 for line in lines)
    monkeypatch.setattr(edit_tables, "invert", lambda *_, **__: pytest.fail("inverted again"))
    assert main(asked) == 0 and "yaw\n" not in capsys.readouterr().out.split("edits\n")[0]
    assert main([*asked[:4], "3", *asked[5:]]) == 2
    assert "n: expected 2 to 2, the clean faces of the real set, got 3" in capsys.readouterr().err
