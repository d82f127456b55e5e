"""The attribute judge: reads factors for evaluation only, never for training or optimisation.

Another architecture than the losses' network (residual, group-normalised, pooled over all positions),
trained from another seed on other renders.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.weights import read_weights

FILE = "judges.attributes.safetensors"


class AttributeJudge(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to standardised factors (N, K); a binary factor is its logit."""

    def __init__(self, names: Sequence[str], widths: Sequence[int] = (24, 48, 72, 112, 112)) -> None:
        super().__init__()
        self.names, self.widths = list(names), tuple(widths)
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(_Residual(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.head = nn.Linear(widths[-1] * 16, len(names))
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))

    @property
    def config(self) -> dict:
        """The arguments that build this network again."""
        return {"names": self.names, "widths": list(self.widths)}

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The output of the stem and of every block, (N, C, H, W) each, finest first."""
        maps = [self.stem(images)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        return self.head(F.adaptive_avg_pool2d(F.silu(self.features(images)[-1]), 4).flatten(1))


class _Residual(nn.Module):
    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, fan_in), nn.GroupNorm(8, fan_out)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, padding=1)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1)
        self.skip = nn.Conv2d(fan_in, fan_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.skip(x) + self.conv2(F.silu(self.norm2(h)))
        return F.avg_pool2d(h, 2) if h.shape[-1] > 4 else h


def load_attribute_judge(*, device: torch.device | str = "cpu") -> AttributeJudge:
    """The shipped attribute judge, frozen."""
    tensors, metadata = read_weights(FILE)
    judge = AttributeJudge(**metadata["config"])
    judge.load_state_dict(tensors)
    return judge.requires_grad_(False).eval().to(device)
