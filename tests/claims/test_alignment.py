"""Claims about SNCD with searches of few steps, and their rules."""

import numpy as np
import pytest
import torch
from scipy import stats
from worlds import world

from latentlab import claims
from latentlab.claims import alignment, runs
from latentlab.claims.finding import Finding
from latentlab.claims.rules import ALIGNED_EDITS, RULES
from latentlab.claims.runs import Bench
from latentlab.metrics import sncd_of_codes
from latentlab.spaces import anchors_for
from latentlab.stylegan.generator import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def G() -> Generator:
    return world(config=GeneratorConfig(32, 12, 10, 2, (16, 16, 8, 8)))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(alignment, "PROJECTOR_STEPS", {True: 6, False: 6})
    runs.forget()
    yield
    runs.forget()


def test_the_dial_is_measured_face_by_face(G):
    found = claims.measure("LSAP-5", G=G)
    bench, anchors = Bench(G), anchors_for(G)
    runs_of = [bench.find(alignment.lsap_o(bench, x), "clean", 3) for x in alignment.QUICK_LAMBDAS]
    a, b, c = (sncd_of_codes(run.latent, G, anchors) for run in runs_of)
    assert found.measured["clean_o_sncd_0_to_10"] == pytest.approx(float((b / a).log().mean().exp()))
    share = torch.maximum(a - b, b - c) / (a - c)
    assert found.measured["clean_o_sncd_largest_share"] == pytest.approx(float(share.mean()))
    assert found.samples["clean_o_mse_10_to_40"]["n"] == 3
    assert 0 < found.controls["sncd_lowest"] < found.controls["sncd_of_samples"] < 1
    assert "not measured" in found.reason and "LSAP_E" in found.reason


def test_editability_compares_lsap_o_with_the_projector(G, monkeypatch):
    """Edits are made of the codes with the noise maps of the search; numbers are differences of the two."""
    seen = {}

    def grade(bench, kind, n, found, judges):
        seen.update(found)
        error = {"projector": 0.9, "lsap_o": 0.4, "w_projector": 0.5, "w_lsap_o": 0.6}
        return {(name, factor): {"error": torch.full((n,), error[name]), "identity": torch.full((n,), 1 - error[name])}
                for name in found for factor in ALIGNED_EDITS}  # fmt: skip

    monkeypatch.setattr(alignment, "_grade_edits", grade)
    found = claims.measure("LSAP-4", G=G)
    for name, run in seen.items():
        torch.testing.assert_close(run.state.draw(G), run.image)
        assert (run.latent.std(1).max() > 1e-3) == (not name.startswith("w_"))
    assert found.measured["clean_smile_error"] == pytest.approx(-0.5)
    assert found.measured["clean_smile_identity"] == pytest.approx(0.5)
    assert found.measured["clean_w_age_error"] == pytest.approx(0.1)
    assert found.measured["clean_yaw_own_error"] == pytest.approx(0.4)
    assert found.measured["clean_sncd"] < 1 and found.measured["clean_yaw_lsap_o_matched"] == 1
    assert "the generator's samples have" in found.reason


def test_noise_maps_are_kept_with_the_codes(G, tmp_path):
    bench = Bench(G, True, folder=tmp_path)
    run = alignment.lsap_o(bench, 20.0)
    first, again = (bench.find(run, "clean", 2) for _ in range(2))
    assert "space W+" in run.name and len(again.noise) == len(G.noise_shapes)
    torch.testing.assert_close(again.state.draw(G), first.image, atol=0.02, rtol=0)  # noise and picture in half


def interval(**means: float) -> Finding:
    """Numbers of 40 faces, each known to a tenth."""
    halves = {k: 0.1 * abs(v) for k, v in means.items()}
    samples = {k: {"n": 40, "sd": half * 40**0.5 / stats.t.ppf(0.975, 39)} for k, half in halves.items()}
    return Finding(means, {k: [v - halves[k], v + halves[k]] for k, v in means.items()}, samples=samples)


@pytest.mark.parametrize(
    "id, changed, says",
    [("LSAP-2", {}, "reproduced"), ("LSAP-2", {"clean_untrained_rank_error": 0.0}, "partly reproduced"),
     ("LSAP-3", {}, "reproduced"), ("LSAP-3", {"clean_12_lec_age": 0.1}, "partly reproduced"),
     ("LSAP-4", {}, "reproduced"), ("LSAP-4", {"clean_psnr": -3.0}, "partly reproduced"),
     ("LSAP-4", {"strange_age_identity": 0.0}, "partly reproduced"),
     ("LSAP-5", {}, "reproduced"), ("LSAP-5", {"clean_o_mse_5_to_10": 0.9}, "partly reproduced"),
     ("LSAP-5", {"clean_o_sncd_largest_share": 0.95}, "partly reproduced"),
     ("LSAP-6", {}, "reproduced"), ("LSAP-6", {"strange_hfgi_smile_error": 0.1}, "partly reproduced")],
)  # fmt: skip
def test_rules_of_alignment(id: str, changed: dict, says: str):
    """With all cells on the claimed side of their bars, and with one on the other."""
    numbers = {name: part.bar + (-0.4 if part.relation == "<" else 2)
               for part in RULES[id].parts for name in part.cells}  # fmt: skip
    assert np.isfinite(list(numbers.values())).all()
    assert RULES[id].judge(interval(**numbers | changed).estimates)[0] == says
