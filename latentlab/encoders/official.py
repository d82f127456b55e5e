"""Checkpoints of the public pSp, e4e, LSAP and ReStyle repositories: an encoder and the generator it belongs to."""

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from torch import Tensor

from latentlab.checkpoints import load_checkpoint
from latentlab.encoders.backbone import CodeEncoder, EncoderConfig
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.psp import PspEncoder, WEncoder
from latentlab.formats import rosinality
from latentlab.stylegan import Generator

# the official class, as the checkpoint's options name it -> ours
KINDS: dict[str, type[CodeEncoder]] = {
    "GradualStyleEncoder": PspEncoder,
    "BackboneEncoder": PspEncoder,  # ReStyle over pSp
    "Encoder4Editing": E4eEncoder,
    "ProgressiveBackboneEncoder": E4eEncoder,  # ReStyle over e4e
    "SingleStyleCodeEncoder": WEncoder,
    "BackboneEncoderUsingLastLayerIntoW": WEncoder,
}


def load_official(path: str | Path, kind: type[CodeEncoder] | None = None) -> tuple[CodeEncoder, Generator]:
    """The encoder and the generator of a ``.pt`` file of the public repositories, both frozen.

    kind: ``PspEncoder``, ``E4eEncoder`` or ``WEncoder``, where the file's options do not name one. A file of another
    kind than asked for, or with parts missing, raises ``ValueError``.
    """
    checkpoint = load_checkpoint(path)  # runs no code of the file
    if missing := {"state_dict", "latent_avg"} - checkpoint.keys():
        raise ValueError(f"{path}: expected state_dict and latent_avg, got a file without {', '.join(sorted(missing))}")
    named = (checkpoint.get("opts") or {}).get("encoder_type")
    found = KINDS.get(named, kind)
    if found is None or kind not in (None, found):
        asked = kind.__name__ if kind else "a kind of encoder"
        raise ValueError(f"{path}: expected {asked}, got encoder_type {named!r}; known are {', '.join(KINDS)}")
    state, average = checkpoint["state_dict"], checkpoint["latent_avg"]
    try:
        weights = strip(state, "encoder.")
        generator = strip(state, "decoder.")
        G = Generator(rosinality.generator_config(generator))
        G.load_state_dict(rosinality.generator_from(generator, average.reshape(-1, average.shape[-1])[0]))
        encoder = found(config_from(weights, G.num_ws))
        encoder.load_state_dict(weights | {"latent_avg": average.expand_as(encoder.latent_avg)})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: expected the weights of {found.__name__}, got others ({error})") from error
    return encoder.requires_grad_(False).eval(), G.requires_grad_(False).eval()


def strip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of a state dict under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


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
