"""Jobs of the command line: files that are written, messages, and errors for bad input."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from small import small_generator

from latentlab.cli import main
from latentlab.editing.calibration import Effect
from latentlab.editing.code_range import Departure
from latentlab.editing.edit import Direction, State
from latentlab.editing.files import read_edits, save_edit
from latentlab.editing.lab import Finding
from latentlab.editing.shipped import directions_for
from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.psp import PspEncoder
from latentlab.faces import real_set
from latentlab.formats import rosinality
from latentlab.images import read_image, tile
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS, invert
from latentlab.jobs.demonstration import demo
from latentlab.jobs.inversions import _describe_far, _describe_weak, default_batch_size, invert_files
from latentlab.jobs.samples import draw_samples
from latentlab.spaces import measure_statistics
from latentlab.weights import read_tensors, write_tensors
from latentlab.weights.generators import load


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.png"
    tile(real_set()[:1].images, columns=1).save(path)
    return path


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_picture_gives_strip_inversion_and_table(face, tmp_path):
    out = tmp_path / "out"
    table = invert_files(face, out, edits=[("smile", 2.0), ("yaw", -1.0)], steps=3)
    assert {p.name for p in out.iterdir()} == {
        "face.input.png", "face.inversion.png", "face.smile+2.png", "face.yaw-1.png", "face.strip.png",
        "face.safetensors", "measured.csv",
    }  # fmt: skip
    strip, given = pixels(out / "face.strip.png"), pixels(out / "face.input.png")
    band = strip.shape[0] - 256
    assert strip.shape[1] == 4 * 256 and np.array_equal(strip[band::4, :256:4], given)
    assert all(column.min() < 100 for column in np.split(strip[:band], 4, axis=1))  # each has a title
    assert list(table["picture"]) == ["face"] and table["psnr_db"][0] > 0
    assert {"smile+2 before", "smile+2 after", "yaw-1 before", "yaw-1 after"} <= set(table.columns)
    pandas.testing.assert_frame_equal(pandas.read_csv(out / "measured.csv"), table, check_exact=False)
    inversion = Inversion.load(out / "face.safetensors", load("faces-64"))
    assert np.array_equal(np.asarray(tile(inversion.image, columns=1)), pixels(out / "face.inversion.png"))


def test_edits_that_leave_the_range_are_named():
    rows = [{"picture": name} for name in "abcdef"]
    after = torch.tensor([1.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    one = Departure("PN+", torch.ones(6), after, 1.5, 1000)
    said = _describe_far(one, rows)
    assert said.startswith("1 of 6 pictures leaves the generator's range: the PN+ norm of its code is 9, that of")
    assert said.endswith("; a smaller strength stays nearer (b)")
    all_ = replace(one, after=after.clamp(min=9))
    assert _describe_far(all_, rows).endswith("(a, b, c and 3 more)")
    assert "6 of 6 pictures leave the generator's range: the PN+ norm of their codes" in _describe_far(all_, rows)
    assert _describe_far(replace(one, after=torch.ones(6)), rows) == ""


def test_edits_that_hardly_change_a_picture_are_named():
    readings = {"a": (0.0, 0.9), "b": (0.0, 0.003), "c": (1.0, 1.0), "d": (0.2, 0.9)}
    rows = [{"picture": name, "g+2 before": x, "g+2 after": y} for name, (x, y) in readings.items()]
    edit = Direction("glasses", torch.ones(4), std=0.45)
    says = _describe_weak("g+2", edit, 2.0, rows)
    assert says.startswith("hardly any effect on b (0.00 before, 0.00 after), c (1.00 before, 1.00 after), as the ")
    assert "reads glasses; a change of +0.9 was asked for" in says
    assert "c (1.00 before, 1.00 after) and 1 more, as" in _describe_weak("g+2", edit, -2.0, rows)  # all went up
    assert _describe_weak("g+2", edit, 2.0, rows[:1]) == ""  # as asked for
    assert _describe_weak("h+2", edit, 2.0, rows) == ""  # not read by the judge
    assert _describe_weak("g+2", replace(edit, std=float("nan")), 2.0, rows) == ""
    assert _describe_weak("g+2", edit, 0.0, rows) == ""


def test_a_refiner_improves_the_inversion_of_its_base(face, tmp_path):
    plain = invert_files(face, tmp_path / "a", method="e4e")
    tuned = invert_files(face, tmp_path / "b", method="pti", base="e4e", steps=20)
    assert tuned["psnr_db"][0] > plain["psnr_db"][0] + 0.5
    with pytest.raises(ValueError, match="method: expected one of sg2_w"):
        invert_files(face, tmp_path / "c", method="pti", base="none", steps=2)


def test_a_folder_may_contain_files_that_cannot_be_read(face, tmp_path):
    picture = Image.fromarray(pixels(face))
    picture.convert("L").resize((90, 70)).save(tmp_path / "grey.jpg")
    picture.save(tmp_path / "face.jpg")  # the same stem as face.png
    (tmp_path / "broken.png").write_bytes(face.read_bytes()[:200])
    (tmp_path / "note.txt").write_text("no picture")
    said = []
    table = invert_files(tmp_path, tmp_path / "out", steps=2, batch_size=2, say=said.append)
    assert sorted(table["picture"]) == ["face", "face.png", "grey"]
    assert any("skipped" in line and "broken.png" in line for line in said)
    assert any("grey.jpg" in line and "central square" in line for line in said)


def test_results_do_not_depend_on_the_batch_size(face, tmp_path):
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
        (["{face}", "--method", "magic"], "expected one of " + ", ".join(METHODS) + "; got 'magic'"),
        (["{face}", "--edit", "wings=+2"], "edits: expected factors among face_width, "),
        (["{face}", "--edit", "wings=+2"], "; got 'wings'"),
        (["{face}", "--generator", "ffhq"], "expected a file, the name of a shipped generator (faces-64, faces-64-de"),
        (["{face}", "--steps", "0"], "steps: expected at least 1, got 0"),
        (["{face}", "--batch", "0"], "batch_size: expected at least 1, got 0"),
        (["{folder}"], "expected a folder with pictures"),
    ],
)
def test_errors_are_one_line_without_traceback(face, tmp_path, capsys, arguments, message):
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
    assert "expected FACTOR=STRENGTH, e.g. smile=+2, or FILE=STRENGTH, got 'smile'" in capsys.readouterr().err


def test_an_encoder_of_a_public_repository(face, tmp_path, capsys):
    """Its file brings the generator along; methods that it is not for are refused, and so are networks not used."""
    G, config = small_generator(resolution=32), EncoderConfig(layers=8, w_dim=16, widths=(4, 6, 8, 10), units=(1,) * 4)
    encoder = PspEncoder(config, seed=3).eval().requires_grad_(False)
    parts = {f"encoder.{k}": v for k, v in encoder.state_dict().items() if k != "latent_avg"}
    parts |= {f"decoder.{k}": v for k, v in rosinality.generator_to(G.state_dict()).items()}
    file, out = tmp_path / "psp.pt", tmp_path / "out"
    options = {"encoder_type": "GradualStyleEncoder"}
    torch.save({"state_dict": parts, "latent_avg": encoder.latent_avg, "opts": options}, file)
    command = ["invert", str(face), "--encoder", str(file), "--out", str(out)]
    assert main([*command, "--method", "psp"]) == 0
    saved = Inversion.load(out / "face.safetensors", G, codes_only=True)
    torch.testing.assert_close(saved.latent, encoder(read_image(face, 32)[0]))
    for method, says in (("e4e", "got PspEncoder of 3 channels"), ("restyle", "got PspEncoder of 3 channels"),
                         ("ii2s", "encoder: expected none, since the method ii2s uses none")):  # fmt: skip
        assert main([*command, "--method", method]) == 2
        assert says in capsys.readouterr().err
    assert main(["invert", str(face), "--perceptual", "vgg=nowhere.pth"]) == 2
    assert "vgg needs its weights, and there is no file nowhere.pth" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["invert", str(face), "--perceptual", "vgg"])
    assert "expected NAME=FILE, e.g. vgg=vgg16.pth, got 'vgg'" in capsys.readouterr().err


def test_edits_from_files(face, tmp_path, capsys):
    G = load("faces-64")
    own, public, out = tmp_path / "mine.edit.safetensors", tmp_path / "found.pt", tmp_path / "out"
    vector = directions_for(G)["age"].vector
    save_edit(own, Direction("age", vector, source="by hand"), G)
    torch.save({"eigvec": torch.eye(128)}, public)
    asked = ["--edit", f"{own}=+1", "--edit", f"{public}:component 3=-0.5", "--edit", f"{own}=+60"]
    assert main(["invert", str(face), "--steps", "1", *asked, "--out", str(out)]) == 0
    inversion, table = Inversion.load(out / "face.safetensors", G), pandas.read_csv(out / "measured.csv")
    wanted = {"mine.edit+1": vector, "found component 3-0.5": -0.5 * torch.eye(128)[3]}
    for label, step in wanted.items():
        picture = tile(inversion.edit(Direction("", step)), columns=1)
        assert np.array_equal(pixels(out / f"face.{label}.png"), np.asarray(picture))
    assert table["mine.edit+1 after"][0] > table["mine.edit+1 before"][0]
    assert not any("component" in column for column in table)  # no factor that the judge knows
    said = capsys.readouterr().out
    assert said.count("mine.edit+60: the picture leaves the generator's range: the PN+ norm of its code is") == 1
    assert "component 3-0.5: " not in said
    assert main(["invert", str(face), *asked[:2], *asked[:2], "--out", str(out)]) == 2
    assert "edits: expected different edits or strengths, got mine.edit+1 more than once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("{folder}/nowhere.npy=+1", "nowhere.npy: expected a file of edits or directions"),
        ("{folder}/wide.npy=+1", "wide.npy: expected vectors of the 128 dimensions of W, got the shape (512,)"),
        ("{folder}/many.npy=+1", "many.npy:many 0; got a file of many 0, many 1, many 2"),
        ("{folder}/many.npy:many 7=+1", "expected one of many 0, many 1, many 2 behind "),
        ("{folder}/other.safetensors=+1", "other.safetensors: expected an edit of mapping "),
        ("{folder}/wide.txt=+1", "no file of weights"),
    ],
)
def test_files_of_edits_that_do_not_fit(face, tmp_path, capsys, edit, message):
    np.save(tmp_path / "wide.npy", np.ones((1, 512)))
    np.save(tmp_path / "many.npy", np.eye(128)[:3])
    other = small_generator()
    save_edit(tmp_path / "other.safetensors", Direction("age", torch.ones(16)), other)
    (tmp_path / "wide.txt").write_text("smile")
    asked = ["--edit", edit.format(folder=tmp_path)]
    assert main(["invert", str(face), "--steps", "1", *asked, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The file of a small generator, whose statistics are measured from few codes."""
    G = small_generator()
    write_tensors(tmp_path / "small.safetensors", G.state_dict(), {"config": G.config.to_dict()})
    statistics = measure_statistics(G, 2_000)
    monkeypatch.setattr("latentlab.editing.lab.statistics_for", lambda G: statistics)
    return str(tmp_path / "small.safetensors")


@pytest.fixture
def scored(small, tmp_path, capsys):
    """A folder of samples, and tables of how dark their first rows are, in several states."""
    folder = tmp_path / "samples"
    assert main(["edits", "sample", "--generator", small, "--n", "40", "--seed", "3", "--out", str(folder)]) == 0
    assert "40 samples, scores.csv for their scores" in capsys.readouterr().out
    table = pandas.read_csv(folder / "scores.csv")
    assert list(table["file"]) == sorted(path.name for path in folder.glob("*.png")) and len(table) == 40
    table["dark"] = [-pixels(folder / name)[:6].mean() for name in table["file"]]
    table["same"], table["half"] = 1.0, [float("nan") if i % 2 else 1.0 for i in range(40)]
    table.drop(columns="file").to_csv(tmp_path / "ordered.csv", index=False)
    table[:10].to_csv(tmp_path / "short.csv", index=False)
    shuffled = table.sample(frac=1, random_state=0)
    shuffled["file"] = "scored/" + shuffled["file"]
    shuffled.to_csv(tmp_path / "shuffled.csv", index=False)
    shuffled.replace("scored/sample00007.png", "scored/sample00008.png").to_csv(tmp_path / "twice.csv", index=False)
    return folder


def find(scored, table, *arguments, column="dark", of=None, generator="small.safetensors"):
    folder = scored.parent
    which = ["--samples", str(scored)] if of is None else of
    generator = str(folder / generator) if generator.endswith("safetensors") else generator
    asked = ["--scores", str(folder / table), "--column", column, "--generator", generator, "--name", "dark"]
    return main(["edits", "find", *which, *asked, "--out", str(folder / "dark.edit.safetensors")])


def test_samples_are_scored_and_become_an_edit(scored, small, capsys):
    edit, G = scored.parent / "dark.edit.safetensors", load(small)
    assert find(scored, "shuffled.csv") == 0
    said = capsys.readouterr().out
    assert "dark: ridge regression in PN on 40 scores" in said and "agreement with samples that it was not" in said
    assert "effect: not measured, since no attribute network reads" in said and f"--edit {edit}=+1" in said
    first = read_edits(edit, G)["dark"]
    w = read_tensors(scored / "codes.safetensors")[0]["w"]
    picture = tile(G.synthesis(G.broadcast(w[5:6])), columns=1)
    assert np.array_equal(np.asarray(picture), pixels(scored / "sample00005.png"))
    before, after = (G.synthesis(first(State(G.broadcast(w)), torch.full((40,), s), G).w_plus) for s in (0.0, 1.0))
    assert ((after - before)[:, :, :6].mean((1, 2, 3)) < 0).float().mean() > 0.8
    for of in (None, ["--n", "40", "--seed", "3"]):  # rows without names are in order, and codes come from the seed
        assert find(scored, "ordered.csv", of=of) == 0
        assert torch.equal(read_edits(edit, G)["dark"].step, first.step)


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        ("short.csv", "dark", "short.csv: expected a row for each of 40 samples, got 10"),
        ("ordered.csv", "smile", "expected a column 'smile', got dark, same, half"),
        ("ordered.csv", "same", "scores: expected two classes, or scores that vary, got one value in all of 40"),
        ("ordered.csv", "half", "expected numbers in 'half', got 'nan' in row 1"),
        ("twice.csv", "dark", "sample00039.png in the column 'file', got none for sample00007.png"),
    ],
)
def test_scores_that_do_not_fit(scored, capsys, table, column, message):
    assert find(scored, table, column=column) == 2
    assert message in capsys.readouterr().err


def test_samples_of_another_generator(scored, capsys):
    assert find(scored, "ordered.csv", generator="faces-64") == 2
    assert "codes.safetensors: expected samples of the generator" in capsys.readouterr().err
    assert find(scored, "ordered.csv", of=["--samples", str(scored.parent)]) == 2
    assert "expected a folder of `latentlab edits sample`, got one without" in capsys.readouterr().err
    assert main(["edits", "sample", "--out", str(scored)]) == 2
    assert "expected a folder without scores.csv" in capsys.readouterr().err


def test_the_effect_is_told(tmp_path, capsys, monkeypatch):
    names = tuple(f"factor{i}" for i in range(8))
    effect = Effect(names, torch.arange(8.0) - 4, torch.ones(8), torch.ones(8), 1.0)
    found = Finding(Direction("dark", torch.ones(16), source="by hand"), 0.5, effect)
    monkeypatch.setattr("latentlab.jobs.samples.find_edit_of_scores", lambda *_, **__: found)
    asked = ["--scores", "x.csv", "--column", "a", "--n", "8", "--name", "dark", "--out", str(tmp_path / "e")]
    assert main(["edits", "find", *asked]) == 0
    said = capsys.readouterr().out
    assert "0.50 (1 is perfect" in said and said.index("factor0") < said.index("factor1") < said.index("factor7")
    assert "factor4" not in said  # the least


def test_methods_lists_methods_generators_and_factors(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("ii2s", "sg2_w", "faces-64", "glasses"))


def test_demo_writes_a_picture_and_a_table(tmp_path):
    table = demo(tmp_path, steps=2, faces=2)
    assert len(table) == 2 and {"psnr_db", "yaw gain", "age residual"} <= set(table.columns)
    assert table["face"].tolist() == ["none", "hat"]
    left = (1 - table["age gain"]) ** 2 + table["age residual"] ** 2  # the error has two orthogonal parts
    np.testing.assert_allclose(table["age total error"] ** 2, left, rtol=1e-3)
    assert pixels(tmp_path / "demo.png").shape[1] > 1000
    assert (tmp_path / "demo.csv").is_file()


def test_faces_are_written_with_their_factors(tmp_path):
    assert main(["faces", "-n", "4", "--resolution", "32", "--out", str(tmp_path)]) == 0
    table = pandas.read_csv(tmp_path / "factors.csv")
    assert len(table) == 4 and table["detail"][0] == "none" and "smile" in table
    assert pixels(tmp_path / table["file"][3]).shape == (32, 32, 3)


def test_samples_do_not_depend_on_their_number(tmp_path):
    G = load("faces-64")
    torch.testing.assert_close(draw_samples(G, 3)[:2], draw_samples(G, 2), atol=1e-5, rtol=1e-5)


def test_a_second_run_keeps_the_results_of_the_first(face, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(pixels(face)[:, ::-1]).save(other)
    out = tmp_path / "out"
    for source in (face, other, face):
        invert_files(source, out, steps=1)
    assert sorted(pandas.read_csv(out / "measured.csv")["picture"]) == ["face", "other"]


def test_output_folder_must_not_be_the_input(face, tmp_path):
    with pytest.raises(ValueError, match="out: expected a folder other than that of the pictures"):
        invert_files(tmp_path, tmp_path, steps=1)
    with pytest.raises(ValueError, match="out: expected a folder, got the file"):
        invert_files(face, face, steps=1)


def test_interruption_ends_the_job_and_keeps_finished_batches(face, tmp_path, monkeypatch):
    Image.fromarray(pixels(face)[:, ::-1]).save(tmp_path / "second.png")
    found = []

    def interrupted_at_the_second(images, G, method, **knobs):
        result = invert(images, G, method, **knobs)
        found.append(result)
        return replace(result, interrupted=len(found) == 2)

    monkeypatch.setattr("latentlab.jobs.inversions.invert", interrupted_at_the_second)
    said = []
    with pytest.raises(KeyboardInterrupt):
        invert_files(tmp_path, tmp_path / "out", steps=1, batch_size=1, say=said.append)
    assert said[-1].startswith("interrupted: 1 of 2 pictures")
    assert not (tmp_path / "out" / "second.safetensors").exists()
    assert list(pandas.read_csv(tmp_path / "out" / "measured.csv")["picture"]) == ["face"]


def test_strengths_are_finite_numbers_in_any_notation(face, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["invert", str(face), "--steps", "1", "--edit", "smile=-1e-5", "--out", str(out)]) == 0
    for wrong in ("smile=nan", "smile=inf", "smile"):
        with pytest.raises(SystemExit):
            main(["invert", str(face), "--edit", wrong])
    assert "expected FACTOR=STRENGTH" in capsys.readouterr().err
    assert main(["invert", str(face), "--device", "abacus"]) == 2
    assert "--device: expected cpu" in (error := capsys.readouterr().err) and "got 'abacus'" in error


def test_mixed_precision_finds_nearly_the_same(face, tmp_path):
    tables = [invert_files(face, tmp_path / p, steps=20, precision=p) for p in ("32", "bf16")]
    exact, mixed = (float(table["psnr_db"][0]) for table in tables)
    assert exact != mixed and abs(exact - mixed) < 0.5
    with pytest.raises(ValueError, match="precision: expected '32' or 'bf16', got '16'"):
        invert_files(face, tmp_path / "x", precision="16")


def test_batches_shrink_as_pictures_grow():
    assert [default_batch_size(r) for r in (64, 128, 256, 512, 1024)] == [16, 16, 10, 4, 2]
