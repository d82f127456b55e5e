"""ReStyle adds what each pass finds to the codes before it, and official checkpoints are read with their generator."""

from dataclasses import replace

import pytest
import torch

from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.psp import PspEncoder
from latentlab.encoders.restyle import refine, restyle_config
from latentlab.seeds import stream
from latentlab.stylegan import Generator, GeneratorConfig

GENERATOR = GeneratorConfig(16, 16, 16, 2, (16, 16, 8))


def images(n: int = 2, size: int = 16) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=stream(0, "images")).clamp(-1, 1)


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(GENERATOR, seed=1).requires_grad_(False)


@pytest.fixture
def encoder(G: Generator) -> E4eEncoder:
    network = E4eEncoder(restyle_config(EncoderConfig.slim(GENERATOR), pyramid=True)).eval()
    network.set_average(G.w_avg + 0.1)
    return network


def test_codes_are_a_sum_over_the_passes(encoder, G):
    x = images()
    steps = list(refine(encoder, x, G.synthesis, steps=3))
    codes = encoder.latent_avg.expand(2, -1, -1)
    picture = G.synthesis(codes)
    for step in steps:
        codes = codes + encoder.offsets(torch.cat([x, picture], 1))
        picture = G.synthesis(codes)
        torch.testing.assert_close(step.codes, codes)
        torch.testing.assert_close(step.image, picture)
    assert len(steps) == 3


def test_steps_do_not_share_gradients(encoder, G):
    """The gradient of a step's loss is that of its own pass."""
    steps = refine(encoder, images(), G.synthesis, steps=2)
    next(steps)
    second = next(steps)
    bias = encoder.styles[0].linear.bias
    (gradient,) = torch.autograd.grad(second.codes[:, 0].sum(), bias)
    torch.testing.assert_close(gradient, torch.full_like(bias, 2.0))  # of one pass over two images, not of two


def test_options_reach_the_encoder(encoder, G):
    (step,) = refine(encoder, images(), G.synthesis, steps=1, stage=0)
    assert torch.equal(step.codes, step.codes[:, :1].expand_as(step.codes))


def test_the_simplified_encoder_reads_the_last_map_alone():
    config = restyle_config(replace(EncoderConfig.slim(GENERATOR), resolution=32))
    network = PspEncoder(config).eval()
    assert not any(name.startswith("latlayer") for name in network.state_dict())
    assert {len(head.convs) for head in network.styles} == {2}  # from 2x2 to 1x1: one convolution and its ReLU
    assert network(torch.zeros(1, 6, 32, 32)).shape == (1, 6, 16)


def test_larger_images_are_seen_at_the_encoders_size(encoder, G):
    x = images(size=32)
    small = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    (a,), (b,) = (refine(encoder, y, G.synthesis, steps=1) for y in (x, small))
    assert torch.equal(a.codes, b.codes)


def test_bad_input(encoder, G):
    with pytest.raises(ValueError, match="steps: expected an integer of at least 1, got 0"):
        next(refine(encoder, images(), G.synthesis, steps=0))
    with pytest.raises(ValueError, match="encoder: expected one of 6 channels, got 3"):
        next(refine(PspEncoder(EncoderConfig.slim(GENERATOR)), images(), G.synthesis))
