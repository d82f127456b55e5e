"""The benchmark's tables: whole, and with numbers that mean what they say."""

import pytest
import torch

from latentlab import benchmark
from latentlab.faces import NAMES


def test_samples_are_compared_factor_by_factor():
    table = benchmark.measure_samples(n=250)
    assert list(table["factor"]) == list(NAMES)
    assert table["ks"].between(0, 1).all() and (table["render_std"] > 0).all()
    assert table.set_index("factor")["agreement"]["background_light"] > 0.8


def test_inversions_are_measured_on_both_kinds_of_faces(monkeypatch):
    few = benchmark.real_set()[:6]
    monkeypatch.setattr(benchmark, "real_set", lambda: few)
    table = benchmark.measure_inversions(steps=2)
    assert table.groupby("faces")["n"].first().to_dict() == {"clean": 2, "strange": 4}
    assert set(table["method"]) == set(benchmark.METHODS) and (table["psnr_db"] > 5).all()


def test_seconds_are_the_median_after_a_warm_up(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(ticks))
    runs = []
    assert benchmark._seconds(lambda: runs.append(1)) == 3.0
    assert len(runs) == 4


def test_networks_are_measured_beside_pixels():
    table = benchmark.measure_networks(people=12).set_index(["measure", "faces"])
    auc = table.loc["AUC"]
    assert (auc.loc["any state and light", ["losses", "judges"]] > auc.loc["any state and light", "pixels"]).all()
    assert (table.loc["R2"][["losses", "judges"]] > 0.5).all().all()
    assert table.loc[("2AFC", "one factor moved, noise")].between(0.6, 1).all()


def test_statistics_stand_beside_scikit_learn():
    rows = {what: value for what, value, _ in benchmark._statistics(20_000)}
    assert list(rows)[4:] == ["IncrementalPCA, 20,000 codes / ours", "IncrementalPCA, memory / ours"]
    assert all(value > 0 for value in rows.values())


@pytest.mark.slow
def test_speed_meets_its_marks():
    """Half of what two quiet cores reach, so that a busy machine passes and a slow path does not."""
    rows = {row.what: row.value for row in benchmark.measure_speed().itertuples()}
    cores = min(torch.get_num_threads(), 2)
    assert rows["renderer, 64 px"] > 150 * cores / 2
    assert rows["training faces-64"] > 20 * cores / 2
    assert rows["statistics, 1,000,000 codes"] < 60 and not rows["statistics, memory"] > 1_000
    assert rows["ii2s, one face, 500 steps"] < 30
