"""The identity embedding of the losses.

It stands where the papers have ArcFace: the same margin loss taught it, over people of the face world
who turn, smile, age, and put glasses on.
"""

from pathlib import Path

import torch
from torch import nn

from latentlab.losses.attributes import load_attributes
from latentlab.networks.attributes import AttributeNetwork
from latentlab.networks.identity import AXES, IdentityDistance, as_embedding
from latentlab.networks.official import load_official
from latentlab.weights import read_weights

FILE = "losses.identity.safetensors"


def build_identity() -> nn.Module:
    """A trunk to train: it starts from what the losses' attribute network has seen."""
    return as_embedding(AttributeNetwork(AXES), load_attributes())


def load_identity(
    backbone: str = "faces", path: str | Path | None = None, *, device: torch.device | str = "cpu"
) -> IdentityDistance:
    """The shipped identity distance of the losses, frozen; or with ``backbone`` "arcface" or "moco"
    that of the papers, from a file."""
    if backbone != "faces":
        return IdentityDistance(load_official(backbone, path), None).to(device)
    distance = IdentityDistance(as_embedding(AttributeNetwork(AXES)))
    distance.load_state_dict(read_weights(FILE)[0])
    return distance.requires_grad_(False).eval().to(device)
