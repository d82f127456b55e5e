"""Training of encoders into F space: what each configuration trains, and the inversion that a run becomes."""

import json
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from small import small_generator

from latentlab.cli import main
from latentlab.cli.training import CLCAE_CONFIGURATIONS
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.kinds import FEATURE_ENCODERS, build_encoder, slim_config
from latentlab.encoders.shipped import load_encoder
from latentlab.inversion_methods import invert
from latentlab.spaces import fingerprint
from latentlab.training import recipes
from latentlab.training.encoders import training_pictures
from latentlab.training.feature_space import CONFIGURATIONS, FeatureTraining, configure_features
from latentlab.training.loop import train
from latentlab.weights import write_tensors


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


@pytest.fixture(scope="module")
def pair(G):
    return ContrastivePair(ContrastiveConfig.slim(G.config), seed=1)


def begin(name: str, G, pair=None, images: int = 200, **settings) -> FeatureTraining:
    config = configure_features(name, G, images=images, **{"batch_size": 4} | settings)
    if pair is not None and config.losses["alignment"]:
        config = replace(config, pair=fingerprint(pair, "generator"))
    return FeatureTraining(config, G, Fabric(accelerator="cpu", devices=1, precision="32-true"), pair)


@pytest.fixture(scope="module")
def batch(G):
    return G(torch.randn(4, G.z_dim, generator=torch.Generator().manual_seed(0))).detach()


def test_configurations_leave_out_what_they_say(G):
    settings = {name: configure_features(name, G, images=100) for name in CONFIGURATIONS}
    assert {name for name, c in settings.items() if not c.losses["alignment"]} == {"no_alignment", "feature_style"}
    assert {name for name, c in settings.items() if c.encoder == "clcae" and not c.shape.w_plus_block} == {
        "no_w_plus_block"
    }
    assert {name for name, c in settings.items() if c.encoder == "clcae" and not c.shape.f_block} == {"no_f_block"}
    assert settings["multi_token"].shape.attention == "multi_token"
    assert (*CLCAE_CONFIGURATIONS, "feature_style") == CONFIGURATIONS


@pytest.mark.parametrize("name", ["full", "multi_token", "feature_style"])
def test_a_run_learns(G, pair, batch, name):
    """On four pictures again and again the distortion falls, summed over three pictures (two without w), and f
    nears the generator's own map. Ranger's first five steps are as long as their gradients and not looked at."""
    training = begin(name, G, pair, learning_rate=1e-2 if name == "feature_style" else 1e-3, blend=0.0)
    logged = [training.step(batch) for _ in range(25)]
    early, late = ({k: sum(float(step[k]) for step in part) for k in ("l2", "feature")} for part in
                   (logged[5:10], logged[-5:]))  # fmt: skip
    assert late["l2"] < 0.9 * early["l2"]
    assert name == "feature_style" or late["feature"] < early["feature"]  # whose map is normalised, and still far off
    assert ("alignment" in logged[0]) == (name != "feature_style")


def test_the_losses_are_equations_7_to_10(G, pair, batch):
    training = begin("full", G, pair, blend=0.0)
    training.E.eval()
    with torch.no_grad():
        found = training.E(batch)
        pictures = training._draw(found, found.feature)
    logged = training.step(batch)
    l2 = sum((made - batch).square().mean() for made in pictures)
    torch.testing.assert_close(logged["l2"], l2, rtol=1e-4, atol=1e-5)
    own = G.features(found.w_plus)[4]
    torch.testing.assert_close(logged["feature"], (found.feature - own).square().mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logged["alignment"], training.pair.loss(batch, found.w).mean(), rtol=1e-4, atol=1e-5)
    assert len(pictures) == 3 and not torch.allclose(pictures[1], pictures[2])


def test_alignment_with_the_drawn_picture_is_the_public_code(G, pair, batch):
    training = begin("full", G, pair, variant="code")
    training.E.eval()
    with torch.no_grad():
        found = training.E(batch)
        picture = training._draw(found, found.feature)[0]
    logged = training.step(batch)
    torch.testing.assert_close(logged["alignment"], training.pair.loss(picture, found.w).mean(), rtol=1e-4, atol=1e-4)


def test_the_feature_map_is_blended_in(G, pair, batch):
    """At the first step G(w+, f) is G(w+): no image loss reaches f yet."""
    training = begin("no_alignment", G, images=160, blend=0.5, weights={"feature": 0.0})
    assert training.blend == 0.0
    logged = training.step(batch)
    assert logged["blend"] == 0 and "feature" not in logged
    assert all(not p.grad.any() for p in training.E.content_layer.parameters())
    training.step_index = 10
    assert training.blend == 0.5
    training.step(batch)
    assert any(p.grad.any() for p in training.E.content_layer.parameters())
    training.step_index = 35
    assert training.blend == 1.0


def test_resumes_bit_for_bit(G, tmp_path):
    def run(out, images: int, **how) -> dict[str, torch.Tensor]:
        training = begin("no_alignment", G, images=24)
        train(training, training_pictures(training.config, 32), out, images=images, **how)
        return training.E.state_dict()

    whole = run(tmp_path / "whole", 24)
    run(tmp_path / "parts", 12)
    parts = run(tmp_path / "parts", 24, resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"beauty": 1.0}}, "losses: expected names among l2, .*, got beauty"),
        ({"images": 3}, "images: expected at least a batch of 4, got 3"),
        ({"blend": 1.5}, "strange, blend: expected shares from 0 to 1, got 0.2 and 1.5"),
        ({"batch_size": 1}, "batch_size: expected at least 2 with a contrastive loss, got 1"),
        ({}, "pair: expected a trained contrastive pair for the loss alignment, got none"),
    ],
)
def test_bad_settings_are_refused(G, settings, message):
    with pytest.raises(ValueError, match=message):
        begin("full", G, **settings)
    with pytest.raises(ValueError, match="configuration: expected one of full, .*, got 'half'"):
        configure_features("half", G, images=8)


def test_feature_style_has_no_code_to_align(G, capsys, tmp_path):
    message = "losses: expected no alignment for feature_style, which finds no code of W to align, got 0.1; give"
    with pytest.raises(ValueError, match=message):
        configure_features("feature_style", G, images=8, weights={"alignment": 0.1})
    command = ["train", "feature_style", "--loss", "alignment=0.1", "--images", "8", "--out", str(tmp_path / "run")]
    assert main(command) == 2 and message in capsys.readouterr().err


def test_every_encoder_into_f_has_a_slim_shape(G):
    for name in FEATURE_ENCODERS:
        found = build_encoder(name, slim_config(name, G.config)).eval()(torch.zeros(2, 3, 32, 32))
        assert found.w_plus.shape == (2, G.num_ws, G.w_dim) and found.feature.shape == (2, 16, 4, 4)


def test_a_run_of_the_command_becomes_an_inversion(G, pair, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "load", lambda name: G)
    file, out = tmp_path / "pair.safetensors", tmp_path / "run"
    known = {"contrastive": "CLCAE", "config": pair.config.to_dict(), "fingerprint": fingerprint(G, "generator")}
    write_tensors(file, pair.state_dict(), known)
    command = ["train", "clcae", "--config", "multi_token", "--images", "16", "--pair", str(file), "--out", str(out)]
    assert main([*command, "--accelerator", "cpu", "--precision", "32-true"]) == 0
    assert json.loads((out / "run.json").read_text())["config"]["pair"] == fingerprint(pair, "generator")
    (shipped,) = recipes.publish_run(out, "small", tmp_path / "weights")
    assert shipped.name == "small.clcae_multi_token.safetensors"
    encoder = load_encoder(shipped, G)
    x = training_pictures(configure_features("full", G, images=16), 32)(500, 3, torch.device("cpu"))
    found = encoder(x)
    inv = invert(x, G, "clcae", encoder=encoder)
    torch.testing.assert_close(inv.features[4], found.feature)
    torch.testing.assert_close(inv.image, G.synthesis(found.w_plus, replace=inv.features, replace_rgb=False))
