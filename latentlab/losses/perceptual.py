"""The perceptual distance for training and optimisation."""

from pathlib import Path

import torch

from latentlab.losses.attributes import FILE
from latentlab.networks.attributes import AttributeNetwork, fold_normalization
from latentlab.networks.official import load_official
from latentlab.networks.perceptual import Lpips, PerceptualDistance
from latentlab.weights import read_weights


def load_perceptual(
    backbone: str = "faces", path: str | Path | None = None, *, device: torch.device | str = "cpu"
) -> PerceptualDistance:
    """Loads the shipped perceptual distance of the losses, frozen.

    backbone: "faces", or "alex" or "vgg" for LPIPS with torchvision's weights of that network, read from ``path``; see
    ``latentlab.networks.official``.
    """
    if backbone != "faces":
        return Lpips(load_official(backbone, path)).to(device)
    tensors, metadata = read_weights(FILE)
    distance = PerceptualDistance(AttributeNetwork(**metadata["config"]))
    distance.load_state_dict(tensors)
    distance = fold_normalization(distance.requires_grad_(False).eval())
    return distance.to(device, memory_format=torch.channels_last)  # the fastest layout for convolutions
