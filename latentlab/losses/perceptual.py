"""The perceptual distance of the losses."""

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
    """The shipped perceptual distance, frozen; or LPIPS with ``backbone`` "alex" or "vgg" from a file.

    ``path`` is torchvision's weights of that backbone: see ``latentlab.networks.official``.
    """
    if backbone != "faces":
        return Lpips(load_official(backbone, path)).to(device)
    tensors, metadata = read_weights(FILE)
    distance = PerceptualDistance(AttributeNetwork(**metadata["config"]))
    distance.load_state_dict(tensors)
    distance = fold_normalization(distance.requires_grad_(False).eval())
    return distance.to(device, memory_format=torch.channels_last)  # what a convolution reads fastest
