"""The main job from files: what is written, what is said, and what happens when the input is wrong."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from latentlab.cli import main
from latentlab.faces import real_set
from latentlab.images import tile
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.jobs import default_batch_size, demo, draw_samples, invert_files
from latentlab.weights.generators import load


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.png"
    tile(real_set()[:1].images, columns=1).save(path)
    return path


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_picture_becomes_strip_latent_and_table(face, tmp_path):
    out = tmp_path / "out"
    table = invert_files(face, out, edits=[("smile", 2.0), ("yaw", -1.0)], steps=3)
    assert {p.name for p in out.iterdir()} == {
        "face.input.png", "face.inversion.png", "face.smile+2.png", "face.yaw-1.png", "face.strip.png",
        "face.safetensors", "measured.csv",
    }  # fmt: skip
    assert pixels(out / "face.strip.png").shape == (256, 4 * 256, 3)
    assert list(table["picture"]) == ["face"] and table["psnr_db"][0] > 0
    assert {"smile+2 before", "smile+2 after", "yaw-1 before", "yaw-1 after"} <= set(table.columns)
    pandas.testing.assert_frame_equal(pandas.read_csv(out / "measured.csv"), table, check_exact=False)
    inversion = Inversion.load(out / "face.safetensors", load("faces-64"))
    assert np.array_equal(np.asarray(tile(inversion.image, columns=1)), pixels(out / "face.inversion.png"))


def test_a_folder_goes_through_whatever_is_in_it(face, tmp_path):
    picture = Image.fromarray(pixels(face))
    picture.convert("L").resize((90, 70)).save(tmp_path / "grey.jpg")
    picture.save(tmp_path / "face.jpg")  # the same stem as face.png
    (tmp_path / "broken.png").write_bytes(face.read_bytes()[:200])
    (tmp_path / "note.txt").write_text("no picture")
    said = []
    table = invert_files(tmp_path, tmp_path / "out", steps=2, batch_size=2, say=said.append)
    assert sorted(table["picture"]) == ["face", "face.png", "grey"]
    assert any("left out" in line and "broken.png" in line for line in said)
    assert any("grey.jpg" in line and "central square" in line for line in said)


def test_batches_change_nothing(face, tmp_path):
    Image.fromarray(pixels(face)[:, ::-1]).save(tmp_path / "second.png")
    for size in (1, 2):
        invert_files(tmp_path, tmp_path / f"out{size}", steps=3, batch_size=size)
    G = load("faces-64")
    one, two = (Inversion.load(tmp_path / f"out{s}" / "second.safetensors", G).latent for s in (1, 2))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "does not exist"),
        (["{face}", "--method", "magic"], "known are: sg2_w, sg2_wplus, i2s, ii2s, z_plus, pulse"),
        (["{face}", "--edit", "wings=+2"], "unknown factor 'wings'; known are: face_width"),
        (["{face}", "--generator", "ffhq"], "no generator 'ffhq': expected a file, the name of a shipped"),
        (["{face}", "--steps", "0"], "at least 1"),
        (["{folder}"], "holds no pictures"),
    ],
)
def test_mistakes_are_told_in_a_line(face, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    filled = [a.format(face=face, folder=tmp_path / "empty") for a in arguments]
    assert main(["invert", *filled, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_command_line_inverts(face, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["invert", str(face), "--method", "sg2_w", "--steps", "2", "--edit", "age=+1", "--out", str(out)]) == 0
    assert "psnr_db" in capsys.readouterr().out and (out / "face.age+1.png").is_file()
    with pytest.raises(SystemExit):
        main(["invert", str(face), "--edit", "smile"])
    assert "not FACTOR=STRENGTH" in capsys.readouterr().err


def test_methods_lists_what_there_is(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("ii2s", "sg2_w", "faces-64", "glasses"))


def test_demo_leaves_a_picture_and_a_table(tmp_path):
    table = demo(tmp_path, steps=2, faces=2)
    assert len(table) == 2 and {"psnr_db", "smile gain", "glasses residual"} <= set(table.columns)
    assert pixels(tmp_path / "demo.png").shape[1] > 1000
    assert (tmp_path / "demo.csv").is_file()


def test_faces_are_written_with_their_factors(tmp_path):
    assert main(["faces", "-n", "4", "--resolution", "32", "--out", str(tmp_path)]) == 0
    table = pandas.read_csv(tmp_path / "factors.csv")
    assert len(table) == 4 and table["detail"][0] == "none" and "smile" in table
    assert pixels(tmp_path / table["file"][3]).shape == (32, 32, 3)


def test_samples_do_not_depend_on_how_many(tmp_path):
    G = load("faces-64")
    torch.testing.assert_close(draw_samples(G, 3)[:2], draw_samples(G, 2), atol=1e-5, rtol=1e-5)


def test_a_second_run_keeps_what_the_first_measured(face, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(pixels(face)[:, ::-1]).save(other)
    out = tmp_path / "out"
    for source in (face, other, face):
        invert_files(source, out, steps=1)
    assert sorted(pandas.read_csv(out / "measured.csv")["picture"]) == ["face", "other"]


def test_results_are_kept_apart_from_pictures(face, tmp_path):
    with pytest.raises(ValueError, match="would be inverted next time"):
        invert_files(tmp_path, tmp_path, steps=1)
    with pytest.raises(ValueError, match="a folder is wanted"):
        invert_files(face, face, steps=1)


def test_interruption_stops_the_folder_and_keeps_whole_batches(face, tmp_path, monkeypatch):
    Image.fromarray(pixels(face)[:, ::-1]).save(tmp_path / "second.png")
    found = []

    def interrupted_at_the_second(images, G, method, **knobs):
        result = invert(images, G, method, **knobs)
        found.append(result)
        return replace(result, interrupted=len(found) == 2)

    monkeypatch.setattr("latentlab.jobs.invert", interrupted_at_the_second)
    said = []
    with pytest.raises(KeyboardInterrupt):
        invert_files(tmp_path, tmp_path / "out", steps=1, batch_size=1, say=said.append)
    assert said[-1].startswith("interrupted: 1 of 2 pictures")
    assert not (tmp_path / "out" / "second.safetensors").exists()
    assert list(pandas.read_csv(tmp_path / "out" / "measured.csv")["picture"]) == ["face"]


def test_strengths_may_be_written_in_any_way(face, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["invert", str(face), "--steps", "1", "--edit", "smile=-1e-5", "--out", str(out)]) == 0
    for wrong in ("smile=nan", "smile=inf", "smile"):
        with pytest.raises(SystemExit):
            main(["invert", str(face), "--edit", wrong])
    assert "is not FACTOR=STRENGTH" in capsys.readouterr().err
    assert main(["invert", str(face), "--device", "abacus"]) == 2
    assert "no device 'abacus'" in capsys.readouterr().err


def test_mixed_precision_finds_nearly_the_same(face, tmp_path):
    tables = [invert_files(face, tmp_path / p, steps=20, precision=p) for p in ("32", "bf16")]
    exact, mixed = (float(table["psnr_db"][0]) for table in tables)
    assert exact != mixed and abs(exact - mixed) < 0.5
    with pytest.raises(ValueError, match="precision: expected '32' or 'bf16', got '16'"):
        invert_files(face, tmp_path / "x", precision="16")


def test_batches_shrink_as_pictures_grow():
    assert [default_batch_size(r) for r in (64, 128, 256, 512, 1024)] == [16, 16, 10, 4, 2]
