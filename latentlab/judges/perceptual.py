"""The perceptual judge: the LPIPS formula over the attribute judge's trunk, for evaluation only."""

from pathlib import Path

import torch

from latentlab.judges.attributes import load_attribute_judge
from latentlab.networks.official import load_official
from latentlab.networks.perceptual import Lpips, PerceptualDistance
from latentlab.weights import read_weights

FILE = "judges.perceptual.safetensors"


def load_perceptual_judge(
    backbone: str = "faces", path: str | Path | None = None, *, device: torch.device | str = "cpu"
) -> PerceptualDistance:
    """The shipped perceptual judge, frozen; its file holds the scales of the layers, its trunk is shared.

    LPIPS with ``backbone`` "alex" or "vgg" from a file, as in ``load_perceptual``.
    """
    if backbone != "faces":
        return Lpips(load_official(backbone, path)).to(device)
    judge = PerceptualDistance(load_attribute_judge())
    judge.scales.copy_(read_weights(FILE)[0]["scales"])
    return judge.requires_grad_(False).eval().to(device)
