"""The perceptual judge, the formula of LPIPS with the trunk of the attribute judge, for evaluation only."""

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
    """Loads the shipped perceptual judge, frozen. Its trunk is that of the attribute judge; its file has the scales.

    backbone: "alex" or "vgg" for LPIPS, as in ``load_perceptual``.
    """
    if backbone != "faces":
        return Lpips(load_official(backbone, path)).to(device)
    judge = PerceptualDistance(load_attribute_judge())
    judge.scales.copy_(read_weights(FILE)[0]["scales"])
    return judge.requires_grad_(False).eval().to(device)
