"""The ledger: rules on known numbers and known generators, and the committed record."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import nn

from latentlab import claims
from latentlab.claims import inversion, latent_spaces
from latentlab.claims.finding import Finding, verdict
from latentlab.cli import main
from latentlab.editing.edit import State
from latentlab.inversion.result import Inversion
from latentlab.metrics import psnr
from latentlab.spaces import fingerprint, p_to_w, statistics_for
from latentlab.stylegan import ops
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights.generators import load

CONFIG = GeneratorConfig(16, 12, 10, 2, (16, 16, 8))
RECORDED = list(claims.table()["id"])


class Mapping(nn.Module):
    """Stands in for a mapping network of 2 layers and gives codes of known distribution."""

    def __init__(self, codes):
        super().__init__()
        self.codes = codes

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.codes(z[:, :10])


def world(codes=None, config: GeneratorConfig = CONFIG) -> Generator:
    G = Generator(config, seed=3).requires_grad_(False)
    if codes:
        G.mapping = Mapping(codes)
    return G


def judged(id: str, **numbers) -> str:
    return claims.CLAIMS[id].rule(Finding(**numbers))[0]


def test_a_verdict_counts_parts_and_heeds_controls():
    assert verdict({"a": True, "b": True}) == ("reproduced", "holds: a, b")
    assert verdict({"a": True, "b": False}, remark="So") == ("partly reproduced", "holds: a; fails: b. So")
    assert verdict({"a": False}, {"c": True})[0] == "not reproduced"
    assert verdict({"a": True}, {"c": False}) == ("not reproduced", "control at fault: c; holds: a")


def test_skewness_of_known_worlds():
    """P normal: the leaky ReLU skews W heavily. W normal: P is what is skewed."""
    found = claims.measure("II2S-1", G=world(p_to_w))
    assert found.verdict == "reproduced" and found.measured["w_median"] > 1.2 and found.measured["p_median"] < 0.1
    found = claims.measure("II2S-1", G=world(lambda z: z))
    assert found.verdict == "not reproduced" and found.measured["p_median"] > 1.2
    low, high = found.intervals["p_median"]
    assert low < found.measured["p_median"] < high


def test_a_gaussian_world_is_normal_and_no_other():
    normal = claims.measure("II2S-2", G=world(p_to_w))
    assert normal.verdict == "not reproduced" and max(normal.measured.values()) < 0.5
    assert normal.controls["t3_henze_zirkler_512"] == 0 and normal.controls["normal_mardia_kurtosis_512"] == 1
    skewed = claims.measure("II2S-2", G=world(lambda z: p_to_w(p_to_w(z))))
    assert skewed.verdict == "reproduced" and "the paper's case" in skewed.reason
    deaf = replace(skewed, controls=skewed.controls | {"normal_axes": 0.9})
    assert claims.CLAIMS["II2S-2"].rule(deaf)[0] == "not reproduced"


def test_modes_are_told_only_where_they_were_looked_for(monkeypatch):
    found = claims.measure("II2S-3", G=world(p_to_w))
    assert found.controls["w_passing"] < 0.5 < 0.85 < found.measured["p_passing"]
    assert found.verdict == ("reproduced" if "p_dip_least_q" in found.measured else "partly reproduced")
    rule, measured = claims.CLAIMS["II2S-3"].rule, found.measured | {"p_dip_least_q": 1e-6}
    two_modes = replace(found, measured=measured, controls=found.controls | {"two_modes_dip_p": 0.0})
    assert "fails: one mode" in rule(two_modes)[1]
    monkeypatch.setattr(latent_spaces, "dip", lambda x: (_ for _ in ()).throw(ImportError("diptest")))
    found = claims.measure("II2S-3", G=world(p_to_w))
    assert found.verdict == "partly reproduced" and "without the package diptest" in found.reason


def test_whiteness_needs_the_right_statistics(monkeypatch):
    G = world()
    found, s = claims.measure("II2S-4", G=G), statistics_for(G)
    assert found.verdict == "reproduced", found
    for wrong, part in {
        replace(s, eigenvalues=s.eigenvalues * 1.2): "variance 1",
        replace(s, mean=s.mean + 0.1 * s.eigenvalues.sqrt().mean()): "mean 0",
        replace(s, eigenvectors=s.eigenvectors.roll(1, 0)): "correlation 0",
    }.items():
        monkeypatch.setattr(latent_spaces, "statistics_for", lambda _, wrong=wrong: wrong)
        found = claims.measure("II2S-4", G=G)
        assert found.verdict == "partly reproduced" and part in found.reason.split("fails: ")[1], found


def test_scale_is_free_only_where_it_is_demodulated(monkeypatch):
    found = claims.measure("LSAP-1", G=world(config=replace(CONFIG, w_dim=16)))
    assert found.verdict == "partly reproduced" and "holds: a > 0 on convolutions, other codes of W+" in found.reason
    assert found.measured["least_squares_residual"] < 1e-9 and found.measured["shared_codes"] > 0.01
    found = claims.measure("LSAP-1", G=world())  # 16 channels of 10 numbers: least squares leaves a residual
    assert found.measured["least_squares_residual"] > 0.01 and "toRGB, other codes of W+" in found.reason
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
    assert found.verdict == "not reproduced" and "control at fault: FID sees a bad sampler" in found.reason


@pytest.mark.parametrize(
    "pn, w, says",
    [(3.28 / 2.81, 76.63 / 2.81, "reproduced"), (1, 1, "partly reproduced"), (9, 9, "partly reproduced"),
     (2, 1, "not reproduced")],
)  # fmt: skip
def test_the_papers_own_fids_are_a_reproduction(pn: float, w: float, says: str):
    ends = {"pn": [0.95 * pn, 1.05 * pn], "w": [0.95 * w, 1.05 * w]}
    intervals = {f"{network}_{k}_ratio": v for network in ("judge", "losses") for k, v in ends.items()}
    controls = {f"{network}_w_diagonal_ratio": 5.0 for network in ("judge", "losses")}
    assert judged("II2S-5", measured={}, intervals=intervals, controls=controls) == says
    one_network = intervals | {"losses_w_ratio": [0.9, 1.1]}
    assert judged("II2S-5", measured={}, intervals=one_network, controls=controls) != "reproduced"


@pytest.fixture(scope="module")
def G() -> Generator:
    """Large enough for the perceptual distance."""
    return world(config=GeneratorConfig(32, 12, 10, 2, (16, 16, 8, 8)))


@pytest.fixture
def told(monkeypatch):
    """Puts in the place of ``invert`` one that leaves a known error: ``told.error`` of an inversion's knobs, of the
    target's values, and codes of known norm in PN+ at half and at the end. ``told.calls`` are these knobs."""

    class Told:
        calls: list = []
        error, norms = staticmethod(lambda **knobs: 0.1), staticmethod(lambda **knobs: (1.0, 1.0))

    def invert(images, G, method="ii2s", *, statistics, record, **knobs):
        Told.calls.append(knobs := knobs | {"method": method, "floor": statistics.floor})
        image, condition = (1 - Told.error(**knobs)) * images, knobs.get("condition")
        v = torch.ones(len(images), G.num_ws, G.w_dim)
        path = torch.stack([statistics.pn_to_w(v * norm**0.5) for norm in (1.0, *Told.norms(**knobs))])
        if condition is not None:  # the conditions are projections: what is seen is found as well by all
            image = 0.7 * condition(images) + image - condition(image)
        return Inversion(State(path[-1]), image, G, method, path=path)

    for size, value in {"BASE": (3, 10), "CONDITIONAL": (3, 10), "Z_PLUS": (3, 10), "SPREAD": (3, 10, 10, 3)}.items():
        monkeypatch.setattr(inversion, size, {False: value, True: value})
    monkeypatch.setattr(inversion, "invert", invert)
    inversion._run.cache_clear()
    yield Told
    inversion._run.cache_clear()


def test_drift_is_the_growth_of_the_norm(told, G):
    told.norms = lambda lambda_, **_: (20.0, 60.0) if lambda_ == 0 else (1.0, 1.5) if lambda_ == 0.005 else (2.0, 4.0)
    found = claims.measure("II2S-6", full=True, G=G)
    for name, number in {"pn_norm_free": 60, "growth_free": 3, "pn_norm_ratio_0.001": 15, "pn_norm_ratio_0.005": 40,
                         "growth_0.005": 1.5}.items():  # fmt: skip
        assert found.measured[name] == pytest.approx(number, rel=1e-3), name
        assert found.intervals[name] == pytest.approx([number, number], rel=1e-3)
    assert found.controls["own_growth_free"] == pytest.approx(3, rel=1e-3)
    # A lower floor makes the same codes of lambda 0 improbable, a higher one probable.
    assert found.controls["second_pn_norm_free"] > 59.9 > found.controls["coarse_pn_norm_free"]


def test_claims_share_their_runs(told, G):
    claims.measure("II2S-6", full=True, G=G)
    n = len(told.calls)
    claims.measure("II2S-7", full=True, G=G)
    floor = statistics_for(G).floor
    new = [(call["lambda_"], call["floor"]) for call in told.calls[n:]]
    assert new == [(0.01, floor), (0.01, floor * 1e-4)]


def test_the_sweep_pairs_each_face_with_itself(told, G):
    told.error = lambda lambda_, **_: 0.1 * 2 ** inversion.LAMBDAS.index(lambda_)
    told.norms = lambda lambda_, **_: (1.0, 8 / 2 ** inversion.LAMBDAS.index(lambda_))
    found = claims.measure("II2S-7", full=True, G=G)
    assert found.verdict == "reproduced" and "at the second floor" in found.reason
    low, high = found.intervals["psnr_0"]
    assert high - low > 0.1  # faces differ, their differences do not: half of the error is 6.02 dB
    assert found.intervals["psnr_0.001_to_0.005"] == pytest.approx([-6.02, -6.02], abs=0.01)
    assert found.intervals["pn_norm_0_to_0.001"] == pytest.approx([0.5, 0.5], rel=1e-3)
    turned = found.intervals | {"second_psnr_0.005_to_0.01": [-0.1, 0.1]}
    assert claims.CLAIMS["II2S-7"].rule(replace(found, intervals=turned))[0] == "partly reproduced"


def test_only_the_hidden_part_is_told_from_the_known_one(told, G):
    told.error = lambda lambda_, **_: 0.1 if lambda_ else 0.2
    found = claims.measure("II2S-10", full=True, G=G)
    for task in inversion.TASKS:
        assert found.measured[f"{task}_hidden"] == pytest.approx(0.25, rel=1e-3)
        assert found.controls[f"known_{task}"] == pytest.approx(1, rel=1e-3)
        assert found.measured[f"{task}_psnr_i2s"] < found.measured[f"{task}_psnr_ii2s"]
    (row,) = inversion.TASKS["half"](x := torch.ones(1, 3, 32, 32))(x)[:, 0, 0]
    assert row[:16].all() and not row[16:].any()
    assert "half: hidden" in found.reason.split("fails")[0]


def test_z_plus_is_compared_at_every_seed(told, G):
    told.error = lambda method, seed=0, **_: 0.1 if method == "ii2s" else 0.2 if seed == 0 else 0.4
    found = claims.measure("II2S-12", full=True, G=G)
    gains = {k: v for k, v in found.measured.items() if k != "gain_seed_0" and k.startswith("gain_")}
    expected = {"gain_twice_the_steps": 6.02, "gain_seed_1": 12.04}
    assert gains.pop("gain_random_start") != 0 and gains == pytest.approx(expected, abs=0.01)
    (long,) = [call for call in told.calls if call["steps"] == 20]
    assert long["method"] == "z_plus" and sum("initial" in call for call in told.calls) == 1
    # Half of the long run is its codes after as many steps as the others have.
    half = statistics_for(G).pn_to_w(torch.ones(3, G.num_ws, G.w_dim))
    seed_0 = found.measured["psnr_w"] - float(psnr(G.synthesis(half), inversion._targets(G, 3)).mean())
    assert found.measured["gain_seed_0"] == pytest.approx(seed_0, abs=1e-4)
    assert found.measured["gain"] == pytest.approx((seed_0 + 12.04) / 2, abs=0.01)


def test_spread_is_measured_by_the_distance_of_people(told, G):
    """Runs that leave errors of 0.1, 0.2 and 0.3 are 0.1, 0.1 and 0.2 of each picture apart."""
    starts = iter((0.1, 0.15, 0.2))
    told.error = lambda method, seed=0, **_: 0.1 * (1 + seed) if method == "pulse" else next(starts)
    found = claims.measure("II2S-13", G=G)
    x = inversion._targets(G, 3)
    apart = 0.4 / 3 * x.square().mean((1, 2, 3)).sqrt().mean()
    others = inversion._targets(G, inversion.PEOPLE)
    people = torch.stack([(a - b).square().mean().sqrt() for a, b in combinations(others, 2)]).mean()
    for size in (32, 8):
        assert found.measured[f"pulse_{size}_pixels"] == pytest.approx(float(apart / people), rel=1e-4)
        assert found.measured[f"pulse_{size}_by_ii2s_pixels"] == pytest.approx(2, rel=1e-4)
    starts = [call["initial"] for call in told.calls if call["method"] == "ii2s"]
    assert not torch.allclose(starts[0], starts[1]) and torch.equal(starts[0][0], starts[0][1])
    assert [call["size"] for call in told.calls if call["method"] == "pulse"] == [32] * 3 + [8] * 3


def interval(**means: float) -> dict[str, list[float]]:
    return {k: [v - 0.1 * abs(v), v + 0.1 * abs(v)] for k, v in means.items()}


@pytest.mark.parametrize(
    "id, changed, says",
    [("II2S-6", {}, "reproduced"), ("II2S-6", {"late_psnr_gain": 1.0}, "partly reproduced"),
     ("II2S-6", {"coarse_growth_free": 1.0}, "partly reproduced"),
     ("II2S-10", {}, "reproduced"), ("II2S-10", {"half_identity": 0.01}, "partly reproduced"),
     ("II2S-13", {}, "reproduced"), ("II2S-13", {"pulse_32_perceptual": 0.5}, "partly reproduced"),
     ("II2S-13", {"ii2s_perceptual": 0.3}, "partly reproduced"),
     ("II2S-13", {"pulse_8_by_ii2s_perceptual": 2.0}, "partly reproduced")],
)  # fmt: skip
def test_rules_of_inversion(id: str, changed: dict, says: str):
    """II2S-6: the paper's own Table 1 is almost no gain."""
    tasks = {f"{task}_{what}": v for task in inversion.TASKS
             for what, v in (("hidden", 0.8), ("perceptual", -0.1), ("identity", -0.1))}  # fmt: skip
    numbers = {
        "II2S-6": {"growth_free": 2.0, "coarse_growth_free": 1.5, "late_psnr_gain": 0.2, "psnr_gain_0.001": 0.45,
                   **{f"{floor}pn_norm_ratio_{k}": 9.0 for floor in ("", "coarse_") for k in (0.001, 0.005)}},
        "II2S-10": tasks,
        "II2S-13": {"pulse_32_perceptual": 0.9, "pulse_8_perceptual": 0.9, "ii2s_perceptual": 0.1,
                    "pulse_32_by_ii2s_perceptual": 9.0, "pulse_8_by_ii2s_perceptual": 9.0},
    }[id]  # fmt: skip
    assert judged(id, measured={"psnr_gain_0.005": 2.0}, intervals=interval(**numbers | changed)) == says


def test_the_ledger_gives_back_what_was_entered(tmp_path):
    path, G = tmp_path / "new" / "claims.json", world()
    (first,) = claims.write(["LSAP-1"], path, full=False, G=G)
    (second,) = claims.write(["II2S-1"], path, full=False, G=G)
    assert claims.recorded("LSAP-1", path) == first and claims.recorded("II2S-1", path) == second
    assert first.provenance["images"] is None and first.provenance["command"] == "latentlab claims --only LSAP-1"
    table = claims.table(path)
    assert list(table["id"]) == ["II2S-1", "LSAP-1"] and "w_median" in table["measured"][0]
    assert list(table.columns) == ["id", "statement", "paper value", "measured", "verdict", "reason"]
    with pytest.raises(ValueError, match=r"expected a claim that the ledger holds \(II2S-1, LSAP-1\), got 'II2S-2'"):
        claims.recorded("II2S-2", path)
    with pytest.raises(ValueError, match="id: expected one of II2S-1, .*, LSAP-1, got 'II2S-99'"):
        claims.measure("II2S-99")


@pytest.mark.parametrize("id", RECORDED)
def test_the_committed_verdicts_are_what_the_rules_say(id: str):
    found = claims.recorded(id)
    assert claims.CLAIMS[id].rule(found) == (found.verdict, found.reason)
    assert "--full" in found.provenance["command"] and found.provenance["images"] > 0


def test_every_claim_is_recorded():
    assert RECORDED == list(claims.CLAIMS)


def test_the_command_prints_the_ledger(capsys, tmp_path):
    assert main(["claims"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{id}  " in printed and claims.recorded(id).verdict in printed for id in RECORDED)
    assert max(map(len, printed.splitlines())) <= 100
    assert main(["claims", "--only", "LSAP-1"]) == 0
    assert capsys.readouterr().out.count("measured:") == 1
    assert main(["claims", "--ledger", str(tmp_path / "none.json")]) == 2
    assert "expected a ledger, got no file" in capsys.readouterr().err


def test_the_command_measures_and_writes(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("latentlab.claims.ledger._shipped", world)
    assert main(["claims", "--full", "--only", "LSAP-1", "--ledger", str(tmp_path / "l.json")]) == 0
    assert "partly reproduced" in capsys.readouterr().out
    provenance = claims.recorded("LSAP-1", tmp_path / "l.json").provenance
    assert provenance["command"] == "latentlab claims --full --only LSAP-1"


def test_the_ledger_belongs_to_the_shipped_generator():
    mark = fingerprint(load("faces-64"))
    assert {claims.recorded(id).provenance["fingerprint"] for id in claims.table()["id"]} == {mark}
