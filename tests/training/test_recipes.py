"""Recipes: a network learns to read, resumes bit for bit, and a run becomes weights that load."""

import json
import os
import signal
import sys

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from latentlab import weights
from latentlab.checkpoints import load_checkpoint
from latentlab.cli import main
from latentlab.faces import NAMES, sample_factors
from latentlab.judges.identity import load_identity_judge
from latentlab.networks.attributes import AttributeNetwork, ResidualAttributeNetwork
from latentlab.spaces import Statistics, fingerprint
from latentlab.training import publishing, recipes
from latentlab.training.readers import factor_loss, fit_factors, fit_identity
from latentlab.weights import generators


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")


def network() -> AttributeNetwork:
    return recipes._seeded(0, lambda: AttributeNetwork(list(NAMES), (8, 8, 8)))


class Softmax(nn.Module):
    """What the margin loss is to a training: a loss with a centre for each person. Its call ``stop`` interrupts."""

    def __init__(self, stop: int = -1) -> None:
        super().__init__()
        self.num_classes, self.stop = 16, stop
        self.centres = recipes._seeded(1, lambda: nn.Linear(len(NAMES), self.num_classes))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.stop -= 1
        if self.stop == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return nn.functional.cross_entropy(self.centres(embeddings), labels)


def test_reading_resumes_bit_for_bit(tmp_path, fabric, monkeypatch):
    whole = fit_factors(network(), tmp_path / "whole", images=64, batch_size=8, fabric=fabric)
    stop = {"at": 4}
    real_loss = factor_loss

    def interrupting(*arguments):
        stop["at"] -= 1
        if stop["at"] == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return real_loss(*arguments)

    monkeypatch.setattr("latentlab.training.readers.factor_loss", interrupting)
    fit_factors(network(), tmp_path / "parts", images=64, batch_size=8, fabric=fabric)
    assert stop["at"] == 0
    parts = fit_factors(network(), tmp_path / "parts", images=64, batch_size=8, fabric=fabric, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_identity_resumes_bit_for_bit(tmp_path, fabric):
    how = {"images": 64, "batch_size": 8, "fabric": fabric}
    whole = fit_identity(network(), Softmax(), tmp_path / "whole", **how)
    first = fit_identity(network(), Softmax(stop=4), tmp_path / "parts", **how)
    parts = fit_identity(network(), Softmax(), tmp_path / "parts", **how, resume=True)
    assert not torch.equal(first.head[-1].weight, whole.head[-1].weight)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_a_run_becomes_an_identity(tmp_path, fabric, monkeypatch):
    """train with the margin loss and publish: what is shipped is the distance alone, and its accuracy is told."""
    pytest.importorskip("pytorch_metric_learning")
    monkeypatch.setattr(recipes, "PEOPLE", 128)
    monkeypatch.setattr(publishing, "HELD_OUT", 50)
    recipes.train_network("identity-judge", tmp_path / "run", images=64, fabric=fabric)
    recipes.publish_run(tmp_path / "run", "x", tmp_path / "weights")
    entry = weights.read_manifest(tmp_path / "weights")["judges.identity.safetensors"]
    assert entry["seed"] == 2_000 and 0.6 < entry["held_out"]["auc"] <= 1
    tensors, _ = weights.read_weights("judges.identity.safetensors", tmp_path / "weights")
    assert tensors.keys() == load_identity_judge().state_dict().keys()


def test_the_margin_loss_says_what_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    command = ["train", "identity", "--out", str(tmp_path), "--images", "64", "--accelerator", "cpu"]
    assert main(command) == 2
    assert "pip install pytorch-metric-learning" in capsys.readouterr().err


def test_reading_is_learned(tmp_path, fabric):
    """The background's lightness is the easiest factor: a few hundred faces teach it."""
    trained = fit_factors(network(), tmp_path, images=1_600, batch_size=16, learning_rate=1e-2, fabric=fabric)
    faces = sample_factors(100, seed=5)
    from latentlab.faces import render
    from latentlab.networks.attributes import read_factors

    seen, truth = read_factors(trained, render(faces)), faces.values
    k = NAMES.index("background_light")
    assert 1 - (seen - truth)[:, k].square().mean() / truth[:, k].var() > 0.5


def test_families_differ_in_architecture_and_renders():
    losses, judge = AttributeNetwork(list(NAMES)), ResidualAttributeNetwork(list(NAMES))
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
    G = generators.load(folder / "tiny-16.generator.safetensors")
    statistics = Statistics.from_tensors(*weights.read_weights("tiny-16.statistics.safetensors", folder))
    statistics.check(G)
    assert json.loads((run / "run.json").read_text())["preset"] == "tiny-16"
    assert fingerprint(G) == manifest["tiny-16.generator.safetensors"]["fingerprint"]
    torch.testing.assert_close(G.w_avg, statistics.w_mean.float(), atol=1e-3, rtol=1e-2)


def test_a_second_look_keeps_the_latent_space(tmp_path, fabric, capsys):
    """Fine-tuned with its mapping frozen: the codes and statistics of the first generator are those of the second."""
    command = ["train", "generator", "--preset", "faces-64-sketch", "--out", str(tmp_path / "none")]
    assert main([*command, "--accelerator", "cpu"]) == 2 and "name one, e.g. faces-64" in capsys.readouterr().err
    recipes.train_faces("faces-64-sketch", tmp_path / "run", images=16, fabric=fabric, start_from="faces-64")
    (file,) = recipes.publish_run(tmp_path / "run", "second", tmp_path / "weights")
    first, second = generators.load("faces-64"), generators.load(file)
    z = torch.randn(4, first.z_dim, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.mapping(z), second.mapping(z))
    assert torch.equal(first.w_avg, second.w_avg) and fingerprint(first) == fingerprint(second)
    assert not torch.equal(first(z), second(z))


def test_publish_wants_a_run(tmp_path, capsys):
    assert main(["publish", str(tmp_path), "--name", "x"]) == 2
    assert "is no run" in capsys.readouterr().err


def test_settings_from_the_command_line_are_recorded(tmp_path, capsys):
    command = ["train", "generator", "--preset", "tiny-16", "--out", str(tmp_path), "--accelerator", "cpu"]
    given = ["--mapping-layers", "3", "--path-length", "2", "--mapping-lr", "10", "--seed", "7"]
    assert main([*command, *given, "--images", "4"]) == 0
    config = json.loads((tmp_path / "run.json").read_text())["config"]
    assert config["generator"]["mapping_layers"] == 3 and config["seed"] == 7
    assert config["path_length_weight"] == 2 and config["mapping_learning_rate"] == 10
    assert load_checkpoint(tmp_path / "checkpoint.pt")["config"]["mapping_learning_rate"] == 10
    capsys.readouterr()
    assert main([*command, "--images", "8", "--resume"]) == 2
    message = capsys.readouterr().err
    assert "generator.mapping_layers = 2 (the checkpoint has 3)" in message and "seed = 0 (" in message
    assert main([*command, *given, "--images", "8", "--resume"]) == 0


@pytest.mark.parametrize(
    "given, message",
    [
        (["--mapping-layers", "0"], "mapping_layers: expected at least 1, got 0"),
        (["--path-length", "-1"], "weight of path_length: expected a finite number of at least 0, got -1"),
        (["--mapping-lr", "nan"], "mapping_learning_rate: expected a positive finite factor, got nan"),
        (["--seed", str(2**62)], "training seed: expected 0 to 2**62 - 1"),
        (["--start-from", "faces-64"], "start_from: expected a generator of the preset's shape"),
        (["--start-from", "nothing"], "got 'nothing.discriminator.safetensors'"),
        (["--preset", "faces-64-sketch", "--start-from", "faces-64", "--mapping-layers", "8"], "expected the 2 of"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, message, tmp_path, capsys):
    command = ["train", "generator", "--preset", "tiny-16", "--out", str(tmp_path), "--accelerator", "cpu"]
    assert main([*command, *given, "--images", "4"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_warm_start_keeps_the_players_behind_a_new_mapping(tmp_path, fabric):
    how = {"images": 8, "fabric": fabric, "start_from": "faces-64"}
    training = recipes.train_faces("faces-64", tmp_path, mapping_layers=4, **how)
    donor, D = generators.load("faces-64"), generators.load_discriminator("faces-64")
    assert len(training.G.mapping.layers) == 4 and training.G.config.mapping_layers == 4
    assert json.loads((tmp_path / "run.json").read_text())["start_from"]["images"] == 48_360
    z = torch.randn(500, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (old, new), (told, anew) = ((G(z[:200]), torch.cat(G.styles(G.broadcast(G.mapping(z))), 1))
                                    for G in (donor, training.G_ema))  # fmt: skip
        assert (anew.std(0) / new.std(0)).log().abs().mean() < 0.1
        # What the discriminator thinks of both differs less than its opinions of one of them do.
        logits = [D(images) for images in (old, told)]
    assert (logits[0].mean() - logits[1].mean()).abs() < 0.5 * logits[0].std()


def test_an_unknown_kind_of_run_is_told(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"kind": "poet"}')
    assert main(["publish", str(tmp_path), "--name", "x"]) == 2
    assert "expected one of the kinds generator, encoder, contrastive, hfgi" in capsys.readouterr().err


def test_fewer_images_than_a_batch_are_told(tmp_path, fabric):
    with pytest.raises(ValueError, match="images: expected at least a batch of 8, got 7"):
        fit_factors(network(), tmp_path, images=7, batch_size=8, fabric=fabric)


def test_a_reader_is_resumed_with_its_own_schedule(tmp_path, fabric):
    fit_factors(network(), tmp_path, images=16, batch_size=8, fabric=fabric)
    with pytest.raises(ValueError, match=r"images = 32 \(the checkpoint has 16\)"):
        fit_factors(network(), tmp_path, images=32, batch_size=8, fabric=fabric, resume=True)
