"""Claims of CLCAE from a table of runs whose numbers are known, with small networks in the place of the shipped."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from small import small_generator

from latentlab import claims
from latentlab.claims import contrastive, encoder_runs
from latentlab.claims.contrastive import FACTORS, query_influence
from latentlab.claims.finding import over_samples
from latentlab.claims.rules import RULES
from latentlab.claims.runs import Bench
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.evaluation.encoders import STRENGTH
from latentlab.seeds import stream
from latentlab.spaces import fingerprint

FEW = {"clean": 3, "strange": 4}
RUNS = ("full", "full2", "no_alignment", "no_alignment2", "clcae_multi_token", "no_w_plus_block", "no_f_block",
        "clcae")
SIZES = {f"{run} {space}": float(i + 10 * j) for i, run in enumerate(RUNS) for j, space in enumerate(("W", "W+", "F"))}
SIZES |= {"psp": 7.0, "e4e": 9.0}


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


@pytest.fixture
def bench(G, tmp_path, monkeypatch) -> Bench:
    """A full bench of 3 and 4 faces, on which run number i in space number j has i + 10 j everywhere."""
    judged = ["psnr_db", "perceptual (x)", "identity (x)", "retrieved"]
    edits = [f"{factor}{STRENGTH:+g} {what}" for factor in FACTORS for what in ("gain", "error")]
    trained = {"images_seen": 10_000, "seed": 21}
    rows = [{"method": name, "faces": kind, "image": i} | trained | dict.fromkeys(judged + edits, size + 0.01 * i)
            for name, size in SIZES.items() for kind, n in FEW.items() for i in range(n)]  # fmt: skip
    for row in rows:
        row |= {"seed": 22} if row["method"].startswith(("full2", "no_alignment2")) else {}
        row |= {"images_seen": 30_000} if row["method"].startswith("clcae") else {}
    table = pandas.DataFrame(rows).assign(generator=fingerprint(G, "generator"))
    table.to_csv(tmp_path / "clcae.csv", index=False)
    monkeypatch.setattr(contrastive, "ALL", FEW)
    monkeypatch.setattr(contrastive, "PAIRS", {True: 20, False: 20})
    monkeypatch.setattr(contrastive, "pair_for", lambda G, device: ContrastivePair(ContrastiveConfig.slim(G.config)))
    monkeypatch.setattr(contrastive, "encoder_for", lambda G, name, device: encoder(G, name))
    return Bench(G, True, tables=tmp_path)


def encoder(G, name: str):
    network = build_encoder(name, slim_config(name, G.config)).requires_grad_(False).eval()
    for i, p in enumerate(network.parameters()):  # off their initial values, or the norms would be alike
        p.add_(0.1 * torch.randn(p.shape, generator=stream(i, "parameters")))
    return network


@pytest.mark.parametrize(("id", "number", "value"), [
    ("CLCAE-1", "clean_21_psnr", -2), ("CLCAE-1", "strange_22_identity", -2), ("CLCAE-2", "clean_block_identity", -5),
    ("CLCAE-3", "clean_block_perceptual", -6), ("CLCAE-3", "strange_block_gain", -6),
    ("CLCAE-4", "clean_w_to_w+_psnr", 10), ("CLCAE-4", "strange_w+_to_f_identity", 10),
    ("CLCAE-4", "clean_psp_to_w+_psnr", 3), ("CLCAE-4", "clean_e4e_to_w+_perceptual", 1),
])  # fmt: skip
def test_numbers_are_differences_of_runs_face_by_face(bench, id, number, value):
    found = claims.CLAIMS[id].measure(bench)
    assert found.measured[number] == pytest.approx(value)
    assert found.samples[number]["n"] == (3 if number.startswith("clean") else 4)
    cells = {name for part in (*RULES[id].parts, *RULES[id].controls) for name in part.cells}
    assert cells <= found.measured.keys()
    assert id != "CLCAE-1" or not any("retrieved" in name for name in found.measured)
    claims.CLAIMS[id].judge(found)
    if id == "CLCAE-2":
        assert found.controls["at_clean_multi_token_above_published_psnr"] == pytest.approx(-3)


def test_retrieval_is_recorded_and_not_judged(bench):
    """The pair that retrieves is the network whose loss one of the runs was trained on."""
    found = claims.CLAIMS["CLCAE-1"].measure(bench)
    assert found.controls["at_strange_22_retrieved"] == pytest.approx(-2)
    retrieved = {name: 1.0 for name in found.controls if name.endswith("_retrieved")}
    better = {name: [0.9, 1.1] for name in retrieved}
    best = replace(found, controls=found.controls | retrieved, intervals=found.intervals | better)
    assert claims.CLAIMS["CLCAE-1"].judge(best) == claims.CLAIMS["CLCAE-1"].judge(found)
    assert not any("retrieved" in cell.name for cell in RULES["CLCAE-1"].compare(best.estimates))


@pytest.mark.parametrize(("id", "run", "changed", "message"), [
    ("CLCAE-1", "no_alignment W", {"images_seen": 9000}, "images_seen: expected one number .*, 9000 of no_alignment W"),
    ("CLCAE-1", "full2 W", {"seed": 21}, "seed: expected 22, got 21 of full2 W, 22 of no_alignment2 W; train these"),
    ("CLCAE-1", "no_alignment W", {"seed": 7}, "seed: expected 21, got 21 of full W, 7 of no_alignment W"),
    ("CLCAE-2", "no_w_plus_block W+", {"images_seen": 30_000}, "images_seen: expected one number"),
    ("CLCAE-2", "no_w_plus_block W+", {"seed": 22}, "seed: expected one number for the runs that the rule compares"),
    ("CLCAE-3", "no_f_block F", {"images_seen": 60_000}, "got 10000 of full F, 60000 of no_f_block F; train"),
    ("CLCAE-4", "psp", {"images_seen": 60_000}, r"images_seen: .*, got 10000 of full W\+, 60000 of psp"),
])  # fmt: skip
def test_runs_that_are_not_trained_alike_are_refused(bench, id, run, changed, message):
    table = pandas.read_csv(bench.tables / "clcae.csv")
    assert (table["method"] == run).any()
    for name, value in changed.items():
        table.loc[table["method"] == run, name] = value
    table.to_csv(bench.tables / "clcae.csv", index=False)
    with pytest.raises(ValueError, match=message):
        claims.CLAIMS[id].measure(bench)
    table.loc[table["method"] == run, [*changed]] = float("nan")  # an older row, which says nothing
    table.to_csv(bench.tables / "clcae.csv", index=False)
    claims.CLAIMS[id].measure(bench)


def test_all_runs_of_two_seeds_have_one_budget(bench):
    table = pandas.read_csv(bench.tables / "clcae.csv")
    table.loc[table["method"].str.contains("2 W"), "images_seen"] = 20_000
    table.to_csv(bench.tables / "clcae.csv", index=False)
    with pytest.raises(ValueError, match="images_seen: expected one number"):
        claims.CLAIMS["CLCAE-1"].measure(bench)


def test_a_column_that_is_missing_or_there_twice_is_told():
    rows = pandas.DataFrame({"identity (a)": [1.0], "identity (b)": [2.0], "mse": [3.0]})
    assert encoder_runs.column(rows, "mse").tolist() == [3.0]
    with pytest.raises(ValueError, match=r"retrieved: expected one column of this name in the table of runs, got none"):
        encoder_runs.column(rows, "retrieved")
    with pytest.raises(ValueError, match=r"identity: expected one column .*, got identity \(a\), identity \(b\)"):
        encoder_runs.column(rows, "identity")


def test_gains_are_compared_of_edits_that_both_runs_can_make(bench):
    table = pandas.read_csv(bench.tables / "clcae.csv")
    smile = f"smile{STRENGTH:+g} gain"
    table[smile] += 100
    table.loc[table["method"] == "no_f_block F", smile] = float("nan")
    table.to_csv(bench.tables / "clcae.csv", index=False)
    found = claims.CLAIMS["CLCAE-3"].measure(bench)
    assert found.measured["clean_block_gain"] == pytest.approx(-6)


def test_the_second_seed_may_be_missing(bench, tmp_path):
    table = pandas.read_csv(bench.tables / "clcae.csv")
    table[~table["method"].str.startswith("full2")].to_csv(bench.tables / "clcae.csv", index=False)
    found = claims.CLAIMS["CLCAE-1"].measure(bench)
    assert "clean_21_psnr" in found.measured and "clean_22_psnr" not in found.measured
    table[~table["method"].str.startswith("full")].to_csv(bench.tables / "clcae.csv", index=False)
    with pytest.raises(ValueError, match="expected a run named full W, got"):
        claims.CLAIMS["CLCAE-1"].measure(bench)


def test_the_query_counts_only_where_there_is_a_choice(G):
    images = G(torch.randn(4, G.z_dim, generator=stream(0, "z"))).clamp(-1, 1)
    published, several = (query_influence(encoder(G, name), images) for name in ("clcae", "clcae_multi_token"))
    assert published < 1e-5 and several > 1e-3


@pytest.mark.parametrize(("id", "changed", "says"), [
    ("CLCAE-1", {}, "reproduced"), ("CLCAE-1", {"clean_22_identity": 0.0}, "partly reproduced"),
    ("CLCAE-1", {"pair_code_of_image": 0.01}, "not reproduced"), ("CLCAE-2", {}, "reproduced"),
    ("CLCAE-3", {"strange_block_gain": -0.2}, "partly reproduced"), ("CLCAE-4", {}, "reproduced"),
    ("CLCAE-4", {"clean_psp_to_w+_psnr": -1.0}, "partly reproduced"),
])  # fmt: skip
def test_rules(id, changed, says):
    """With all numbers on the claimed side of their bars, and with one on the other."""
    parts = (*RULES[id].parts, *RULES[id].controls)
    numbers = {name: part.bar + (-1.0 if part.relation == "<" else 1.0) for part in parts for name in part.cells}
    draw = np.random.default_rng(0).normal(scale=0.1, size=40)
    found = over_samples({name: value + draw - draw.mean() for name, value in (numbers | changed).items()})
    assert RULES[id].judge(claims.Finding(**found).estimates)[0] == says
