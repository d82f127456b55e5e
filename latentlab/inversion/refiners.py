"""Trained networks of refiners, HFGI and the two branches: shipped, and in files of ``latentlab publish``."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.encoders.shipped import encoder_for
from latentlab.formats.pickles import printable
from latentlab.inversion.result import Inversion
from latentlab.networks.hfgi import Hfgi, HfgiConfig
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint

CONFIGS = {"hfgi": lambda values: HfgiConfig(**values), "two_branch": TwoBranchConfig.from_dict}
BUILD = {
    "hfgi": lambda values: Hfgi(CONFIGS["hfgi"](values)),
    "two_branch": lambda values: TwoBranch(CONFIGS["two_branch"](values)),
}
EDITORS = {"hfgi": "HfgiEditor", "two_branch": "TwoBranchEditor"}  # classes in the modules of the methods


def refiner_for(
    G: nn.Module, refiner: str, encoder: str, *, device: torch.device | str = "cpu"
) -> Hfgi | TwoBranch:
    """The networks of a refiner for the codes of an encoder, frozen.

    ``ValueError`` where none are shipped, or where the shipped encoder is not the one that they were trained with.
    """
    if (file := _find(G, refiner, encoder)) is None:
        mark = fingerprint(G, "generator")
        kinds = [k for k in weights.REFINERS if k.startswith(f"{refiner}_") and weights.find(k, mark)]
        known = " or ".join(k.removeprefix(f"{refiner}_") for k in kinds)
        wanted = f"an inversion by {known}" if known else f"a generator with shipped networks of {refiner}"
        raise ValueError(f"base: expected {wanted}, got one by {encoder}; {_advice(refiner)}")
    network = _read(file, refiner, str(device))
    if (wanted := network.encoder_fingerprint) and weights.find(encoder, fingerprint(G, "generator")):
        shipped = encoder_for(G, encoder, device=device)
        if (got := fingerprint(shipped, "generator")) != wanted:
            raise ValueError(f"{file}: expected the encoder {encoder} of fingerprint {wanted}, whose codes these "
                             f"networks refine, got the shipped one, {got}; {_advice(refiner)}")  # fmt: skip
    return network


def load_refiner(path: str | Path, G: nn.Module) -> Hfgi | TwoBranch:
    """Reads networks of HFGI or of the two branches that ``latentlab publish`` wrote, frozen, for ``network=``.

    Raises ``ValueError`` if the file holds none, or those of another generator than ``G``.
    """
    tensors, metadata = weights.read_tensors(path)
    says = "networks of a refiner"
    if not {"refiner", "config", "fingerprint"} <= metadata.keys():
        raise ValueError(f"{path}: expected {says} written by `latentlab publish`, got a file without their shape; "
                         "publish the run again if the file is older")  # fmt: skip
    if (mark := fingerprint(G, "generator")) != metadata["fingerprint"]:
        raise ValueError(f"{path}: expected {says} of generator {mark}, got {printable(metadata['fingerprint'], 40)}")
    try:
        _check_sizes(CONFIGS[metadata["refiner"]](metadata["config"]), tensors, G)
        return _restore(tensors, metadata, metadata["refiner"])
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        damaged = f"expected {says} of `latentlab publish`, got damaged ones ({printable(error, 200)})"
        raise ValueError(f"{path}: {damaged}") from error


def restore_network(G: nn.Module, refiner: str, encoder: str, mark: str) -> Hfgi | TwoBranch:
    """The shipped networks, if they have this fingerprint; ``ValueError`` where a saved inversion had others."""
    got = f"none that are shipped for codes of {printable(encoder, 40)}"
    if (file := _find(G, refiner, encoder)) is not None:
        network = _read(file, refiner, str(next(G.parameters()).device))
        if (shipped := fingerprint(network, "generator")) == mark:
            return network
        got = f"the shipped ones, {shipped}"
    raise ValueError(f"editor: expected the networks {printable(mark, 40)} that made this inversion, got {got}; pass "
                     f"the network's editor as editor={EDITORS[refiner]}(load_refiner(FILE, G))")  # fmt: skip


def check_base(network: Hfgi | TwoBranch, base: Inversion) -> None:
    """Raises ``ValueError`` for codes of another encoder than the one that the networks were trained with, where both
    are known."""
    wanted, got = network.encoder_fingerprint, base.knobs.get("encoder")
    if wanted and got and wanted != got:
        raise ValueError(f"base: expected codes of the encoder {wanted}, with which the networks were trained, got "
                         f"codes of {got}; pass an inversion by that encoder, or train networks for this "
                         "one")  # fmt: skip


def _find(G: nn.Module, refiner: str, encoder: str) -> str | None:
    kind = f"{refiner}_{encoder}"
    return weights.find(kind, fingerprint(G, "generator")) if kind in weights.REFINERS else None


def _advice(refiner: str) -> str:
    return f"train networks for it with `latentlab train {refiner}` and pass them as network=load_refiner(FILE, G)"


def _check_sizes(config: HfgiConfig | TwoBranchConfig, tensors: dict[str, Tensor], G: nn.Module) -> None:
    """Raises ``ValueError`` for a shape that is not that of the generator and the tensors, before anything is built."""
    blocks = list(zip(G.config.resolutions, G.config.channels, strict=True))
    if isinstance(config, HfgiConfig):
        fits = config.resolution == G.resolution and (config.layer, config.channels) in blocks
        sizes = {"align.out.weight": (3, config.width, 3, 3)}
    else:
        fused = list(zip(config.resolutions, config.channels, strict=True))
        fits = (config.layers, config.w_dim) == (G.num_ws, G.w_dim) and fused == [b for b in blocks if b in fused]
        sizes = {"style_directions": (len(config.attributes), G.num_ws, G.w_dim)}
        sizes |= {f"extract.{r}.conv.weight": (config.width, config.seen, 3, 3) for r, _ in fused}
    if not fits:
        raise ValueError("its shape does not fit the generator")
    for name, size in sizes.items():
        if tuple(tensors[name].shape) != size:
            raise ValueError(f"its shape claims {size} for {name}, and its tensors have {tuple(tensors[name].shape)}")


@cache
def _read(file: str, refiner: str, device: str) -> Hfgi | TwoBranch:
    return _restore(*weights.read_weights(file), refiner).to(device, memory_format=torch.channels_last)


def _restore(tensors: dict[str, Tensor], metadata: dict[str, Any], refiner: str) -> Hfgi | TwoBranch:
    network = BUILD[refiner](metadata["config"])
    network.load_state_dict(tensors)
    network.encoder_fingerprint = metadata.get("encoder_fingerprint")
    return network.requires_grad_(False).eval()
