"""The slim encoders, built from a generator's configuration: small enough to ship, trainable, in bfloat16 too."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.clcae import ClcaeConfig, ClcaeEncoder
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.psp import PspEncoder, WEncoder, slim_w_config
from latentlab.seeds import stream
from latentlab.stylegan import GeneratorConfig
from latentlab.weights import read_tensors, write_tensors

FACES = GeneratorConfig()
SMALL = GeneratorConfig(32, 16, 16, 2, (16, 16, 16, 8))
MIB = 2**20
BUILD: dict[str, Callable[[GeneratorConfig], nn.Module]] = {
    "psp": lambda g: PspEncoder(EncoderConfig.slim(g)),
    "e4e": lambda g: E4eEncoder(EncoderConfig.slim(g)),
    "restyle": lambda g: PspEncoder(EncoderConfig.slim(g, in_channels=6)),
    "w": lambda g: WEncoder(slim_w_config(g)),
    "clcae": lambda g: ClcaeEncoder(ClcaeConfig.slim(g)),
    "clcae as printed": lambda g: ClcaeEncoder(ClcaeConfig.slim(g, "paper")),
    "clcae multi-token": lambda g: ClcaeEncoder(ClcaeConfig.slim(g, "multi_token")),
    "contrastive pair": lambda g: ContrastivePair(ContrastiveConfig.slim(g)),
}


def inputs(network: nn.Module, size: int, n: int = 4) -> tuple[torch.Tensor, ...]:
    draw = stream(0, "inputs")
    channels = 6 if getattr(network.config, "in_channels", 3) == 6 else 3
    images = torch.randn(n, channels, size, size, generator=draw).clamp(-1, 1)
    if isinstance(network, ContrastivePair):
        return images, torch.randn(n, network.config.encoder.w_dim, generator=draw)
    return (images,)


def outputs(network: nn.Module, size: int) -> list[torch.Tensor]:
    found = network(*inputs(network, size))
    return list(found) if isinstance(found, tuple) else [found]


@torch.no_grad()
def moved(network: nn.Module) -> nn.Module:
    """With every parameter moved a little: what begins at 0 would lose nothing, and pass no gradient on."""
    for p in network.parameters():
        p.add_(0.01 * torch.randn(p.shape, generator=stream(0, "weights")))
    return network


@pytest.mark.parametrize("name", BUILD)
def test_a_shipped_file_has_at_most_3_mib_and_loses_little(name, tmp_path):
    network = moved(BUILD[name](FACES)).eval().requires_grad_(False)
    assert sum(p.numel() for p in network.parameters()) < 1.6e6
    path = tmp_path / "encoder.safetensors"
    write_tensors(path, network.state_dict(), {"config": network.config.to_dict()}, half=True)
    assert path.stat().st_size < 3 * MIB
    tensors, metadata = read_tensors(path)
    again = type(network)(type(network.config).from_dict(metadata["config"]), seed=1).eval().requires_grad_(False)
    again.load_state_dict(tensors)
    for a, b in zip(outputs(again, 64), outputs(network, 64), strict=True):
        assert (a - b).abs().max() < 5e-3 * b.abs().max()


@pytest.mark.parametrize("name", BUILD)
def test_everything_learns_in_bfloat16(name):
    network = moved(BUILD[name](SMALL)).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(network, 32)
    if isinstance(network, ContrastivePair):
        found = [network.loss(*inputs(network, 32))]
    sum(x.float().square().sum() for x in found).backward()
    trained = {k: p.grad for k, p in network.named_parameters() if p.requires_grad}
    assert all(g is not None and g.isfinite().all() for g in trained.values())
    without = [k for k, g in trained.items() if not g.abs().max() > 0]
    assert all("q_proj" in k or "k_proj" in k or ".query." in k or ".key." in k for k in without), without
