"""Claims about SNCD with searches of few steps, and their rules."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from scipy import stats
from worlds import world

from latentlab import claims
from latentlab.claims import alignment, ranks, refinement, runs
from latentlab.claims.finding import Finding
from latentlab.claims.ranks import rank_correlation
from latentlab.claims.reasons import why
from latentlab.claims.rules import ALIGNED_EDITS, RULES
from latentlab.claims.runs import Bench
from latentlab.editing.edit import State
from latentlab.inversion.result import Inversion
from latentlab.metrics import sncd_of_codes
from latentlab.spaces import anchors_for, fingerprint
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
    steps = (a.mean() - b.mean(), b.mean() - c.mean())
    share = max(abs(step) for step in steps) / abs(sum(steps))
    assert found.measured["clean_o_sncd_largest_share"] == pytest.approx(float(share))
    assert found.samples["clean_o_sncd_largest_share"] == {"n": 3}
    assert found.samples["clean_o_mse_10_to_40"]["n"] == 3
    assert 0 < found.controls["sncd_lowest"] < found.controls["sncd_of_samples"] < 1
    assert "not measured" in found.reason and "LSAP_E" in found.reason


def test_the_largest_share_is_of_the_mean_over_faces():
    """A face whose change is nearly 0 does not decide; steps back and forth count by their size."""
    values = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.5, 0.6, 0.4, 1.3], [0.3, 0.2, 0.1, 0.999]])
    statistic, faces = alignment.largest_share(values), np.arange(4.0)
    assert statistic(faces) == pytest.approx(0.30025 / 0.60025)  # face by face: 0.71, 0.5, 0.67, 301
    assert statistic(faces[:3]) == pytest.approx(0.5 / 0.8)
    picks = np.array([[0, 1, 2, 2], [3, 3, 1, 0]])
    expected = [float(alignment.largest_share(values[:, row])(faces)) for row in picks]
    assert statistic(picks.astype(float), axis=1) == pytest.approx(expected)
    back = torch.tensor([[1.0], [1.5], [0.8]])
    assert alignment.largest_share(back)(np.zeros(1)) == pytest.approx(0.7 / 0.2)
    up = torch.tensor([[1.0], [1.1], [1.5]])  # SNCD that rises is no smooth dial of a negative share
    assert alignment.largest_share(up)(np.zeros(1)) == pytest.approx(0.8)


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


def table_of_runs(G, path, monkeypatch, sizes: dict[str, float], faces: int = 3):
    """A table of ``latentlab benchmark`` whose numbers are those of the run times one more than that of the face."""
    rows = []
    for name, size in sizes.items():
        for kind in ("clean", "strange"):
            names = ["mse", "perceptual (x)", "sncd", *(f"lec {factor}" for factor in ALIGNED_EDITS)]
            rows += [{"method": name, "faces": kind, "image": i} | dict.fromkeys(names, size * (i + 1))
                     for i in range(faces)]  # fmt: skip
    table = pandas.DataFrame(rows).assign(generator=fingerprint(G, "generator"))
    table.to_csv(path / "encoders.csv", index=False)
    monkeypatch.setattr(runs, "TABLES", path)


def test_the_dial_of_encoders_is_read_from_their_runs(G, tmp_path, monkeypatch):
    table_of_runs(G, tmp_path, monkeypatch, {"L0": 1.0, "L0.25": 0.5, "L0.5": 0.4})
    assert not any(name.startswith("clean_e_") for name in claims.measure("LSAP-5", G=G).measured)
    table_of_runs(G, tmp_path, monkeypatch, {"L0": 1.0, "L0.25": 0.5, "L0.5": 0.4, "L1": 0.2})
    found = claims.measure("LSAP-5", G=G)
    assert found.measured["clean_e_mse_0_to_0.25"] == pytest.approx(0.5)
    assert found.measured["clean_e_lec_0.5_to_1"] == pytest.approx(0.5)
    assert found.measured["clean_e_sncd_largest_share"] == pytest.approx(0.5 / 0.8)
    cells = {name for part in RULES["LSAP-5"].parts for name in part.cells if name.startswith("clean_e")}
    assert cells <= found.measured.keys()


def test_lsap_e_is_compared_with_e4e_face_by_face(G, tmp_path, monkeypatch):
    table_of_runs(G, tmp_path, monkeypatch, {"D": 1.0, "LSAP": 0.5, "LSAP2": 2.0})
    found = claims.measure("LSAP-3", G=G)
    assert found.measured["clean_11_mse"] == pytest.approx(-1) and found.measured["clean_12_lec_yaw"] == 2
    assert found.samples["clean_11_sncd"]["n"] == 3
    assert found.controls["e4e_clean_lec_yaw"] == pytest.approx(2) and "e4e_clean_mse" not in found.measured
    assert {name for part in RULES["LSAP-3"].parts for name in part.cells if "clean" in name} <= found.measured.keys()


def test_why_lsap_e_is_less_alike_is_told_from_the_record():
    """Where e4e's codes lie below the samples already, and only there."""
    names = {f"{kind}_{seed}_{what}": x for kind in ("clean", "strange") for seed in (11, 12)
             for what, x in (("mse", 0.1), ("sncd", -0.1))}  # fmt: skip
    below = {"sncd_of_samples": 0.03, "e4e_clean_sncd": 0.02, "e4e_strange_sncd": 0.025}
    record = Finding(names, controls=below, verdict="partly reproduced", claim=claims.CLAIMS["LSAP-3"])
    assert "0.0200 (clean faces) and 0.0250 (strange faces) against 0.0300" in why(record)
    assert not why(replace(record, controls=below | {"e4e_strange_sncd": 0.04}))
    assert not why(replace(record, measured=names | {"clean_11_mse": -0.1}))


def test_why_lsap_o_does_not_edit_better_is_told_from_the_record():
    """Where its codes lie below the samples and cost likeness and the person."""
    names = {f"{kind}_{what}": x for kind in ("clean", "strange") for what, x in (
        ("lsap_o_sncd", 0.016), ("psnr", -4.25), ("age_identity", -0.1), ("w_age_identity", 0.1),
        ("age_projector_matched", 0.5), ("age_lsap_o_matched", 0.75), ("w_age_lsap_o_matched", 0.1),
        ("yaw_projector_matched", 0.8), ("yaw_lsap_o_matched", 0.9))}  # fmt: skip
    record = Finding(names, controls={"sncd_of_samples": 0.03}, verdict="not reproduced", claim=claims.CLAIMS["LSAP-4"])
    assert "0.016 (clean faces) and 0.016 (strange faces) against 0.030" in why(record)
    assert "4.2 dB (clean)" in why(record) and "for 90% of the turns of the head instead of 80%" in why(record)
    assert "for 75% of the other edits instead of 50%" in why(record)
    for other in ({"clean_lsap_o_sncd": 0.04}, {"strange_psnr": 0.1}, {"clean_age_identity": 0.1}):
        assert not why(replace(record, measured=names | other))


def test_why_the_dial_is_uneven_is_told_from_the_record():
    """Where one step makes nearly the whole change of SNCD."""
    names = {"clean_o_sncd_largest_share": 0.91, "strange_o_sncd_largest_share": 0.93}
    record = Finding(names, verdict="partly reproduced", claim=claims.CLAIMS["LSAP-5"])
    assert "91% (clean faces) and 93% (strange faces)" in why(record)
    assert not why(replace(record, measured=names | {"clean_o_sncd_largest_share": 0.5}))


def test_why_sncd_does_not_rank_edits_is_told_from_the_record():
    """Where it ranks realism, and the errors of edits the other way round."""
    names = {"clean_rank_realism": 0.9, "clean_rank_error": -0.85}
    record = Finding(names, verdict="partly reproduced", claim=claims.CLAIMS["LSAP-2"])
    assert "clean faces: +0.90 and -0.85" in why(record) and "strange" not in why(record)
    assert not why(replace(record, measured=names | {"clean_rank_error": 0.5}))
    assert not why(replace(record, measured=names | {"clean_rank_realism": -0.5}))


def test_why_refinements_inherit_no_advantage_is_told_from_the_record():
    """Where LSAP_E is the base that is less like the faces, and PTI's persons do not depend on the base."""
    names = {"clean_hfgi_perceptual": 0.004, "clean_hfgi_yaw_error": 0.02, "clean_pti_yaw_identity": -0.003}
    record = Finding(names, controls={"e4e_clean_pti_perceptual": 0.001}, verdict="not reproduced",
                     claim=claims.CLAIMS["LSAP-6"])  # fmt: skip
    assert "0.0040 (clean faces), and turns" in why(record) and "differ by at most 0.003" in why(record)
    assert "strange" not in why(record)
    for other in ({"clean_hfgi_perceptual": -0.004}, {"clean_pti_yaw_identity": -0.05}):
        assert not why(replace(record, measured=names | other))


def test_rank_correlation_is_that_of_scipy():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 7, 12))
    b[2, :3] = np.nan
    statistic, faces = rank_correlation(a, b), np.arange(12.0)
    assert statistic(faces) == pytest.approx(stats.spearmanr(a.mean(1), np.nanmean(b, 1)).statistic)
    picks = draw.integers(12, size=(5, 12))
    assert statistic(faces[picks], axis=1)[3] == pytest.approx(
        stats.spearmanr(a[:, picks[3]].mean(1), np.nanmean(b[:, picks[3]], 1)).statistic
    )


def test_ranks_are_over_all_methods_and_over_those_not_trained_on_sncd(G, monkeypatch):
    """With qualities that are SNCD itself, and minus it, the correlations are 1 and -1."""
    encoded = {}

    def encode(images, G, name):
        draw = torch.Generator().manual_seed(len(name))
        w = G.broadcast(G.mapping(torch.randn(len(images), G.z_dim, generator=draw)))
        encoded[name] = Inversion(State(w), G.synthesis(w), G, name)
        return encoded[name]

    def qualities(bench, made, kind, n):
        rulers = np.stack([sncd_of_codes(inv.latent, G, anchors_for(G)).numpy() for inv in made.values()])
        return {what: -rulers if what == "realism" else rulers for what in ranks.QUALITIES}

    monkeypatch.setattr(ranks, "PROJECTOR_STEPS", {False: 6})
    monkeypatch.setattr(ranks, "QUICK_STEPS", 3)
    monkeypatch.setattr(ranks, "invert", encode)
    monkeypatch.setattr(ranks, "_qualities", qualities)
    found = claims.measure("LSAP-2", G=G)
    assert found.settings["methods"] == 9
    assert found.measured["clean_rank_error"] == 1 and found.measured["clean_untrained_rank_realism"] == -1
    psp, e4e = (sncd_of_codes(encoded[name].latent, G, anchors_for(G)) for name in ("psp", "e4e"))
    assert found.measured["clean_psp_minus_e4e"] == pytest.approx(float((psp - e4e).mean()), abs=1e-6)
    assert {name for part in RULES["LSAP-2"].parts for name in part.cells if "clean" in name} <= found.measured.keys()


def test_refinements_of_both_encoders_are_compared(G, monkeypatch):
    """An evaluation that gives each base a number of its own; the cells are the differences."""
    made = []

    def refine(images, G, name, base=None, **knobs):
        made.append((name, base and base.method, knobs))
        state = State(G.broadcast(G.w_avg.expand(len(images), -1)))
        return Inversion(state, images, G, name)

    def evaluate(inversions, faces, judges, *, edits, matched):
        (base,) = inversions
        size = 3.0 if base == "e4e" else 1.0
        names = [f"{factor}{strength:+g} {what}" for factor, strength in edits for what in ("error", "identity (x)")]
        return pandas.DataFrame([dict.fromkeys([*names, "perceptual (x)"], size)] * len(faces))

    monkeypatch.setattr(refinement, "invert", refine)
    monkeypatch.setattr(refinement, "evaluate", evaluate)
    found = claims.measure("LSAP-6", G=G)
    assert ("pti", "lsap_e", {"steps": 3}) in made and ("hfgi", "e4e", {}) in made
    cells = {name for part in RULES["LSAP-6"].parts for name in part.cells if "clean" in name}
    assert {found.measured[name] for name in cells} == {-2.0} and found.controls["e4e_clean_pti_perceptual"] == 3


def test_tuned_generators_are_kept(G, monkeypatch, tmp_path):
    """A second measurement reads them; another encoder, other steps or a damaged file are made anew."""
    made, (weight, p) = [], next(pair for pair in G.named_parameters() if not pair[0].startswith("mapping"))

    def refine(images, G, name, base=None, **knobs):
        made.append(name)
        state = State(G.broadcast(G.w_avg.expand(len(images), -1)))
        tuned = {weight: p.detach().expand(len(images), *p.shape) + 0.5} if name == "pti" else None
        return Inversion(replace(state, tuned=tuned), images, G, name, knobs={"encoder": name})

    monkeypatch.setattr(refinement, "invert", refine)
    bench = Bench(G, folder=tmp_path)
    for expected, (base, knobs) in ((1, ("e4e", {"steps": 3})), (1, ("e4e", {"steps": 3})), (2, ("e4e", {"steps": 4})),
                                    (3, ("lsap_e", {"steps": 4}))):  # fmt: skip
        found = refinement._refine(bench, "pti", base, "clean", range(2), knobs)
        torch.testing.assert_close(found.state.tuned[weight][0], p.detach() + 0.5)
        assert made.count("pti") == expected == len(list((tmp_path / "pti").iterdir()))
    refinement._refine(bench, "hfgi", "e4e", "clean", range(2), {})
    kept = list((tmp_path / "pti").iterdir())
    assert len(kept) == 3  # what is fast to make is not kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="expected an inversion, got a damaged file"):
        refinement._refine(bench, "pti", "e4e", "clean", range(2), {"steps": 3})
    assert made.count("pti") == 4
