"""Claims about encoders, with encoders whose codes are known in the place of the shipped ones."""

from dataclasses import replace

import pandas
import pytest
import torch
from worlds import world

from latentlab import claims
from latentlab.claims import encoder_runs, encoding
from latentlab.claims.rules import RULES
from latentlab.claims.runs import Bench
from latentlab.editing.edit import Direction
from latentlab.evaluation import encoders
from latentlab.evaluation.encoders import Encoded, summarize_encoders, summary_columns
from latentlab.metrics import psnr
from latentlab.spaces import fingerprint, visible_part
from latentlab.stylegan.generator import Generator, GeneratorConfig

FEW = {"clean": 4, "strange": 3}


@pytest.fixture(scope="module")
def G() -> Generator:
    return world(config=GeneratorConfig(32, 12, 10, 2, (16, 16, 8, 8)))


@pytest.fixture
def bench(G, monkeypatch) -> Bench:
    """A full bench on which D's codes are a linear image of the pixels, the same for all layers up to small offsets,
    and A's those with ten times the offsets."""
    draw = torch.Generator().manual_seed(0)
    reads = torch.randn(3 * 8 * 8, G.w_dim, generator=draw) / 30
    offsets = torch.randn(G.num_ws, G.w_dim, generator=draw)
    offsets -= offsets.mean(0)

    def encode(size: float):
        def codes(images: torch.Tensor) -> torch.Tensor:
            small = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
            return (small @ reads)[:, None] + size * offsets

        return codes

    pair = {"psp": Encoded("psp", encode(1.0)), "e4e": Encoded("e4e", encode(0.1))}
    monkeypatch.setattr(encoding, "_pair", lambda bench: pair)
    for size in ("ALL", "FORTY"):
        monkeypatch.setattr(encoding, size, FEW)
    lines = {name: Direction(name, torch.randn(G.w_dim, generator=draw)) for name in encoding.LEC_LINES}
    for module in (encoding, encoders):
        monkeypatch.setattr(module, "directions_for", lambda G: lines)
    return Bench(G, True)


def measure(id: str, bench: Bench):
    return claims.CLAIMS[id].measure(bench)


def test_variation_is_that_of_the_offsets(bench):
    found = measure("E4E-2", bench)
    assert found.measured["clean_variation"] == pytest.approx(10, rel=1e-4)
    assert found.measured["strange_visible_variation"] == pytest.approx(10, rel=1e-3)
    assert claims.CLAIMS["E4E-2"].judge(found)[0] == "reproduced"


def test_distortion_is_compared_face_by_face(bench, G):
    found = measure("E4E-1", bench)
    images, pair = bench.faces_of("clean", 4).images, encoding._pair(bench)
    errors = {k: (G.synthesis(e.encode(images)).clamp(-1, 1) - images).square().mean() for k, e in pair.items()}
    assert found.measured["clean_mse"] == pytest.approx(float(errors["e4e"] - errors["psp"]), abs=1e-5)
    assert found.samples["clean_mse"]["n"] == 4 and found.samples["strange_perceptual"]["n"] == 3


def test_deviation_is_larger_for_codes_far_from_w(bench):
    found = measure("E4E-3", bench)
    assert found.measured["deviation"] > 1
    assert found.controls["a_deviation"] > found.controls["d_deviation"]
    w = torch.cat([bench.G.mapping(torch.randn(500, bench.G.z_dim, generator=torch.Generator().manual_seed(i)))
                   for i in range(4)])  # fmt: skip
    spread = (w - bench.G.w_avg).norm(dim=1).mean() * bench.G.num_ws**0.5  # all layers have the same code
    assert found.controls["constant_deviation"] == pytest.approx(float(spread), rel=0.1)
    verdict, _ = claims.CLAIMS["E4E-3"].judge(found)
    assert verdict == "reproduced"  # the constant encoder is told, and changes no verdict
    near = replace(found, controls=found.controls | {"d_deviation": found.controls["constant_deviation"] * 0.9})
    far = replace(found, controls=found.controls | {"d_deviation": found.controls["constant_deviation"] * 1.1})
    assert "always returns the mean of W" in claims.CLAIMS["E4E-3"].judge(far)[1]
    assert "always returns" not in claims.CLAIMS["E4E-3"].judge(near)[1]


def test_a_constant_encoder_has_the_lec_of_a_constant_code(bench, monkeypatch):
    constant = torch.zeros(bench.G.num_ws, bench.G.w_dim)
    same = Encoded("e4e", lambda images: constant.expand(len(images), -1, -1))
    monkeypatch.setattr(encoding, "_pair", lambda bench: {"psp": same, "e4e": same})
    found = measure("E4E-4", bench)
    values = [v for k, v in found.measured.items()]
    assert values == pytest.approx([1.0] * len(values), rel=1e-5)
    assert claims.CLAIMS["E4E-4"].judge(found)[0] == "not reproduced"


def test_the_line_ends_at_both_encoders(bench, G, monkeypatch):
    def evaluate(made, faces, judges, *, edits, matched):
        errors = {f"{name}{strength:+g} error": 1.0 for name, strength in edits}
        rows = [{"method": m, "image": i, **errors} for m in made for i in range(len(faces))]
        return pandas.DataFrame(rows).assign(**{"age+1 error": [float(row["method"]) for row in rows]})

    monkeypatch.setattr(encoding, "evaluate", evaluate)
    found = measure("E4E-5", bench)
    images, pair = bench.faces_of("clean", 4).images, encoding._pair(bench)
    for t, name in ((0, "e4e"), (1, "psp")):
        expected = psnr(G.synthesis(pair[name].encode(images)).clamp(-1, 1), images).mean()
        assert found.controls[f"at_clean_psnr_{t}"] == pytest.approx(float(expected), abs=1e-4)
    assert found.measured["clean_error_0.25_to_0.5"] == pytest.approx(0.25 / 4)  # one of the four factors changes


def test_configurations_are_read_from_their_table(bench, tmp_path):
    rows = []
    for method, size in zip("ABCD", (4.0, 3.0, 2.0, 1.0), strict=True):
        for face in range(4):
            errors = {f"{f}+1 error": size for f in encoding.FACTORS} | {f"lec {f}": size for f in encoding.FACTORS}
            rows.append({"method": method, "image": face, "faces": "clean" if face < 2 else "strange", **errors})
    bench.tables = tmp_path
    with pytest.raises(ValueError, match="expected the table of `latentlab benchmark --only encoders --runs FOLDER`"):
        measure("E4E-6", bench)
    mark = fingerprint(bench.G, "generator")
    pandas.DataFrame(rows).assign(generator="0123456789ab").to_csv(tmp_path / "encoders.csv", index=False)
    with pytest.raises(ValueError, match=f"expected runs of generator {mark}, got 0123456789ab; measure its own with"):
        measure("E4E-6", bench)
    rows = [row | {"generator": mark} for row in rows]
    pandas.DataFrame(rows).to_csv(tmp_path / "encoders.csv", index=False)
    found = measure("E4E-6", bench)
    with pytest.raises(ValueError, match="expected a run named L0.5, got A, B, C, D"):
        encoder_runs.rows_of_runs(["A", "L0.5"], "clean", 2, bench)
    assert found.measured["clean_error_A"] == pytest.approx(3) and found.measured["strange_lec_B"] == pytest.approx(3)
    for name in ("images_seen", "seed"):
        unlike = [row | {name: 2 if row["method"] == "C" else 1} for row in rows]
        pandas.DataFrame(unlike).to_csv(tmp_path / "encoders.csv", index=False)
        with pytest.raises(ValueError, match=f"{name}: expected one number for the runs .*, 2 of C, 1 of D; train"):
            measure("E4E-6", bench)


def test_speed_is_a_ratio_of_seconds(bench, monkeypatch):
    seconds = {"psp": 0.001, "e4e": 0.002, "ii2s": 1.0, "sg2_w": 2.0}
    monkeypatch.setattr(encoding, "METHODS", {name: lambda *a, **k: None for name in seconds})
    calls = iter([])

    def told(method, images, G, **knobs):
        return next(calls)

    monkeypatch.setattr(encoding, "_time", told)
    calls = iter([seconds[name] for name in ("psp", "e4e", "ii2s", "sg2_w") for _ in range(4)])
    bench.faces = 4
    found = measure("ALL-1", bench)
    assert found.measured["ii2s_by_psp"] == pytest.approx(1300 / 50 * 1000, rel=1e-4)
    assert found.measured["sg2_w_by_e4e"] == pytest.approx(1000 / 50 * 1000, rel=1e-4)


def test_rules_want_the_numbers_that_are_measured(bench, monkeypatch):
    """Every cell of a rule is a number that its measurement gives."""
    for id in ("E4E-1", "E4E-2", "E4E-3", "E4E-4"):
        found = measure(id, bench)
        cells = {name for part in (*RULES[id].parts, *RULES[id].controls) for name in part.cells}
        assert cells <= found.measured.keys()


def test_what_no_affine_map_sees_changes_no_picture(G):
    w = torch.randn(2, G.num_ws, G.w_dim, generator=torch.Generator().manual_seed(3))
    seen = visible_part(w, G)
    torch.testing.assert_close(G.synthesis(seen), G.synthesis(w), rtol=1e-4, atol=1e-4)
    assert (seen.norm(dim=2) <= w.norm(dim=2) + 1e-4).all() and (seen - w).abs().max() > 0.1


def test_the_summary_has_a_row_for_each_kind():
    factors = {f"{f}+1 {what}": 1.0 for f in encoders.FACTORS for what in ("error", "gain", "leakage")}
    plain = dict.fromkeys(("mse", "psnr_db", "ssim", "pn_norm", "sncd", "variation", "visible_variation"), 2.0)
    row = factors | plain | {f"lec {f}": 3.0 for f in encoders.FACTORS} | {"perceptual (x)": 0.1, "identity (x)": 0.9}
    table = pandas.DataFrame(
        [{"method": "A", "faces": kind, "deviation": 5.0, "seconds": 0.1, **row} for kind in ("clean", "strange") * 3]
    )
    summary = summarize_encoders(table)
    assert list(summary["faces"]) == ["clean", "strange"] and summary["lec"].str.startswith("3").all()
    assert set(summary_columns(table)) >= {"perceptual", "identity", "edit error", "variation"}
