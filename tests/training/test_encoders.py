"""Training of encoders: what a step minimises, what opens when, and that a run can be resumed, shared and shipped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small import small_generator

from latentlab.cli import main
from latentlab.encoders.kinds import ENCODERS, build_encoder, slim_config
from latentlab.encoders.shipped import encoder_for, load_encoder
from latentlab.inversion_methods import invert
from latentlab.spaces import fingerprint
from latentlab.training import encoders, recipes
from latentlab.training.encoders import (
    DISTORTION,
    EncoderTraining,
    configure,
    delta_weight,
    flat_then_cosine,
    training_pictures,
)
from latentlab.training.loop import train
from latentlab.weights import write_tensors
from latentlab.weights.generators import load


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


def begin(name: str, G, images: int = 64, **settings) -> EncoderTraining:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return EncoderTraining(configure(name, G, images=images, batch_size=4, **settings), G, fabric)


def run(training: EncoderTraining, out: Path, images: int = 64, **how) -> EncoderTraining:
    train(training, training_pictures(training.config, training.G.resolution), out, images=images, **how)
    return training


def same(a: dict, b: dict) -> bool:
    """Whether two states hold the same, tensors bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize(
    ("name", "encoder", "extra"),
    [
        ("A", "psp", set()),
        ("B", "e4e", {"delta"}),
        ("C", "psp", {"adversarial"}),
        ("D", "e4e", {"delta", "adversarial"}),
        ("lsap_e", "lsap_e", {"delta", "sncd"}),
        ("restyle", "restyle", set()),
        ("w_encoder", "w_encoder", set()),
    ],
)
def test_configurations_follow_their_principles(G, name, encoder, extra):
    """e4e, Table 2: delta regularization comes with the progressive schedule, the discriminator by itself."""
    config = configure(name, G, images=100)
    assert config.encoder == encoder and set(config.losses) == {*DISTORTION, *extra}
    assert (config.progressive is not None) == ("delta" in extra)


def test_the_weight_of_deltas_is_the_papers_for_its_codes():
    official = slim_config("e4e", load("faces-64").config).__class__()
    assert delta_weight(official) == pytest.approx(2e-4)
    # 9 offsets of length 2 in place of 17 of length 4 count as much
    slim = slim_config("e4e", load("faces-64").config)
    assert delta_weight(slim) * (slim.layers - 1) * slim.w_dim**0.5 == pytest.approx(2e-4 * 17 * 512**0.5)


@pytest.mark.parametrize("name", ["A", "restyle", "lsap_e"])
def test_a_run_learns(G, name):
    """On four pictures of the generator again and again the distortion falls."""
    training = begin(name, G, images=120, learning_rate=1e-2)
    batch = G(torch.randn(4, G.z_dim, generator=torch.Generator().manual_seed(0)))
    logged = [training.step(batch) for _ in range(25)]
    early, late = (sum(float(step["l2"]) for step in part) for part in (logged[:5], logged[-5:]))
    assert late < 0.8 * early
    assert set(logged[0]) - {"stage", "variation"} == set(training.config.losses)


def test_stages_open_offset_by_offset(G, tmp_path):
    training = begin("D", G, images=400)
    offsets = training.config.shape.layers - 1
    assert training.stage_starts == [10 + round(16 / (offsets - 1) * i) for i in range(offsets)]
    batch = training_pictures(training.config, 32)(0, 4, torch.device("cpu"))
    assert training.step(batch)["variation"] == 0  # a code of W until the first offset joins
    training.step_index = training.stage_starts[-1]
    assert training.step(batch)["variation"] > 0


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_discriminator_learns_to_tell_the_codes(G, variant):
    training = begin("C", G, images=400, variant=variant, discriminator_learning_rate=1e-2)
    batch = training_pictures(training.config, 32)(0, 4, torch.device("cpu"))
    logged = [training.step(batch) for _ in range(20)]
    early, late = (sum(float(step["discriminator"]) for step in part) for part in (logged[:5], logged[-5:]))
    assert late < early and logged[-1]["logit_w"] > logged[-1]["logit_encoder"]
    assert "r1" in logged[0] and "r1" not in logged[1] and "r1" in logged[16]


@pytest.mark.parametrize("name", ["D", "restyle"])
def test_resumes_bit_for_bit(G, name, tmp_path):
    whole = run(begin(name, G, 24), tmp_path / "whole", 24)
    run(begin(name, G, 24), tmp_path / "parts", 12)
    parts = run(begin(name, G, 24), tmp_path / "parts", 24, resume=True)
    assert same(whole.state_dict(), parts.state_dict())
    with pytest.raises(ValueError, match="resume: expected the settings of the checkpoint, got .*learning_rate"):
        run(begin(name, G, 24, learning_rate=1e-4), tmp_path / "parts", 24, resume=True)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    """Both hold the same weights, and those of one process up to the statistics of its larger batches."""
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import sys, torch
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from lightning_fabric import Fabric
from small import small_generator
from latentlab.training.encoders import EncoderTraining, configure, training_pictures
from latentlab.training.loop import train
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="32-true")
fabric.launch()
G = small_generator(1, 32)
training = EncoderTraining(configure("D", G, images=64, batch_size=16), G, fabric)
train(training, training_pictures(training.config, 32), r"{tmp_path}/run", images=64)
weights = {{k: v for k, v in training.E.state_dict().items() if "running" not in k}}
torch.save([weights, dict(training.D.state_dict())], r"{tmp_path}/" + str(fabric.global_rank))
"""
    )
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True, timeout=300)
    a, b = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    assert same(a, b)
    G = small_generator(1, 32)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    alone = EncoderTraining(configure("D", G, images=64, batch_size=16), G, fabric)
    start = {k: v.clone() for k, v in alone.E.named_parameters()}
    run(alone, tmp_path / "alone")
    moved = torch.cat([(v - start[k]).flatten() for k, v in alone.E.named_parameters()])
    shared = torch.cat([(a[0][k] - start[k]).flatten() for k in start])
    assert torch.cosine_similarity(moved, shared, dim=0) > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"l2": -1.0}}, "weight of l2: expected a finite number of at least 0"),
        ({"weights": {"beauty": 1.0}}, "losses: expected names among l2, .*, got beauty"),
        ({"images": 3}, "images: expected at least a batch of 4, got 3"),
        ({"strange": 1.5}, "strange: expected a share from 0 to 1, got 1.5"),
    ],
)
def test_bad_settings_are_refused(G, settings, message):
    with pytest.raises(ValueError, match=message):
        begin("D", G, **settings)


def test_an_encoder_of_another_generator_is_refused(G):
    with pytest.raises(ValueError, match="generator: expected .*, got "):
        EncoderTraining(begin("A", G).config, small_generator(2, 32), Fabric(accelerator="cpu", precision="32-true"))
    with pytest.raises(ValueError, match=r"encoder: expected one of w_encoder, .*, got 'vae'"):
        build_encoder("vae", slim_config("psp", G.config))
    other = build_encoder("psp", slim_config("psp", small_generator(1, 16).config))
    with pytest.raises(ValueError, match=r"encoder: expected one for codes of shape \(8, 16\), got \(6, 16\)"):
        invert(torch.zeros(1, 3, 32, 32), G, "psp", encoder=other)
    with pytest.raises(ValueError, match="encoder: expected none, since no encoder is shipped for this generator"):
        encoder_for(G, "psp")


def test_the_learning_rate_is_constant_and_then_falls():
    assert [flat_then_cosine(share) for share in (0, 0.5)] == [1, 1]
    assert flat_then_cosine(0.75) == pytest.approx(0.5) and flat_then_cosine(1.0) == pytest.approx(0)


def test_a_run_of_the_command_becomes_an_encoder_that_inverts(tmp_path, monkeypatch, capsys):
    """The command, publishing, and loading; the codes are those of the trained network in half precision."""
    G = small_generator(1, 32)
    monkeypatch.setattr(recipes, "load", lambda name: G)
    out, shipped = tmp_path / "run", tmp_path / "weights"
    command = ["train", "e4e", "--config", "B", "--images", "16", "--loss", "delta=0.01", "--out", str(out)]
    assert main([*command, "--accelerator", "cpu", "--precision", "32-true"]) == 0
    described = json.loads((out / "run.json").read_text())
    assert described["config"]["losses"]["delta"] == 0.01 and described["configuration"] == "B"
    (file,) = recipes.publish_run(out, "small", shipped)
    assert file.name == "small.e4e.safetensors"
    encoder = load_encoder(file, G)
    x = training_pictures(configure("B", G, images=16), 32)(500, 3, torch.device("cpu"))
    trained = torch.load(out / "checkpoint.pt", weights_only=True)["E"]
    live = build_encoder("e4e", encoder.config)
    live.load_state_dict(trained)
    torch.testing.assert_close(invert(x, G, "e4e", encoder=encoder).latent, live.eval()(x), rtol=2e-2, atol=2e-2)
    with pytest.raises(
        ValueError, match=f"expected an encoder of generator .*, got one of {fingerprint(G, 'generator')}"
    ):
        load_encoder(file, small_generator(2, 32))
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="expected an encoder written by `latentlab publish`"):
        load_encoder(tmp_path / "other.safetensors", G)


def test_a_training_goes_on_from_another_ones_encoder(tmp_path, monkeypatch, capsys):
    """LSAP's encoders for several lambdas begin with the same weights, with all codes; what does not fit is refused."""
    G = small_generator(1, 32)
    monkeypatch.setattr(recipes, "load", lambda name: G)
    how = ["--images", "16", "--accelerator", "cpu", "--precision", "32-true"]
    warm, out = tmp_path / "warm", tmp_path / "out"
    assert main(["train", "lsap_e", "--loss", "sncd=0", *how, "--out", str(warm)]) == 0
    frozen = [*how, "--learning-rate", "0", "--seed", "4", "--start-from"]
    assert main(["train", "lsap_e", *frozen, str(warm), "--out", str(out)]) == 0
    before, after = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (warm, out))
    learned = [name for name, _ in build_encoder("lsap_e", slim_config("lsap_e", G.config)).named_parameters()]
    assert all(torch.equal(before["E"][name], after["E"][name]) for name in learned)
    assert before["config"]["progressive"] and after["config"]["progressive"] is None
    assert json.loads((out / "run.json").read_text())["start_from"]["configuration"] == "lsap_e"
    capsys.readouterr()
    assert main(["train", "w_encoder", *frozen, str(warm), "--out", str(tmp_path / "w")]) == 2
    assert "start_from: expected a run whose shape is" in capsys.readouterr().err
    assert main(["train", "psp", *frozen, str(tmp_path / "none"), "--out", str(tmp_path / "n")]) == 2
    assert "start_from: expected the folder of a run" in capsys.readouterr().err


def test_a_loss_without_a_weight_is_told(tmp_path, capsys):
    assert main(["train", "psp", "--images", "16", "--loss", "delta", "--out", str(tmp_path)]) == 2
    assert "--loss: expected NAME=WEIGHT" in capsys.readouterr().err


def test_every_encoder_has_a_slim_shape(G):
    for name in ENCODERS:
        encoder = build_encoder(name, slim_config(name, G.config))
        images = torch.zeros(2, encoder.config.in_channels, 32, 32)
        assert encoder.eval()(images).shape == (2, G.num_ws, G.w_dim)
    assert encoders.LOSSES[:3] == tuple(DISTORTION)
