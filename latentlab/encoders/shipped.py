"""Trained encoders: those that are shipped with a generator, and those in files of ``latentlab publish``."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.encoders.backbone import Pyramid
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.kinds import ENCODERS, FEATURE_ENCODERS, Shape, build_encoder, config_from
from latentlab.formats.pickles import printable
from latentlab.spaces import fingerprint

PAIR = "contrastive"  # kind of the file of a contrastive pair


def encoder_for(G: nn.Module, name: str, *, device: torch.device | str = "cpu") -> Pyramid:
    """The encoder of this name that is shipped for the generator, frozen; ``ValueError`` where there is none."""
    known = (*ENCODERS, *FEATURE_ENCODERS)
    file = weights.find(name, fingerprint(G, "generator")) if name in known else None
    if file is None:
        own = [kind for kind in known if weights.find(kind, fingerprint(G, "generator"))]
        known = f"one of {', '.join(own)}" if own else "none, since no encoder is shipped for this generator"
        raise ValueError(f"encoder: expected {known}, got {name!r}; train one with `latentlab train` and pass it as "
                         "encoder=load_encoder(FILE, G)")  # fmt: skip
    return _read(file, str(device))


def pair_for(G: nn.Module, *, device: torch.device | str = "cpu") -> ContrastivePair:
    """The contrastive pair that is shipped for the generator, frozen; ``ValueError`` where there is none."""
    file = weights.find(PAIR, fingerprint(G, "generator"))
    if file is None:
        raise ValueError("pair: expected a generator with a shipped contrastive pair, got one without; train one with "
                         "`latentlab train contrastive` and open it with load_pair(FILE, G)")  # fmt: skip
    return _read(file, str(device))


def load_encoder(path: str | Path, G: nn.Module) -> Pyramid:
    """Reads an encoder that ``latentlab publish`` wrote, frozen; see ``encoders.official`` for those of other projects.

    Raises ``ValueError`` if the file holds none, or one of another generator than ``G``.
    """
    return _load(path, G, "encoder", "an encoder")


def load_pair(path: str | Path, G: nn.Module) -> ContrastivePair:
    """Reads a contrastive pair that ``latentlab publish`` wrote, frozen; errors as of ``load_encoder``."""
    return _load(path, G, PAIR, "a contrastive pair")


def _load(path: str | Path, G: nn.Module, kind: str, says: str) -> Pyramid | ContrastivePair:
    tensors, metadata = weights.read_tensors(path)
    if not {kind, "config", "fingerprint"} <= metadata.keys():
        raise ValueError(f"{path}: expected {says} written by `latentlab publish`, got a file without its shape")
    if (mark := fingerprint(G, "generator")) != metadata["fingerprint"]:
        raise ValueError(f"{path}: expected {says} of generator {mark}, got one of {metadata['fingerprint']}")
    try:
        _check_size(tensors, _shape(metadata), G)
        return _restore(tensors, metadata)
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, MemoryError) as error:
        damaged = f"expected {says} of `latentlab publish`, got a damaged one ({printable(error, 200)})"
        raise ValueError(f"{path}: {damaged}") from error


def _check_size(tensors: dict[str, Tensor], shape: Shape | ContrastiveConfig, G: nn.Module) -> None:
    """Raises ``ValueError`` for a shape that claims more than the tensors hold, before anything of it is built."""
    trunk = getattr(shape, "encoder", shape)
    units = sum("body." in name and name.endswith(".res_layer.4.weight") for name in tensors)
    largest = max((n for tensor in tensors.values() for n in tensor.shape), default=0)
    layers = trunk.layers if isinstance(shape, ContrastiveConfig) else G.num_ws  # of which the pair has one
    if (trunk.layers, trunk.w_dim) != (layers, G.w_dim) or sum(trunk.units) != units:
        raise ValueError(f"its shape claims {trunk.layers} codes and {sum(trunk.units)} units, its tensors have "
                         f"{units} units, and the generator {G.num_ws} codes")  # fmt: skip
    widths = [*trunk.widths, trunk.in_channels]
    widths += [size for name in ("feedforward", "feature_channels") if (size := getattr(shape, name, None))]
    if max(widths) > largest:
        raise ValueError(f"its shape claims {max(widths)} channels, and its tensors have {largest}")


def _shape(metadata: dict[str, Any]) -> Shape | ContrastiveConfig:
    if PAIR in metadata:
        return ContrastiveConfig.from_dict(metadata["config"])
    return config_from(metadata["encoder"], metadata["config"])


@cache
def _read(file: str, device: str) -> Pyramid | ContrastivePair:
    return _restore(*weights.read_weights(file)).to(device, memory_format=torch.channels_last)


def _restore(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Pyramid | ContrastivePair:
    if PAIR in metadata:
        network = ContrastivePair(ContrastiveConfig.from_dict(metadata["config"]))
    else:
        network = build_encoder(metadata["encoder"], config_from(metadata["encoder"], metadata["config"]))
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval()
