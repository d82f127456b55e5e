"""Benchmark tables: their rows, and values in the expected range."""

import math

import pytest
import torch
from torch import Tensor

from latentlab.editing.edit import State
from latentlab.evaluation import load_judges, tables, timing
from latentlab.faces import NAMES
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS, Method, keywords_of, methods_for
from latentlab.weights.generators import load


def test_samples_are_compared_factor_by_factor():
    table = tables.measure_samples(n=250)
    assert list(table["factor"]) == list(NAMES)
    assert table["ks"].between(0, 1).all() and (table["render_std"] > 0).all()
    assert table.set_index("factor")["agreement"]["background_light"] > 0.8


@pytest.fixture
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    few = tables.real_set()[:6]
    monkeypatch.setattr(tables, "real_set", lambda: few)


def test_inversions_are_graded_on_both_kinds_of_faces(few_faces: None):
    table = tables.measure_inversions(steps=2)
    assert table.groupby("faces")["n"].first().to_dict() == {"clean": 2, "strange": 4}
    assert set(table["method"]) == set(methods_for(load("faces-64"))) and (table["psnr_db"] > 5).all()
    assert {"mse", "ssim", "pn_norm", "psnr_db_standard_error"} < set(table)
    searched = table[[METHODS[name].kind == "optimiser" for name in table["method"]]]
    assert len(searched) and (searched["steps"] == 2).all()  # the others take none
    perceptual, identity = f"perceptual ({(judges := load_judges()).backbone})", f"identity ({judges.backbone})"
    assert (table[perceptual] > 0).all() and table[identity].between(-1, 1).all()


def mean_of_w(images: Tensor, G: torch.nn.Module, *, seed: int = 0) -> Inversion:
    """Stands for an encoder: a method without steps."""
    latent = G.broadcast(G.w_avg.expand(len(images), -1))
    return Inversion(State(latent), G.synthesis(latent), G, "mean_of_w", seconds=0.1)


def test_a_method_gets_only_the_keywords_that_it_accepts(few_faces: None, monkeypatch: pytest.MonkeyPatch):
    encoder = Method("mean_of_w", mean_of_w, "this test", "encoder", "W", keywords_of(mean_of_w))
    monkeypatch.setitem(METHODS, "mean_of_w", encoder)
    assert tables.accepted("mean_of_w", steps=5, seed=1) == {"seed": 1}
    assert tables.accepted("ii2s", steps=5, seed=1) == {"steps": 5, "seed": 1}
    table = tables.measure_inversions(["mean_of_w"], steps=2)
    assert len(table) == 2 and all(math.isnan(steps) for steps in table["steps"])
    monkeypatch.setattr(timing, "methods_for", lambda G: ["mean_of_w", "ii2s"])
    rows = timing._inversions("cpu", steps=2)
    assert [what for what, *_ in rows] == ["mean_of_w, one face", "ii2s, one face, 2 steps"]
    with pytest.raises(ValueError, match="method: expected one of sg2_w, .*; got 'magic'"):
        tables.measure_inversions(["magic"])


def test_learning_rates_are_compared_face_by_face(few_faces: None):
    table = tables.measure_learning_rates(["i2s"], steps=5, n=2)
    assert table["learning_rate"].tolist() == [0.01, 0.03, 0.1]
    assert table[["gained_db", "gained_low", "gained_high"]].iloc[0].tolist() == [0, 0, 0]  # against itself
    gained, psnr = table["gained_db"], table["psnr_db"]
    assert (gained - (psnr - psnr[0])).abs().max() < 1e-4  # the difference of the means is the mean of the differences
    assert (gained[1:] > 0).all()
    assert (table["gained_low"] < gained)[1:].all() and (gained < table["gained_high"])[1:].all()


def test_floors_are_compared_face_by_face(few_faces: None):
    table = tables.measure_floors(steps=3, n=2).set_index("floor")
    assert table.loc[1e-4, ["gained_db", "gained_low", "gained_high"]].tolist() == [0, 0, 0]  # against itself
    assert table["raised_axes"].sort_index().is_monotonic_increasing and table.loc[1e-8, "raised_axes"] == 0
    assert (table["own_pn_norm"] <= 1.02).all() and table.loc[1e-2, "own_pn_norm"] < 0.9  # a raised axis varies less
    assert table["psnr_db"].nunique() > 1  # the search uses the floor


def test_networks_are_measured_beside_pixels():
    table = tables.measure_networks(people=12, renders=100, choices=6).set_index(["measure", "faces"])
    auc = table.loc["AUC"]
    assert (auc.loc["any state and light", ["losses", "judges"]] > auc.loc["any state and light", "pixels"]).all()
    assert (table.loc["R2"][["losses", "judges"]] > 0.5).all().all()
    assert table.loc[("2AFC", "one factor moved, noise")].between(0.6, 1).all()
