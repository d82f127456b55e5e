"""Checkpoints with the public names: the encoder and the generator inside, and what is said of other files."""

from dataclasses import replace

import pytest
import torch

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig
from latentlab.encoders.clcae import ClcaeConfig, ClcaeEncoder
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.official import load_official
from latentlab.encoders.psp import PspEncoder, WEncoder
from latentlab.encoders.restyle import restyle_config
from latentlab.formats import rosinality
from latentlab.seeds import stream
from latentlab.stylegan import Generator, GeneratorConfig

CONFIG = EncoderConfig(layers=6, w_dim=16, widths=(4, 6, 8, 10), units=(1, 2, 1, 1))
ONE_CODE = replace(CONFIG, pyramid=False)


def checkpoint(encoder: CodeEncoder, G: Generator, name: str | None) -> dict:
    """As the public training code writes it."""
    parts = encoder.state_dict()
    state = {f"encoder.{k}": v for k, v in parts.items() if k != "latent_avg"}
    state |= {f"decoder.{k}": v for k, v in rosinality.generator_to(G.state_dict()).items()}
    opts = {"stylegan_size": G.resolution} | ({"encoder_type": name} if name else {})
    return {"state_dict": state, "latent_avg": parts["latent_avg"], "opts": opts}


@pytest.fixture(scope="module")
def G() -> Generator:
    G = Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1).requires_grad_(False)
    G.w_avg.copy_(torch.linspace(-0.5, 0.5, 16))
    for block in G.blocks.values():
        block.torgb.weight.mul_(0.1)  # in range, as the picture of a trained generator
    return G


@pytest.mark.parametrize("kind, name, config", [
    (PspEncoder, "GradualStyleEncoder", CONFIG),
    (E4eEncoder, "Encoder4Editing", CONFIG),
    (WEncoder, "BackboneEncoderUsingLastLayerIntoW", ONE_CODE),
    (E4eEncoder, "ProgressiveBackboneEncoder", restyle_config(CONFIG)),
])  # fmt: skip
def test_encoder_and_generator_come_out_of_one_file(kind, name, config, G, tmp_path):
    encoder = kind(config, seed=3).eval().requires_grad_(False)
    encoder.set_average(G.w_avg)
    torch.save(checkpoint(encoder, G, name), tmp_path / "model.pt")
    found, generator = load_official(tmp_path / "model.pt")
    assert type(found) is kind and found.config == config
    x = torch.randn(2, config.in_channels, 64, 64, generator=stream(0, "images"))
    assert torch.equal(found(x), encoder(x))
    torch.testing.assert_close(generator.synthesis(found(x)), G.synthesis(encoder(x)))
    torch.testing.assert_close(generator.w_avg, G.w_avg)


def test_a_generator_beside_the_encoder(G, tmp_path):
    """The checkpoint's own is not needed then, by file or open; one of another shape is refused."""
    encoder = PspEncoder(CONFIG, seed=3).eval().requires_grad_(False)
    encoder.set_average(G.w_avg)
    alone = checkpoint(encoder, G, "GradualStyleEncoder")
    alone["state_dict"] = {k: v for k, v in alone["state_dict"].items() if k.startswith("encoder.")}
    torch.save(alone | {"latent_avg": None}, tmp_path / "encoder.pt")
    torch.save({"g_ema": rosinality.generator_to(G.state_dict()), "latent_avg": G.w_avg}, tmp_path / "generator.pt")
    x = torch.randn(2, 3, 64, 64, generator=stream(0, "images"))
    for beside in (tmp_path / "generator.pt", G):
        found, generator = load_official(tmp_path / "encoder.pt", generator=beside)
        assert torch.equal(found(x), encoder(x)) and torch.equal(generator.w_avg, G.w_avg)
    with pytest.raises(ValueError, match="encoder and no generator"):
        load_official(tmp_path / "encoder.pt")
    larger = Generator(GeneratorConfig(32, 16, 16, 2, (16, 16, 8, 8))).requires_grad_(False)
    with pytest.raises(ValueError, match="psp encoder for a generator of 8 codes, got others"):
        load_official(tmp_path / "encoder.pt", generator=larger)


def test_clcae_with_its_generator_beside(G, tmp_path):
    """Its checkpoints lack both averages: the mean latent and that latent's picture are the generator's."""
    shape = replace(CONFIG, widths=(4, 6, 8, 12))
    config = ClcaeConfig(shape, feedforward=12, feature_channels=8)
    encoder = ClcaeEncoder(config, seed=2).eval().requires_grad_(False)
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items() if k not in ("w_avg", "image_avg")}
    torch.save({"state_dict": state, "opts": {}, "iter": 1}, tmp_path / "clcae.pt")
    encoder.set_averages(G.w_avg, G.synthesis(G.broadcast(G.w_avg[None]))[0])
    found, _ = load_official(tmp_path / "clcae.pt", generator=G)
    assert type(found) is ClcaeEncoder and found.config == config
    x = torch.randn(1, 3, 256, 256, generator=stream(0, "images"))
    for got, want in zip(found(x), encoder(x), strict=True):
        assert torch.equal(got, want)


def test_codes_that_are_no_offsets(G, tmp_path):
    encoder = PspEncoder(CONFIG, seed=3).eval().requires_grad_(False)
    encoder.set_average(G.w_avg)
    file = checkpoint(encoder, G, "GradualStyleEncoder")
    torch.save(file | {"opts": file["opts"] | {"start_from_latent_avg": False}}, tmp_path / "model.pt")
    x = torch.randn(1, 3, 64, 64, generator=stream(0, "images"))
    torch.testing.assert_close(load_official(tmp_path / "model.pt")[0](x), encoder(x) - G.w_avg)


def test_other_files_are_refused(G, tmp_path):
    path = tmp_path / "model.pt"
    whole = checkpoint(PspEncoder(CONFIG), G, "GradualStyleEncoder")
    torch.save(whole, path)
    with pytest.raises(ValueError, match="expected the weights of a w encoder for a generator of 6 codes, got others"):
        load_official(path, "w")
    torch.save(whole | {"opts": {}}, path)
    with pytest.raises(ValueError, match="does not say what its encoder is.*pass kind="):
        load_official(path)
    assert type(load_official(path, "psp")[0]) is PspEncoder
    torch.save({"g_ema": rosinality.generator_to(G.state_dict())}, path)
    with pytest.raises(ValueError, match="no encoder in it"):
        load_official(path)
    broken = {k: v for k, v in whole["state_dict"].items() if not k.startswith("encoder.styles.2")}
    torch.save(whole | {"state_dict": broken}, path)
    with pytest.raises(ValueError, match="expected the weights of a psp encoder for a generator of 6 codes, got"):
        load_official(path)
