"""The attribute judge: reads factors for evaluation only, never for training or optimisation.

Another architecture than the losses' network, trained from another seed on other renders.
"""

import torch

from latentlab.faces import BINARY_NAMES
from latentlab.networks.attributes import ResidualAttributeNetwork
from latentlab.weights import read_weights

FILE = "judges.attributes.safetensors"


def load_attribute_judge(*, device: torch.device | str = "cpu") -> ResidualAttributeNetwork:
    """The shipped attribute judge, frozen."""
    tensors, metadata = read_weights(FILE)
    judge = ResidualAttributeNetwork(**{"binary": BINARY_NAMES} | metadata["config"])
    judge.load_state_dict(tensors)
    return judge.requires_grad_(False).eval().to(device)
