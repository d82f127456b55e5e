"""Checkpoints of the public pSp, e4e, LSAP, ReStyle and CLCAE repositories: an encoder and its generator."""

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig, Pyramid
from latentlab.encoders.clcae import ClcaeConfig, ClcaeEncoder
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.psp import PspEncoder, WEncoder
from latentlab.formats.encoders import EncoderFile, read_encoder
from latentlab.formats.pickles import printable
from latentlab.stylegan import Generator
from latentlab.weights.generators import find_file, load

# kind of ``formats.encoders`` -> class
CLASSES: dict[str, type[Pyramid]] = {
    "psp": PspEncoder,
    "e4e": E4eEncoder,
    "w": WEncoder,
    "restyle_psp": PspEncoder,
    "restyle_e4e": E4eEncoder,
    "clcae": ClcaeEncoder,
}


# method of ``inversion_methods`` -> classes of its encoders; LSAP's runs as "e4e"
METHODS: dict[str, tuple[type[CodeEncoder], ...]] = {
    "psp": (PspEncoder, WEncoder),
    "e4e": (E4eEncoder,),
    "restyle": (PspEncoder, E4eEncoder),
}


def load_official(
    source: str | Path, kind: str | None = None, *, generator: Generator | str | Path | None = None
) -> tuple[CodeEncoder | ClcaeEncoder, Generator]:
    """The encoder of a ``.pt`` file of the public repositories and its generator, both frozen; nothing of it is run.

    source: the file, or the name of an official model with an encoder ("e4e-ffhq-1024"). kind: a key of ``CLASSES``,
    where the file does not say which it is. generator: beside the encoder, a file, a name or an open one; by default
    the one inside of the file. A file of another kind than asked for, with parts missing, or of another shape than the
    generator raises ``ValueError``.
    """
    path = find_file(str(source))
    file = read_encoder(path, kind=kind)
    G = generator if isinstance(generator, Generator) else load(path if generator is None else generator)
    if file.kind not in CLASSES:
        raise ValueError(f"{path}: expected an encoder among {', '.join(CLASSES)}, got {file.kind}")
    try:
        encoder = _build(file, G)
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AssertionError, MemoryError) as error:
        raise ValueError(f"{path}: expected the weights of a {file.kind} encoder for a generator of {G.num_ws} codes, "
                         f"got others ({printable(error, 200)})") from error  # fmt: skip
    return encoder.requires_grad_(False).eval(), G


def fits(encoder: CodeEncoder | ClcaeEncoder, method: str) -> bool:
    """Whether the method of this name runs the encoder."""
    refines = encoder.shape.in_channels == 6
    return isinstance(encoder, METHODS.get(method, ())) and refines == (method == "restyle")


def _build(file: EncoderFile, G: Generator) -> CodeEncoder | ClcaeEncoder:
    config = config_from(file.state, G.num_ws)
    average = G.w_avg if file.latent_avg is None else file.latent_avg
    if file.options.get("start_from_latent_avg") is False:  # trained to give codes, not offsets from their mean
        average = torch.zeros_like(average)
    if file.kind == "clcae":
        encoder = ClcaeEncoder(clcae_config_from(file.state, config))
        encoder.load_state_dict({"w_avg": encoder.w_avg, "image_avg": encoder.image_avg} | file.state)
        w_avg = average.reshape(-1, G.w_dim).mean(0)
        with torch.no_grad():
            encoder.set_averages(w_avg, G.synthesis(G.broadcast(w_avg[None]))[0])
        return encoder
    encoder = CLASSES[file.kind](config)
    encoder.load_state_dict(file.state | {"latent_avg": average.expand_as(encoder.latent_avg)})
    return encoder


def config_from(state: Mapping[str, Tensor], layers: int) -> EncoderConfig:
    """The shape of the encoder that a state dict with official names was made with."""
    numbers = [int(match[1]) for match in map(re.compile(r"body\.(\d+)\.").match, state) if match]
    units = [len(state[f"body.{i}.res_layer.4.weight"]) for i in range(1 + max(numbers))]
    stages = [(width, len(list(group))) for width, group in groupby(units)]  # each stage is wider than the last
    linear = state["linear.weight" if "linear.weight" in state else "styles.0.linear.weight"]
    return EncoderConfig(
        layers=layers,
        w_dim=len(linear),
        widths=tuple(width for width, _ in stages),
        units=tuple(count for _, count in stages),
        in_channels=state["input_layer.0.weight"].shape[1],
        pyramid="latlayer1.weight" in state,
    )


def clcae_config_from(state: Mapping[str, Tensor], encoder: EncoderConfig) -> ClcaeConfig:
    """The shape of a CLCAE encoder, whose four heads of attention its tensors do not tell."""
    is_convolution = re.compile(r"content_layer\.convs\.\d+\.weight").fullmatch
    convolutions = [tensor for name, tensor in state.items() if is_convolution(name)]
    return ClcaeConfig(
        encoder=encoder,
        feedforward=len(state["cross_attention.0.linear1.weight"]),
        feature_resolution=encoder.resolution // 4 >> len(convolutions),
        feature_channels=len(convolutions[-1]),
    )
