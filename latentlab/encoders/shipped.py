"""Trained encoders: those that are shipped with a generator, and those in files of ``latentlab publish``."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.encoders.backbone import CodeEncoder, EncoderConfig
from latentlab.encoders.kinds import ENCODERS, build_encoder
from latentlab.formats.pickles import printable
from latentlab.spaces import fingerprint


def encoder_for(G: nn.Module, name: str, *, device: torch.device | str = "cpu") -> CodeEncoder:
    """The encoder of this name that is shipped for the generator, frozen; ``ValueError`` where there is none."""
    file = weights.find(name, fingerprint(G, "generator")) if name in ENCODERS else None
    if file is None:
        own = [kind for kind in ENCODERS if weights.find(kind, fingerprint(G, "generator"))]
        known = f"one of {', '.join(own)}" if own else "none, since no encoder is shipped for this generator"
        raise ValueError(f"encoder: expected {known}, got {name!r}; train one with `latentlab train` and pass it as "
                         "encoder=load_encoder(FILE, G)")  # fmt: skip
    return _read(file, str(device))


def load_encoder(path: str | Path, G: nn.Module) -> CodeEncoder:
    """Reads an encoder that ``latentlab publish`` wrote, frozen; see ``encoders.official`` for those of other projects.

    Raises ``ValueError`` if the file holds none, or one of another generator than ``G``.
    """
    tensors, metadata = weights.read_tensors(path)
    if not {"encoder", "config", "fingerprint"} <= metadata.keys():
        raise ValueError(f"{path}: expected an encoder written by `latentlab publish`, got a file without its shape")
    if (mark := fingerprint(G, "generator")) != metadata["fingerprint"]:
        raise ValueError(f"{path}: expected an encoder of generator {mark}, got one of {metadata['fingerprint']}")
    try:
        _check_size(tensors, EncoderConfig.from_dict(metadata["config"]), G)
        return _restore(tensors, metadata)
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, MemoryError) as error:
        says = f"expected an encoder of `latentlab publish`, got a damaged one ({printable(error, 200)})"
        raise ValueError(f"{path}: {says}") from error


def _check_size(tensors: dict[str, Tensor], config: EncoderConfig, G: nn.Module) -> None:
    """Raises ``ValueError`` for a shape that claims more than the tensors hold, before anything of it is built."""
    units = sum(name.startswith("body.") and name.endswith(".res_layer.4.weight") for name in tensors)
    largest = max((n for tensor in tensors.values() for n in tensor.shape), default=0)
    if (config.layers, config.w_dim) != (G.num_ws, G.w_dim) or sum(config.units) != units:
        raise ValueError(f"its shape claims {config.layers} codes and {sum(config.units)} units, its tensors have "
                         f"{units} units, and the generator {G.num_ws} codes")  # fmt: skip
    if max(*config.widths, config.in_channels) > largest:
        raise ValueError(f"its shape claims {max(config.widths)} channels, and its tensors have {largest}")


@cache
def _read(file: str, device: str) -> CodeEncoder:
    return _restore(*weights.read_weights(file)).to(device, memory_format=torch.channels_last)


def _restore(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> CodeEncoder:
    encoder = build_encoder(metadata["encoder"], EncoderConfig.from_dict(metadata["config"]))
    encoder.load_state_dict(tensors)
    return encoder.requires_grad_(False).eval()
