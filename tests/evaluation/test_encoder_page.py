"""The page of encoders: what it tells, and the pictures beside it."""

import json

import pandas
import pytest
import scipy.stats
import torch

from latentlab.checkpoints import save_checkpoint
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.encoders.shipped import pair_for
from latentlab.evaluation import encoder_page, encoders
from latentlab.evaluation.encoders import Encoded, grade_encoder, measure_deviation, trained_encoders
from latentlab.faces import real_set
from latentlab.metrics import code_distance, psnr, retrieved
from latentlab.spaces import fingerprint
from latentlab.weights import read_manifest
from latentlab.weights.generators import load

MADE = {"images": 1200, "seed": 3, "hardware": "a core", "command": "latentlab train psp"}


@pytest.fixture(scope="module")
def G():
    return load("faces-64")


@pytest.fixture(scope="module")
def mean_code(G) -> Encoded:
    """An encoder that always returns the mean of W."""
    return Encoded("mean", lambda images: G.broadcast(G.w_avg.expand(len(images), -1)), MADE)


@pytest.fixture(scope="module")
def table(G, mean_code) -> pandas.DataFrame:
    return grade_encoder(mean_code, G, real_set()[:3], factors=("yaw",))


def test_a_constant_encoder_is_graded_as_one(G, mean_code, table):
    """No variation, LEC of a constant code, and the distortion of the mean face."""
    faces, code = real_set()[:3], G.broadcast(G.w_avg[None])
    assert (table["variation"] == 0).all() and (table["visible_variation"] < 1e-4).all()
    assert table["lec yaw"].to_numpy() == pytest.approx(table["lec yaw constant"].to_numpy(), rel=1e-5)
    drawn = G.synthesis(code).clamp(-1, 1).expand(3, -1, -1, -1)
    assert table["psnr_db"].to_numpy() == pytest.approx(psnr(drawn, faces.images).numpy(), abs=1e-3)
    assert {"yaw+1 error", "yaw+1 gain", "yaw+1 leakage"} <= set(table.columns)


def test_deviation_of_a_constant_encoder_is_the_spread_of_w(G, mean_code):
    found = measure_deviation(mean_code.encode, G, n=40, seed=1)
    w = G.broadcast(G.mapping(torch.randn(2000, G.z_dim, generator=torch.Generator().manual_seed(0))))
    spread = code_distance(w, G.broadcast(G.w_avg.expand(2000, -1))).mean()
    assert found.shape == (40,) and float(found.mean()) == pytest.approx(float(spread), rel=0.15)


def test_the_page_tells_what_was_measured_and_how_it_was_made(mean_code, table, monkeypatch):
    for module in (encoders, encoder_page):
        monkeypatch.setattr(module, "FACTORS", ("yaw",))
    text = encoder_page.describe(table.assign(seconds=0.01, deviation=7.0), [mean_code])
    assert "1,200 images, seed 3, a core, `latentlab train psp`" in text
    rows = [line for line in text.splitlines() if line.startswith("| mean")]
    *kinds, skin = rows
    assert len(kinds) == 2 and all(" | 7 | " in row and row.count("|") == 14 for row in kinds)  # clean and strange
    assert skin == "| mean |  |  |  |  |"  # too few faces
    assert "encoders_curves.png" not in text and "encoders_curves.png" in encoder_page.describe(
        table.assign(seconds=0.01, deviation=7.0), [mean_code], curves=True
    )


def test_the_page_explains_the_runs_that_it_has():
    text = encoder_page._introduction(["L0.5", "LSAP", "LSAP2"])
    assert "LSAP is LSAP_E" in text and "L0, L0.25" in text and "another training seed" in text
    assert "configurations of e4e's ablation" not in text
    of_a = encoder_page._introduction(["A"])
    assert "ablation: A is pSp" in of_a and "LSAP is" not in of_a


def test_clcae_has_a_page_of_its_own(mean_code, table, monkeypatch):
    """With the runs of its ablation, and a strip of its three spaces."""
    for module in (encoders, encoder_page):
        monkeypatch.setattr(module, "FACTORS", ("yaw",))
    text = encoder_page.describe(table.assign(seconds=0.01, deviation=7.0), [mean_code], curves=True, page="clcae")
    assert text.startswith("# CLCAE, measured") and "`latentlab benchmark --only clcae --runs FOLDER`" in text
    assert "(clcae.png)" in text and "(clcae_curves.png)" in text and "encoders.png" not in text
    told = encoder_page._introduction(["full W", "full W+", "clcae W", "feature_style F"], "clcae")
    assert "no_alignment was trained without" in told and "style_transformer" not in told
    names = ["psp", "e4e", "clcae W", "clcae W+", "clcae F", "clcae_multi_token F"]
    assert [x for x in names if encoder_page.is_on_strip(x, "clcae")] == ["e4e", "clcae W", "clcae W+", "clcae F"]
    assert [x for x in names if encoder_page.is_on_strip(x, "encoders")] == ["psp", "e4e"]


def test_skin_tones_are_compared(monkeypatch):
    """Correlation 1 where a measure is the tone itself, and the means of the thirds; faces without a value are left
    out."""
    monkeypatch.setattr(encoder_page, "FACTORS", ("yaw",))
    tone = real_set().factors["skin_tone"].double().numpy()
    columns = {"psnr_db": 20 + tone, "perceptual (a)": 1 - tone, "identity (a)": tone**2, "yaw+1 error": tone.copy()}
    columns["yaw+1 error"][:60] = float("nan")
    table = pandas.DataFrame({"method": "mine", "image": range(120)} | columns).iloc[::-1]
    head, ((name, psnr_db, perceptual, identity, error),) = encoder_page.compare_skin_tones(table)
    thirds = [20 + sorted(tone)[:40][i] for i in range(40)], [20 + sorted(tone)[80:][i] for i in range(40)]
    light, dark = (f"{sum(third) / 40:.3g}" for third in thirds)
    assert head[1] == "PSNR, dB" and head[4] == "yaw: total error" and name == "mine"
    assert psnr_db == f"{light}, {dark}; +1.00 [1.00, 1.00]" and "-1.00 [-1.00, -1.00]" in perceptual
    r = scipy.stats.pearsonr(tone, tone**2)
    assert f"{r.statistic:+.2f} [{r.confidence_interval().low:.2f}" in identity and "+1.00" in error


def test_the_strip_has_a_row_for_each_inversion_and_edit(G, mean_code):
    faces = real_set()[:2]
    rows = encoder_page.strip_rows([mean_code], G, steps=2, faces=faces)
    assert list(rows) == ["given", "mean", "ii2s, 2 steps", "older: truth", "older: mean", "older: ii2s"]
    assert torch.equal(rows["given"], faces.images) and all(len(row) == 2 for row in rows.values())
    assert (rows["older: mean"] - rows["mean"]).abs().max() > 0.1


def test_shipped_encoders_are_those_of_the_generator(G, monkeypatch):
    """With their own provenance, where encoders of several generators are shipped."""
    others = {"another.psp.safetensors": {"fingerprint": "other", "images": 1}}
    manifest = others | read_manifest()
    monkeypatch.setattr(encoders, "read_manifest", lambda: manifest)
    found = {encoder.name: encoder for encoder in encoders.shipped_encoders(G)}
    assert found["psp"].provenance["fingerprint"] == fingerprint(G, "generator") and "e4e" in found
    spaces = {f"{name} {space}" for name in ("clcae", "clcae_multi_token") for space in ("W", "W+", "F")}
    assert spaces <= found.keys()
    assert not encoders.shipped_encoders(load("faces-64-deep"))


def test_rows_of_an_encoder_that_has_not_changed_are_taken_over(G, monkeypatch):
    """Of the same name and weights; an encoder that was trained further is measured again."""

    def graded(encoder, G, faces, judges):
        return pandas.DataFrame({"method": [encoder.name] * 2, "mse": [1.0, 2.0]})

    monkeypatch.setattr(encoders, "grade_encoder", graded)
    monkeypatch.setattr(encoders, "measure_deviation", lambda encode, G: torch.zeros(1))
    monkeypatch.setattr(encoders, "_seconds_of", lambda encode, images: 1.0)
    code = lambda images: G.broadcast(G.w_avg.expand(len(images), -1))  # noqa: E731
    several = [Encoded(name, code, MADE, network=f"{name} weights") for name in ("a", "b")]
    first = encoders.measure_encoders(several, G)
    assert set(first["network"]) == {"a weights", "b weights"} and len(first) == 4
    assert (first["images_seen"] == 1200).all() and (first["seed"] == 3).all()
    earlier, said = first.assign(mse=7.0), []
    trained_on = [several[0], Encoded("b", code, MADE, network="other weights")]
    again = encoders.measure_encoders(trained_on, G, said.append, earlier)
    assert again["mse"].tolist() == [7.0, 7.0, 1.0, 2.0] and said == ["a: measured before", "b"]
    assert encoders.measure_encoders(several, G, known=earlier.drop(columns="network"))["mse"].max() == 2


def test_a_folder_without_runs_is_refused(G, tmp_path):
    with pytest.raises(ValueError, match="runs: expected a folder with runs of `latentlab train e4e`"):
        trained_encoders(tmp_path, G)


def write_run(folder, kind: str, config: dict, **modules: torch.nn.Module) -> None:
    """A run of the command as its folder holds it."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"kind": kind, "seed": 3, "config": config}))
    state = {name: module.state_dict() for name, module in modules.items()}
    save_checkpoint(state | {"config": config, "progress": (2, 16)}, folder / "checkpoint.pt")


def test_a_run_into_f_space_is_there_once_for_each_space(G, tmp_path):
    """W is compared with its images by the pair of the same folder, and only F's pictures have a map."""
    shape = slim_config("clcae", G.config)
    E = build_encoder("clcae", shape, 4).requires_grad_(False).eval()
    E.set_averages(G.w_avg, G.synthesis(G.broadcast(G.w_avg[None]))[0])
    write_run(tmp_path / "mine", "encoder", {"encoder": "clcae", "shape": shape.to_dict()}, E=E)
    small = ContrastiveConfig.slim(G.config)
    pair = ContrastivePair(small, 4)
    write_run(tmp_path / "contrastive", "contrastive", {"shape": small.to_dict()}, pair=pair)
    found = {encoder.name: encoder for encoder in trained_encoders(tmp_path, G)}
    assert list(found) == ["mine W", "mine W+", "mine F"] and found["mine F"].provenance["images"] == 16
    x = real_set()[[0, 1, 2, 3]]
    with torch.no_grad():
        w, w_plus, feature = E(x.images)
    drawn = {name: encoder.invert(x.images, G) for name, encoder in found.items()}
    assert [bool(inv.features) for inv in drawn.values()] == [False, False, True]
    torch.testing.assert_close(drawn["mine F"].features[8], feature, rtol=2e-2, atol=2e-2)  # half precision
    torch.testing.assert_close(found["mine W"].encode(x.images)[:, 3], w, rtol=2e-2, atol=2e-2)
    assert [encoder.pair is None for encoder in found.values()] == [False, True, True]
    table = grade_encoder(found["mine W"], G, x, factors=())
    clean = torch.tensor([detail == "none" for detail in x.details])
    seen, codes = found["mine W"].pair(x.images, drawn["mine W"].latent[:, 0])
    for kind in (clean, ~clean):
        assert table["retrieved"].to_numpy()[kind.numpy()].tolist() == retrieved(seen[kind], codes[kind]).tolist()


def test_codes_of_w_are_compared_by_the_pair_of_their_training(G, tmp_path):
    """Whichever stands first in the folder; where runs name several, or one that is not there, none is taken. Rows that
    were made with another pair are not taken over."""
    small, shape = ContrastiveConfig.slim(G.config), slim_config("clcae", G.config)
    E, pairs = build_encoder("clcae", shape, 4), {}
    for name, seed in (("a_pair", 4), ("b_pair", 5)):
        write_run(tmp_path / name, "contrastive", {"shape": small.to_dict()}, pair=ContrastivePair(small, seed))
        pairs[name] = fingerprint(encoders._read_pair(tmp_path / name), "generator")
    with pytest.raises(ValueError, match=f"expected runs of one contrastive pair, got {', '.join(pairs.values())}"):
        trained_encoders(tmp_path, G)  # none is named
    config = {"encoder": "clcae", "shape": shape.to_dict()}
    write_run(tmp_path / "plain", "encoder", config | {"pair": None}, E=E)
    write_run(tmp_path / "mine", "encoder", config | {"pair": pairs["b_pair"]}, E=E)
    by_b = {encoder.name: encoder for encoder in trained_encoders(tmp_path, G)}
    for name in ("plain W", "mine W"):
        assert fingerprint(by_b[name].pair, "generator") == pairs["b_pair"]
    rows = pandas.DataFrame({"method": "mine W", "network": by_b["mine W"].network, "retrieved": [1.0]})
    assert len(encoders._rows_of(by_b["mine W"], rows)) == 1
    (tmp_path / "mine" / "run.json").write_text(json.dumps({"kind": "encoder", "config": {"pair": pairs["a_pair"]}}))
    by_a = {encoder.name: encoder for encoder in trained_encoders(tmp_path, G)}
    assert encoders._rows_of(by_a["mine W"], rows) is None
    assert by_a["mine W+"].network == by_b["mine W+"].network  # it has no column of the pair
    assert by_b["mine W"].network == f"{by_b['mine W+'].network}.{pairs['b_pair']}"
    write_run(tmp_path / "other", "encoder", config | {"pair": pairs["b_pair"]}, E=E)
    with pytest.raises(ValueError, match=r"expected runs of one contrastive pair, got .* \(mine\), .* \(other\)"):
        trained_encoders(tmp_path, G)
    for name in ("mine", "other"):
        (tmp_path / name / "run.json").write_text(json.dumps({"kind": "encoder", "config": {"pair": "0123456789ab"}}))
    with pytest.raises(ValueError, match="expected the contrastive pair 0123456789ab that other was trained with, got"):
        trained_encoders(tmp_path, G)


def test_the_shipped_pair_is_taken_where_runs_name_it(G, tmp_path):
    shape, own = slim_config("clcae", G.config), fingerprint(pair_for(G), "generator")
    config, small = {"encoder": "clcae", "shape": shape.to_dict()}, ContrastiveConfig.slim(G.config)
    write_run(tmp_path / "mine", "encoder", config | {"pair": own}, E=build_encoder("clcae", shape, 4))
    assert encoders._pair_of(tmp_path, G) is pair_for(G)
    write_run(tmp_path / "a_pair", "contrastive", {"shape": small.to_dict()}, pair=ContrastivePair(small, 4))
    assert encoders._pair_of(tmp_path, G) is pair_for(G)


def test_the_first_pass_is_not_timed(monkeypatch):
    """It is slower; and of the others the median counts."""
    clock, passes = iter([0, 9, 10, 12, 20, 23, 30, 31, 40, 44]), []
    monkeypatch.setattr(encoders.time, "perf_counter", lambda: next(clock))
    assert encoders._seconds_of(lambda x: passes.append(len(x)) or x, torch.zeros(3, 3, 8, 8)) == 3
    assert passes == [3] * (1 + encoders.TIMED)
