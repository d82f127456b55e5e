"""The comparison of regularisers: its members, paired differences, page and plot."""

from itertools import product

import numpy as np
import pandas
import pytest
from worlds import world

from latentlab.claims import alignment, regularizers, runs
from latentlab.claims.runs import Bench
from latentlab.stylegan.generator import GeneratorConfig


def table_of(settings: dict[str, dict[str, float]], n: int = 6) -> pandas.DataFrame:
    """{family: {setting: error on clean faces}}; on strange faces the order of the settings is reversed."""
    draw, rows = np.random.default_rng(0), []
    for family, errors in settings.items():
        for kind, values in (("clean", errors.values()), ("strange", reversed(errors.values()))):
            for setting, error in zip(errors, values, strict=True):
                for image, factor in product(range(n), ("smile", "yaw")):
                    noise = 0.01 * draw.normal()
                    rows.append({"family": family, "setting": setting, "faces": kind, "image": image,
                                 "factor": factor, "psnr_db": 20 + error, "error": error + noise, "gain": 0.5,
                                 "residual": error, "leakage": 0.1})  # fmt: skip
    return pandas.DataFrame(rows)


def test_settings_are_chosen_on_the_other_kind_of_faces():
    """On clean faces setting 0 is better, on strange ones 1: each kind is judged at what is best on the other."""
    table = table_of({"II2S": {"0": 0.5, "1": 0.9}, "LSAP_O": {"0": 0.6, "1": 0.7}})
    found = regularizers.compare_families(table).set_index("faces")
    assert found.loc["clean", "first"] == "II2S 1" and found.loc["strange", "second"] == "LSAP_O 0"
    assert found.loc["clean", "error"] == pytest.approx(0.9 - 0.7, abs=0.02)
    assert found.loc["clean", "psnr_db"] == pytest.approx(0.2)
    assert found.loc["clean", "error low"] < 0.2 < found.loc["clean", "error high"]


def test_edits_that_one_family_cannot_make_are_left_out_of_both():
    """II2S cannot make the difficult edit of yaw: its mean looks better, its paired difference must not."""
    table = table_of({"II2S": {"0": 0.5}, "LSAP_O": {"0": 0.5}})
    yaw = table["factor"] == "yaw"
    table.loc[yaw, "error"] += 1
    table.loc[yaw & (table["family"] == "II2S"), list(regularizers.EDITED)] = np.nan
    found = regularizers.compare_families(table).set_index("faces")
    assert found["error"].to_numpy() == pytest.approx([0, 0], abs=0.02)
    page = regularizers.describe_regularizers(table)
    assert page.count("| 50% |") == 2 and page.count("| 100% |") == 2


def test_the_page_tells_all_members_and_pairs():
    page = regularizers.describe_regularizers(table_of({"II2S": {"0": 0.5, "0.005": 0.9}, "e4e": {"A": 0.6, "D": 0.7}}))
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert sum(line.startswith("| e4e | D |") for line in rows) == 2
    assert sum(line.startswith("| clean | II2S") for line in rows) == 1
    assert "6 faces of each kind" in page and "regularizers.png" in page


def test_searches_are_measured_and_encoders_left_out_without_their_runs(monkeypatch, tmp_path):
    G = world(config=GeneratorConfig(32, 12, 10, 2, (16, 16, 8, 8)))
    monkeypatch.setattr(alignment, "PROJECTOR_STEPS", {False: 3})
    monkeypatch.setattr(regularizers, "LAMBDAS", (0.0,))
    monkeypatch.setattr(regularizers, "LAMBDAS_O", (5.0,))
    monkeypatch.setattr(regularizers, "is_measured", lambda names, bench: False)

    def graded(inversions, faces, judges, *, edits, matched):
        names = [f"{factor}{strength:+g} {what}" for factor, strength in edits for what in regularizers.EDITED]
        return pandas.DataFrame([dict.fromkeys([*names, "psnr_db"], 2.0)] * len(faces))

    monkeypatch.setattr(regularizers, "evaluate", graded)
    runs.forget()
    table = regularizers.measure_regularizers(Bench(G), n=2)
    runs.forget()
    assert set(table["family"]) == {"II2S", "LSAP_O"} and len(table) == 2 * 2 * 2 * len(regularizers.ALIGNED_EDITS)
    assert (table["error"] == 2).all()
    regularizers.draw_regularizers(table).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
