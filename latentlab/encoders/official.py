"""Checkpoints of the public pSp, e4e, LSAP and ReStyle repositories: an encoder and the generator it belongs to."""

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from torch import Tensor

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.psp import PspEncoder, WEncoder
from latentlab.formats.encoders import read_encoder
from latentlab.stylegan import Generator
from latentlab.weights.generators import load

# kind of ``formats.encoders`` -> class; the checkpoints of CLCAE hold no generator and are not read here
CLASSES: dict[str, type[CodeEncoder]] = {
    "psp": PspEncoder,
    "e4e": E4eEncoder,
    "w": WEncoder,
    "restyle_psp": PspEncoder,
    "restyle_e4e": E4eEncoder,
}


def load_official(path: str | Path, kind: str | None = None) -> tuple[CodeEncoder, Generator]:
    """The encoder and the generator of a ``.pt`` file of the public repositories, both frozen; nothing of it is run.

    kind: "psp", "e4e", "w", "restyle_psp" or "restyle_e4e", where the file does not say which it is. A file of another
    kind than asked for, or with parts missing, raises ``ValueError``.
    """
    file, G = read_encoder(path, kind=kind), load(path)
    if file.kind not in CLASSES:
        raise ValueError(f"{path}: expected an encoder among {', '.join(CLASSES)}, got {file.kind}")
    try:
        encoder = CLASSES[file.kind](config_from(file.state, G.num_ws))
        average = G.w_avg if file.latent_avg is None else file.latent_avg
        encoder.load_state_dict(file.state | {"latent_avg": average.expand_as(encoder.latent_avg)})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: expected the weights of a {file.kind} encoder, got others ({error})") from error
    return encoder.requires_grad_(False).eval(), G


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
