"""Training of the contrastive pair: what a step does, that it is shared and resumed, and the pair as a loss."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small import small_generator

from latentlab.cli import main
from latentlab.encoders.contrastive import ContrastivePair
from latentlab.encoders.shipped import load_pair, pair_for
from latentlab.spaces import fingerprint
from latentlab.training import publishing, recipes
from latentlab.training.contrastive import (
    HELD_OUT,
    LARGEST,
    ContrastiveTraining,
    alignment,
    configure_contrastive,
    draw_pairs,
    measure_retrieval,
    training_pairs,
)
from latentlab.training.encoders import EncoderTraining, configure
from latentlab.training.loop import train


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def begin(G, fabric, images: int = 64, **settings) -> ContrastiveTraining:
    return ContrastiveTraining(configure_contrastive(G, images=images, **{"batch_size": 8} | settings), G, fabric)


def test_pairs_are_pictures_and_their_codes(G):
    images, w = draw_pairs(G, 3, 10, 4)
    torch.testing.assert_close(images, G.synthesis(G.broadcast(w)))
    again = draw_pairs(G, 3, 12, 2)
    torch.testing.assert_close(w[2:], again[1])  # numbered, so that any split of a batch draws the same
    assert not torch.allclose(draw_pairs(G, 3, HELD_OUT, 4)[1], w)


def test_a_training_aligns(G, fabric):
    """After some steps on the same pairs each is found by its partner, and the temperature has moved."""
    training = begin(G, fabric, 400, learning_rate=3e-3)
    batch = draw_pairs(G, 0, 0, 8)
    before = training.pair.image_avg.clone()
    logged = [training.step(batch) for _ in range(30)]
    assert logged[0]["contrastive"] > 1 and logged[-1]["contrastive"] < 0.3 and logged[-1]["retrieval"] > 0.8
    assert float(logged[-1]["temperature"]) != pytest.approx(0.07, abs=1e-4)
    torch.testing.assert_close(before, G.synthesis(G.broadcast(G.w_avg[None]))[0])


def test_the_temperature_is_clamped(G, fabric):
    training = begin(G, fabric)
    with torch.no_grad():
        training.pair.images.logit_scale.fill_(9.0)
    logged = training.step(draw_pairs(G, 0, 0, 8))
    assert float(training.pair.images.logit_scale.detach()) == pytest.approx(LARGEST) == math.log(100)
    assert float(logged["temperature"]) == pytest.approx(0.01)


def test_held_out_pairs_are_found_as_chance_has_it_before_training(G):
    found = measure_retrieval(begin(G, Fabric(accelerator="cpu")).pair, G, 150)
    assert found.chance == pytest.approx(1 / 150) and max(found[:2]) < 0.2


def test_resumes_bit_for_bit(G, fabric, tmp_path):
    def run(out: Path, images: int, **how) -> dict[str, torch.Tensor]:
        training = begin(G, fabric, 32)
        train(training, training_pairs(training.config, G), out, images=images, **how)
        return training.pair.state_dict()

    whole = run(tmp_path / "whole", 32)
    run(tmp_path / "parts", 16)
    parts = run(tmp_path / "parts", 32, resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert len(list((tmp_path / "whole").glob("samples_*.png"))) == 1


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path):
    """The negatives of both count, with their gradients; batch normalisation is off, which is not shared."""
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import sys, torch
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from lightning_fabric import Fabric
from small import small_generator
from latentlab.training.contrastive import ContrastiveTraining, configure_contrastive, draw_pairs
devices = int(sys.argv[1])
fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", precision="32-true")
fabric.launch()
G = small_generator(1, 32)
training = ContrastiveTraining(configure_contrastive(G, images=64, batch_size=8), G, fabric)
training.pair.eval()
n = 8 // devices
logged = training.step(draw_pairs(G, 0, fabric.global_rank * n, n))
gradients = [p.grad for p in training.pair.parameters() if p.grad is not None]
torch.save([logged, gradients], r"{tmp_path}/" + f"{{devices}}-{{fabric.global_rank}}")
"""
    )
    for devices in "12":
        subprocess.run([sys.executable, str(script), devices], check=True, capture_output=True, timeout=300)
    alone, *both = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0", "2-0", "2-1"))
    for logged, gradients in both:
        torch.testing.assert_close(logged["contrastive"], alone[0]["contrastive"])
        torch.testing.assert_close(gradients, alone[1], rtol=1e-3, atol=1e-6)


def test_a_batch_of_one_is_refused(G, fabric, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="batch_size: expected at least 2 with a contrastive loss, got 1"):
        begin(G, fabric, batch_size=1)
    with pytest.raises(ValueError, match="batch_size: expected at least 2"):
        configure("A", G, images=8, batch_size=1, weights={"alignment": 0.1})
    with pytest.raises(ValueError, match="images: expected at least a batch of 8, got 3"):
        begin(G, fabric, 3)
    monkeypatch.setattr(recipes, "load", lambda name: G)
    assert main(["train", "contrastive", "--batch", "1", "--images", "8", "--out", str(tmp_path)]) == 2
    assert "the other pairs of a batch are the negatives" in capsys.readouterr().err


def test_the_frozen_pair_is_a_loss_of_encoders(G, fabric):
    """By name and weight; the pair itself does not move, and the loss of the first code falls."""
    pair = begin(G, fabric, learning_rate=3e-3)
    batch = draw_pairs(G, 0, 0, 8)
    for _ in range(30):
        pair.step(batch)
    pair = pair.pair
    only = {"alignment": 1.0, "l2": 0.0, "perceptual": 0.0, "identity": 0.0}
    config = configure("w_encoder", G, only, images=4000, batch_size=8, learning_rate=1e-2)
    config = replace(config, pair=fingerprint(pair, "generator"))
    training = EncoderTraining(config, G, fabric, pair)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    logged = [training.step(batch[0]) for _ in range(40)]
    assert logged[-1]["alignment"] < 0.7 * logged[0]["alignment"]
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    x, w = batch
    torch.testing.assert_close(alignment(pair, x, w, fabric), pair.loss(x, w).mean())
    with pytest.raises(ValueError, match="pair: expected a trained contrastive pair for the loss alignment, got none"):
        EncoderTraining(config, G, fabric)
    with pytest.raises(ValueError, match="pair: expected the contrastive pair "):
        EncoderTraining(config, G, fabric, ContrastivePair(pair.config, seed=9))


def test_a_run_of_the_command_becomes_a_pair(G, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "load", lambda name: G)
    monkeypatch.setattr(publishing, "load", lambda name: G)
    out = tmp_path / "run"
    command = ["train", "contrastive", "--images", "16", "--batch", "8", "--out", str(out), "--accelerator", "cpu"]
    assert main([*command, "--precision", "32-true"]) == 0
    (file,) = recipes.publish_run(out, "small", tmp_path / "weights")
    entry = json.loads((tmp_path / "weights" / "manifest.json").read_text())["files"][file.name]
    assert file.name == "small.contrastive.safetensors" and entry["held_out"]["pairs"] == 1000
    pair = load_pair(file, G)
    trained = torch.load(out / "checkpoint.pt", weights_only=True)["pair"]
    got, want = (float(state["images.logit_scale"]) for state in (pair.state_dict(), trained))
    assert got == pytest.approx(want, abs=2e-3)  # half precision
    assert not pair.training and not any(p.requires_grad for p in pair.parameters())
    with pytest.raises(ValueError, match="expected a contrastive pair of generator .*, got one of"):
        load_pair(file, small_generator(2, 32))
    with pytest.raises(ValueError, match="pair: expected a generator with a shipped contrastive pair"):
        pair_for(G)
