"""Generators and encoders of official size, through files, against references.

What the public code drew was recorded at 64 px with its full 512 channels. A second implementation, written from the
description of the layers and on NVIDIA's names alone, draws the same; it is the reference at 1024 px.
"""

import math

import conformance
import foreign
import pytest
import torch
import torch.nn.functional as F

from latentlab.encoders.official import load_official
from latentlab.evaluation.full_size import ffhq_config
from latentlab.formats import nvlabs
from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.weights.generators import load

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8


def fir(x, pad):
    kernel = (4 * torch.outer(TAPS, TAPS)).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, pad), kernel, groups=x.shape[1])


def draw(state, ws):
    """The image of one row of codes, (1, L, 512): kernels modulated and demodulated one by one, in float64."""
    p = {name: tensor.double() for name, tensor in state.items()}
    ws, image, i = ws.double(), None, 0
    x = p["synthesis.b4.const"][None]

    def style(name):
        weight, bias = p[f"{name}.affine.weight"], p[f"{name}.affine.bias"]
        return ws[:, i] @ weight.T / math.sqrt(weight.shape[1]) + bias

    def convolve(x, name, up):
        kernel = p[f"{name}.weight"] * style(name)[0][None, :, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            x = fir(F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2), (1, 1, 1, 1))
        else:
            x = F.conv2d(x, kernel, padding=1)
        x = x + p[f"{name}.noise_const"] * p[f"{name}.noise_strength"] + p[f"{name}.bias"][:, None, None]
        return F.leaky_relu(x, 0.2) * math.sqrt(2)

    r = 4
    while f"synthesis.b{r}.conv1.weight" in p:
        for name in ("conv0", "conv1") if r > 4 else ("conv1",):
            x = convolve(x, f"synthesis.b{r}.{name}", name == "conv0")
            i += 1
        rgb = f"synthesis.b{r}.torgb"
        kernel = p[f"{rgb}.weight"] * (style(rgb)[0] / math.sqrt(x.shape[1]))[None, :, None, None]
        colours = F.conv2d(x, kernel) + p[f"{rgb}.bias"][:, None, None]
        if image is not None:
            spread = torch.zeros(*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3], dtype=image.dtype)
            spread[:, :, ::2, ::2] = image
            colours = fir(spread, (2, 1, 2, 1)) + colours
        image, r = colours, 2 * r
    return image


def test_the_reference_draws_what_the_public_code_drew():
    state, want = conformance.load("nvlabs_generator_64")
    assert conformance.error(draw(state, want["ws"][:1]).float(), want["image_const_noise"][:1]) < 1e-5


def official_size(resolution):
    """NVIDIA's state dict of that size: random, but nothing in it is 0 or alike for all layers."""
    G = Generator(ffhq_config(resolution), seed=5).requires_grad_(False)
    state = nvlabs.generator_to(G.state_dict())
    for name, tensor in state.items():
        if name.endswith(("bias", "noise_strength", "w_avg")):
            tensor.add_(0.1 * torch.from_numpy(conformance.rnd(name, tuple(tensor.shape))))
    return state


@pytest.mark.slow  # FFHQ's generator, once more in float64
def test_a_pickle_of_full_size_agrees_with_the_reference(tmp_path, report):
    state = official_size(1024)
    G = load(foreign.dump_nvidia(state, tmp_path / "ffhq.pkl"))
    ws = G.broadcast(G.mapping(torch.from_numpy(conformance.rnd("z", (1, 512)))))
    ws = ws + 0.1 * torch.from_numpy(conformance.rnd("offsets", (1, 18, 512)))
    with torch.no_grad():
        error = conformance.error(G.synthesis(ws).double(), draw(state, ws))
    report("largest relative error of a picture, NVIDIA's pickle at 1024 px", [f"{error:.1e}"])
    assert error < conformance.TOLERANCE


@pytest.mark.slow  # 160 million weights
@pytest.mark.parametrize("class_name, name", [
    ("GradualStyleEncoder", "psp_encoder_ir_se50_64"), ("Encoder4Editing", "e4e_encoder_ir_se50_64")])
def test_a_checkpoint_of_full_size_encodes_as_the_public_code(tmp_path, report, class_name, name):
    state, _ = conformance.load("psp_encoder_ir_se50_64")  # both references were made with the same weights
    counts = {k.replace("running_mean", "num_batches_tracked"): torch.tensor(1) for k in state if "running_mean" in k}
    file = {"state_dict": {f"encoder.{k}": v for k, v in (state | counts).items()}, "latent_avg": torch.zeros(10, 512),
            "opts": {"encoder_type": class_name}}  # fmt: skip
    G = Generator(GeneratorConfig(64, 512, 512, 1, (8,) * 5)).requires_grad_(False)
    encoder, _ = load_official(foreign.dump_torch(file, tmp_path / "encoder.pt"), generator=G)
    want = conformance.load(name, lambda key: False)[1]["codes"]
    codes = encoder(torch.from_numpy(0.5 * conformance.rnd("x256", (1, 3, 256, 256))))
    error = conformance.error(codes, want)
    report(f"largest relative error of the codes, {class_name}'s checkpoint", [f"{error:.1e}"])
    assert error < conformance.TOLERANCE
