"""The attribute judge, a network that predicts factors, for evaluation only.

It has a different architecture from the attribute network of the losses and was trained with another seed on other
renders.
"""

import torch

from latentlab.faces import BINARY_NAMES
from latentlab.networks.attributes import ResidualAttributeNetwork
from latentlab.weights import read_weights

FILE = "judges.attributes.safetensors"


def load_attribute_judge(*, device: torch.device | str = "cpu") -> ResidualAttributeNetwork:
    """Loads the shipped attribute judge, frozen."""
    tensors, metadata = read_weights(FILE)
    judge = ResidualAttributeNetwork(**{"binary": BINARY_NAMES} | metadata["config"])
    judge.load_state_dict(tensors)
    return judge.requires_grad_(False).eval().to(device)
