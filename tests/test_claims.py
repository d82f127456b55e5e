"""The ledger: its rules judge doctored numbers and doctored worlds as they should, and what is recorded is theirs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from latentlab import claims
from latentlab.claims import latent_spaces
from latentlab.claims.finding import Finding, verdict
from latentlab.cli import main
from latentlab.formats.models import load
from latentlab.spaces import fingerprint, p_to_w, statistics_for
from latentlab.stylegan import ops
from latentlab.stylegan.generator import Generator, GeneratorConfig

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


def test_the_ledger_gives_back_what_was_entered(tmp_path):
    path, G = tmp_path / "new" / "claims.json", world()
    (first,) = claims.write(["LSAP-1"], path, full=False, G=G)
    (second,) = claims.write(["II2S-1"], path, full=False, G=G)
    assert claims.recorded("LSAP-1", path) == first and claims.recorded("II2S-1", path) == second
    assert first.provenance["images"] is None and first.provenance["command"] == "latentlab claims --only LSAP-1"
    table = claims.table(path)
    assert list(table["id"]) == ["II2S-1", "LSAP-1"] and "w_median" in table["measured"][0]
    assert list(table.columns) == ["id", "statement", "paper value", "measured", "verdict", "reason"]
    with pytest.raises(ValueError, match="holds nothing of II2S-2; it holds II2S-1, LSAP-1"):
        claims.recorded("II2S-2", path)
    with pytest.raises(ValueError, match="no claim 'II2S-99'"):
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
    assert "there is no ledger" in capsys.readouterr().err


def test_the_command_measures_and_writes(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("latentlab.claims.ledger.load", lambda name: world())
    assert main(["claims", "--full", "--only", "LSAP-1", "--ledger", str(tmp_path / "l.json")]) == 0
    assert "partly reproduced" in capsys.readouterr().out
    provenance = claims.recorded("LSAP-1", tmp_path / "l.json").provenance
    assert provenance["command"] == "latentlab claims --full --only LSAP-1"


def test_the_ledger_belongs_to_the_shipped_generator():
    mark = fingerprint(load("faces-64"))
    assert {claims.recorded(id).provenance["fingerprint"] for id in claims.table()["id"]} == {mark}
