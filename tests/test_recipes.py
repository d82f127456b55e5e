"""Recipes: a network learns to read, resumes bit for bit, and a run becomes weights that load."""

import json

import pytest
import torch
from lightning_fabric import Fabric

from latentlab import recipes, weights
from latentlab.cli import main
from latentlab.faces import NAMES, sample_factors
from latentlab.formats import models
from latentlab.judges.attributes import AttributeJudge
from latentlab.losses.attributes import AttributeNetwork
from latentlab.regression import factor_loss, fit_factors
from latentlab.spaces import Statistics, fingerprint


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")


def network() -> AttributeNetwork:
    return recipes._seeded(0, lambda: AttributeNetwork(list(NAMES), (8, 8, 8)))


def test_reading_resumes_bit_for_bit(tmp_path, fabric, monkeypatch):
    whole = fit_factors(network(), tmp_path / "whole", images=64, batch_size=8, fabric=fabric)
    stop = {"at": 4}
    real_loss = factor_loss

    def interrupting(*arguments):
        stop["at"] -= 1
        if stop["at"] == 0:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return real_loss(*arguments)

    monkeypatch.setattr("latentlab.regression.factor_loss", interrupting)
    fit_factors(network(), tmp_path / "parts", images=64, batch_size=8, fabric=fabric)
    assert stop["at"] == 0
    parts = fit_factors(network(), tmp_path / "parts", images=64, batch_size=8, fabric=fabric, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_reading_is_learned(tmp_path, fabric):
    """The background's lightness is the easiest factor: a few hundred faces teach it."""
    trained = fit_factors(network(), tmp_path, images=1_600, batch_size=16, learning_rate=1e-2, fabric=fabric)
    faces = sample_factors(100, seed=5)
    from latentlab.faces import render
    from latentlab.regression import read_factors

    seen, truth = read_factors(trained, render(faces)), faces.values
    k = NAMES.index("background_light")
    assert 1 - (seen - truth)[:, k].square().mean() / truth[:, k].var() > 0.5


def test_families_differ_in_architecture_and_renders():
    losses, judge = AttributeNetwork(list(NAMES)), AttributeJudge(list(NAMES))
    assert {tuple(p.shape) for p in losses.parameters()} != {tuple(p.shape) for p in judge.parameters()}
    shipped = weights.read_manifest()
    assert shipped["losses.perceptual.safetensors"]["seed"] != shipped["judges.attributes.safetensors"]["seed"]


def test_a_run_becomes_weights(tmp_path, monkeypatch):
    """train, resume, publish, load: the recipe of the shipped generator on the tiny preset."""
    run, folder = tmp_path / "run", tmp_path / "weights"
    command = ["train", "generator", "--preset", "tiny-16", "--out", str(run), "--accelerator", "cpu"]
    assert main([*command, "--images", "8"]) == 0
    assert main([*command, "--images", "8"]) == 2  # never overwrites a run
    assert main([*command, "--images", "16", "--resume"]) == 0
    recipes.publish_run(run, "tiny-16", folder, codes=2_000)
    manifest = weights.read_manifest(folder)
    assert manifest["tiny-16.generator.safetensors"]["images"] == 16
    assert {"sha256", "command", "seed", "hardware", "date"} <= set(manifest["tiny-16.generator.safetensors"])
    G = models.load(folder / "tiny-16.generator.safetensors")
    statistics = Statistics.from_tensors(*weights.read_weights("tiny-16.statistics.safetensors", folder))
    statistics.check(G)
    assert json.loads((run / "run.json").read_text())["preset"] == "tiny-16"
    assert fingerprint(G) == manifest["tiny-16.generator.safetensors"]["fingerprint"]
    torch.testing.assert_close(G.w_avg, statistics.w_mean.float(), atol=1e-3, rtol=1e-2)


def test_publish_wants_a_run(tmp_path, capsys):
    assert main(["publish", str(tmp_path), "--name", "x"]) == 2
    assert "is no run" in capsys.readouterr().err
