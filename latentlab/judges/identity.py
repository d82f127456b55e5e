"""The identity judge, an embedding for evaluation only.

It has the architecture of the attribute judge and was trained with another seed on other people than the embedding of
the losses.
"""

from pathlib import Path

import torch
from torch import nn

from latentlab.judges.attributes import load_attribute_judge
from latentlab.networks.attributes import ResidualAttributeNetwork
from latentlab.networks.identity import AXES, IdentityDistance, as_embedding
from latentlab.networks.official import load_official
from latentlab.weights import read_weights

FILE = "judges.identity.safetensors"


def build_identity_judge() -> nn.Module:
    """The network to train, initialised with the attribute judge."""
    return as_embedding(ResidualAttributeNetwork(AXES), load_attribute_judge())


def load_identity_judge(
    backbone: str = "faces", path: str | Path | None = None, *, device: torch.device | str = "cpu"
) -> IdentityDistance:
    """Loads the shipped identity judge, frozen; other backbones as in ``load_identity``."""
    if backbone != "faces":
        return IdentityDistance(load_official(backbone, path), None).to(device)
    judge = IdentityDistance(as_embedding(ResidualAttributeNetwork(AXES)))
    judge.load_state_dict(read_weights(FILE)[0])
    return judge.requires_grad_(False).eval().to(device)
