"""Claims about latent spaces on generators whose codes are known."""

from dataclasses import replace

import pytest
from worlds import CONFIG, world

from latentlab import claims
from latentlab.claims import latent_spaces
from latentlab.claims.finding import Finding
from latentlab.spaces import p_to_w, statistics_for
from latentlab.stylegan import ops


def judged(id: str, **numbers) -> str:
    return claims.CLAIMS[id].judge(Finding(**numbers))[0]


def test_skewness_of_known_worlds():
    """P normal: the leaky ReLU skews W heavily. W normal: P is what is skewed."""
    found = claims.measure("II2S-1", G=world(p_to_w))
    assert found.verdict == "reproduced", found
    assert found.measured["w_median"] > 1.2 and found.measured["p_median"] < 0.1
    assert found.measured["ratio"] == pytest.approx(found.measured["w_median"] / found.measured["p_median"])
    low, high = found.intervals["untrained_ratio"]
    assert 2 < low < found.controls["untrained_ratio"] < high and found.samples["untrained_ratio"]["n"] == 3
    found = claims.measure("II2S-1", G=world(lambda z: z))
    assert found.measured["p_median"] > 1.2 and found.verdict == "partly reproduced"
    assert found.reason.startswith("holds: the same before training; fails:")


def test_a_gaussian_world_is_normal_and_no_other():
    normal = claims.measure("II2S-2", G=world(p_to_w))
    assert normal.verdict == "not reproduced" and max(normal.measured.values()) < 0.5
    assert normal.controls["t3_henze_zirkler_512"] == 0 and normal.controls["normal_mardia_kurtosis_512"] == 1
    skewed = claims.measure("II2S-2", G=world(lambda z: p_to_w(p_to_w(z))))
    assert skewed.verdict == "reproduced" and "the paper's case" in skewed.reason
    deaf = replace(skewed, controls=skewed.controls | {"normal_axes": 0.9})
    assert claims.CLAIMS["II2S-2"].judge(deaf)[0] == "not reproduced"


def test_modes_are_told_only_where_they_were_looked_for(monkeypatch):
    found = claims.measure("II2S-3", G=world(p_to_w))
    assert found.controls["w_passing"] < 0.5 < 0.85 < found.measured["p_passing"]
    assert found.verdict == ("reproduced" if "p_dip_least_q" in found.measured else "partly reproduced")
    judge, measured = claims.CLAIMS["II2S-3"].judge, found.measured | {"p_dip_least_q": 1e-6}
    two_modes = replace(found, measured=measured, controls=found.controls | {"two_modes_dip_p": 0.0})
    assert "fails: one mode" in judge(two_modes)[1]
    monkeypatch.setattr(latent_spaces, "dip", lambda x: (_ for _ in ()).throw(ImportError("diptest")))
    found = claims.measure("II2S-3", G=world(p_to_w))
    assert found.verdict == "partly reproduced" and "without the package diptest" in found.reason
    assert "not measured: one mode on every axis" in found.reason


def test_whiteness_needs_the_right_statistics(monkeypatch):
    """What is by construction fails for statistics of other codes."""
    G = world()
    found, s = claims.measure("II2S-4", G=G), statistics_for(G)
    assert found.verdict == "by construction", found
    assert found.measured["pn_norm"] <= 1.01 and found.measured["coarse_pn_norm"] < found.measured["pn_norm"] + 1e-9
    for wrong, part in {
        replace(s, eigenvalues=s.eigenvalues * 1.2): "variance 1",
        replace(s, mean=s.mean + 0.1 * s.eigenvalues.sqrt().mean()): "mean 0",
        replace(s, eigenvectors=s.eigenvectors.roll(1, 0)): "correlation 0",
    }.items():
        monkeypatch.setattr(latent_spaces, "statistics_for", lambda _, wrong=wrong: wrong)
        found = claims.measure("II2S-4", G=G)
        assert found.verdict == "not reproduced", found
        assert part in found.reason.split("control that fails: ")[1].split("; ")[0], found


def test_scale_is_free_only_where_it_is_demodulated(monkeypatch):
    found = claims.measure("LSAP-1", G=world(config=replace(CONFIG, w_dim=16)))
    assert found.verdict == "partly reproduced" and "holds: a > 0 on convolutions, a code of W+" in found.reason
    assert found.measured["least_squares_residual"] < 1e-9 and found.measured["shared_codes"] > 0.01
    found = claims.measure("LSAP-1", G=world())  # 16 channels of 10 numbers: least squares leaves a residual
    assert found.measured["least_squares_residual"] > 0.01 and "toRGB, a code of W+" in found.reason
    monkeypatch.setattr(ops, "demodulation", lambda weight, style: style.new_ones(len(style), len(weight)))
    assert claims.measure("LSAP-1", G=world()).verdict == "not reproduced"


def test_samplers_are_compared_by_their_ratio():
    found = claims.measure("II2S-5", G=world())
    for network in ("judge", "losses"):
        ratio = found.measured[f"{network}_fid_w"] / found.measured[f"{network}_fid_mapping"]
        low, high = found.intervals[f"{network}_w_ratio"]
        assert found.measured[f"{network}_w_ratio"] == pytest.approx(ratio) and low < ratio < high
        # An untrained world is far from faces, and so are all its samplers: nothing to tell them apart.
        assert found.controls[f"{network}_fid_pn_to_mapping"] < 0.1 * found.measured[f"{network}_fid_mapping"]
    assert found.verdict == "not reproduced" and "control that fails: FID sees a bad sampler" in found.reason


@pytest.mark.parametrize(
    "pn, w, says",
    [(3.28 / 2.81, 76.63 / 2.81, "reproduced"), (1, 1, "partly reproduced"), (9, 9, "partly reproduced"),
     (2, 1, "not reproduced")],
)  # fmt: skip
def test_the_papers_own_fids_are_a_reproduction(pn: float, w: float, says: str):
    values = {f"{network}_{k}_ratio": v for network in ("judge", "losses")
              for k, v in (("pn", pn), ("coarse_pn", pn), ("w", w))}  # fmt: skip
    intervals = {k: [0.95 * v, 1.05 * v] for k, v in values.items()}
    controls = {f"{network}_w_diagonal_ratio": 5.0 for network in ("judge", "losses")}
    assert judged("II2S-5", measured=values, intervals=intervals, controls=controls) == says
    values, intervals = values | {"losses_w_ratio": 1.0}, intervals | {"losses_w_ratio": [0.9, 1.1]}
    assert judged("II2S-5", measured=values, intervals=intervals, controls=controls) != "reproduced"
