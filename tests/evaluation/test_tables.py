"""The benchmark's tables: whole, and with numbers that mean what they say."""

from latentlab.evaluation import tables
from latentlab.faces import NAMES


def test_samples_are_compared_factor_by_factor():
    table = tables.measure_samples(n=250)
    assert list(table["factor"]) == list(NAMES)
    assert table["ks"].between(0, 1).all() and (table["render_std"] > 0).all()
    assert table.set_index("factor")["agreement"]["background_light"] > 0.8


def test_inversions_are_measured_on_both_kinds_of_faces(monkeypatch):
    few = tables.real_set()[:6]
    monkeypatch.setattr(benchmark, "real_set", lambda: few)
    table = tables.measure_inversions(steps=2)
    assert table.groupby("faces")["n"].first().to_dict() == {"clean": 2, "strange": 4}
    assert set(table["method"]) == set(tables.METHODS) and (table["psnr_db"] > 5).all()


def test_networks_are_measured_beside_pixels():
    table = tables.measure_networks(people=12).set_index(["measure", "faces"])
    auc = table.loc["AUC"]
    assert (auc.loc["any state and light", ["losses", "judges"]] > auc.loc["any state and light", "pixels"]).all()
    assert (table.loc["R2"][["losses", "judges"]] > 0.5).all().all()
    assert table.loc[("2AFC", "one factor moved, noise")].between(0.6, 1).all()
