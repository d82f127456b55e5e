"""The attribute network for training and optimisation."""

import torch

from latentlab.faces import BINARY_NAMES
from latentlab.networks.attributes import AttributeNetwork
from latentlab.weights import read_weights

FILE = "losses.perceptual.safetensors"


def load_attributes(*, device: torch.device | str = "cpu") -> AttributeNetwork:
    """Loads the shipped attribute network of the losses, frozen."""
    tensors, metadata = read_weights(FILE)
    network = AttributeNetwork(**{"binary": BINARY_NAMES} | metadata["config"])
    network.load_state_dict({k.removeprefix("trunk."): v for k, v in tensors.items() if k.startswith("trunk.")})
    return network.requires_grad_(False).eval().to(device)
