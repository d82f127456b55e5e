"""Trained networks of refiners, HFGI and the two branches, that are shipped for the codes of an encoder."""

from functools import cache

import torch
from torch import nn

from latentlab import weights
from latentlab.networks.hfgi import Hfgi, HfgiConfig
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint

BUILD = {
    "hfgi": lambda config: Hfgi(HfgiConfig(**config)),
    "two_branch": lambda config: TwoBranch(TwoBranchConfig.from_dict(config)),
}


def refiner_for(G: nn.Module, refiner: str, encoder: str, *, device: torch.device | str = "cpu") -> nn.Module:
    """The networks of a refiner for the codes of an encoder, frozen; ``ValueError`` where none are shipped."""
    kind, mark = f"{refiner}_{encoder}", fingerprint(G, "generator")
    file = weights.find(kind, mark) if kind in weights.REFINERS else None
    if file is None:
        kinds = [k for k in weights.REFINERS if k.startswith(f"{refiner}_") and weights.find(k, mark)]
        known = " or ".join(k.removeprefix(f"{refiner}_") for k in kinds)
        wanted = f"an inversion by {known}" if known else f"a generator with shipped networks of {refiner}"
        raise ValueError(f"base: expected {wanted}, got one by {encoder}; train networks for it with `latentlab train "
                         f"{refiner}` and pass them as network=")  # fmt: skip
    return _read(file, refiner, str(device))


def restore_network(G: nn.Module, refiner: str, encoder: str, mark: str) -> nn.Module:
    """The shipped networks, if they have this fingerprint; ``ValueError`` where a saved inversion had others."""
    network = refiner_for(G, refiner, encoder, device=next(G.parameters()).device)
    if (shipped := fingerprint(network, "generator")) != mark:
        raise ValueError(f"editor: expected the networks {mark} that made this inversion, got the shipped ones, "
                         f"{shipped}; pass the editor of these networks as editor=")  # fmt: skip
    return network


@cache
def _read(file: str, refiner: str, device: str) -> nn.Module:
    tensors, metadata = weights.read_weights(file)
    network = BUILD[refiner](metadata["config"])
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
