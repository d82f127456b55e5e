"""The identity embedding for training and optimisation.

It takes the role of ArcFace in the papers. It was trained with the same margin loss on people of the face world in
different states: pose, expression, age, glasses.
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
    """The network to train, initialised with the attribute network of the losses."""
    return as_embedding(AttributeNetwork(AXES), load_attributes())


def load_identity(
    backbone: str = "faces", path: str | Path | None = None, *, device: torch.device | str = "cpu"
) -> IdentityDistance:
    """Loads the shipped identity distance of the losses, frozen.

    backbone: "faces", or "arcface" or "moco" for those of the papers, whose weights are read from ``path``.
    """
    if backbone != "faces":
        return IdentityDistance(load_official(backbone, path), None).to(device)
    distance = IdentityDistance(as_embedding(AttributeNetwork(AXES)))
    distance.load_state_dict(read_weights(FILE)[0])
    return distance.requires_grad_(False).eval().to(device)
