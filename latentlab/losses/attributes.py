"""The attribute network of the losses: reads every factor of the face world from an image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from latentlab.weights import read_weights

FILE = "losses.perceptual.safetensors"


class AttributeNetwork(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to standardised factors (N, K), through plain stages of convolutions.

    The first stage keeps the resolution, each later one halves it; the stages' outputs are what the
    perceptual distance compares. ``mean`` and ``std`` (K,) undo the standardisation: see
    ``latentlab.regression.read_factors``.
    """

    def __init__(self, names: Sequence[str], widths: Sequence[int] = (24, 48, 96, 128), resolution: int = 64) -> None:
        super().__init__()
        self.names, self.widths, self.resolution = list(names), tuple(widths), resolution
        stages = [nn.Sequential(_convolution(3, widths[0]))]
        for fan_in, fan_out in zip(widths, widths[1:], strict=False):
            stages.append(nn.Sequential(_convolution(fan_in, fan_out, stride=2), _convolution(fan_out, fan_out)))
        self.stages = nn.ModuleList(stages)
        side = resolution >> len(widths)
        self.head = nn.Sequential(
            _convolution(widths[-1], widths[-1], stride=2),
            nn.Flatten(),
            nn.Linear(widths[-1] * side * side, 128),
            nn.ReLU(),
            nn.Linear(128, len(names)),
        )
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))

    @property
    def config(self) -> dict:
        """The arguments that build this network again."""
        return {"names": self.names, "widths": list(self.widths), "resolution": self.resolution}

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The output of every stage, (N, C, H, W) each, finest first."""
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n k"]:
        """Standardised factors; a binary factor is its logit."""
        return self.head(self.features(images)[-1])


def load_attributes(*, device: torch.device | str = "cpu") -> AttributeNetwork:
    """The shipped attribute network of the losses, frozen."""
    tensors, metadata = read_weights(FILE)
    network = AttributeNetwork(**metadata["config"])
    network.load_state_dict({k.removeprefix("trunk."): v for k, v in tensors.items() if k.startswith("trunk.")})
    return network.requires_grad_(False).eval().to(device)


def fold_normalization(network: nn.Module) -> nn.Module:
    """Multiplies batch normalisation into the convolutions before it: the same numbers of a network that will not
    be trained any more, in fewer steps."""
    for block in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        if len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
    return network


def _convolution(fan_in: int, fan_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)
    )
