"""Networks that predict the factors of a face from an image: a plain one, and a residual one for the judges."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class FactorReader(nn.Module):
    """The factors that a network reads: their names, ``mean`` and ``std`` (K,) that undo the standardisation, and which
    of them are ``binary`` (K,); see ``read_factors``."""

    def __init__(self, names: Sequence[str], binary: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))
        self.register_buffer("binary", torch.tensor([name in binary for name in names]), persistent=False)

    @property
    def binary_names(self) -> list[str]:
        """The factors that are read as probabilities."""
        return [name for name, binary in zip(self.names, self.binary.tolist(), strict=True) if binary]


class AttributeNetwork(FactorReader):
    """Plain convolutional network from images (N, 3, R, R) in [-1, 1] to standardised factors (N, K).

    The first stage keeps the resolution and each later one halves it. The perceptual distance compares the outputs of
    the stages.
    """

    def __init__(
        self,
        names: Sequence[str],
        widths: Sequence[int] = (24, 48, 96, 128),
        resolution: int = 64,
        binary: Sequence[str] = (),
    ) -> None:
        super().__init__(names, binary)
        self.widths, self.resolution = tuple(widths), resolution
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

    @property
    def config(self) -> dict:
        """The arguments that build this network again."""
        own = {"widths": list(self.widths), "resolution": self.resolution}
        return {"names": self.names, "binary": self.binary_names} | own

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The outputs of all stages, (N, C, H, W) each, highest resolution first."""
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n k"]:
        """Standardised factors; logits for binary factors."""
        return self.head(self.features(images)[-1])


class ResidualAttributeNetwork(FactorReader):
    """Residual network from images (N, 3, H, W) in [-1, 1] to standardised factors (N, K), logits for binary ones.

    It has group normalisation and pools over positions. Only the judges use it, so that their architecture differs from
    that of the losses.
    """

    def __init__(
        self, names: Sequence[str], widths: Sequence[int] = (24, 48, 72, 112, 112), binary: Sequence[str] = ()
    ) -> None:
        super().__init__(names, binary)
        self.widths = tuple(widths)
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(_Residual(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.head = nn.Linear(widths[-1] * 16, len(names))

    @property
    def config(self) -> dict:
        """The arguments that build this network again."""
        return {"names": self.names, "widths": list(self.widths), "binary": self.binary_names}

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The outputs of the stem and all blocks, (N, C, H, W) each, highest resolution first."""
        maps = [self.stem(images)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        return self.head(F.adaptive_avg_pool2d(F.silu(self.features(images)[-1]), 4).flatten(1))


@torch.no_grad()
def read_factors(network: nn.Module, images: Float[Tensor, "n 3 r r"], batch_size: int = 250) -> Float[Tensor, "n k"]:
    """Predicts factors of images in [-1, 1], (N, K): in their own units, and probabilities for binary ones.

    ``network`` returns standardised values and has the buffers ``mean``, ``std`` and ``binary``, (K,) each.
    """
    values = torch.cat([network(part) for part in images.split(batch_size)])
    return torch.where(network.binary, values.sigmoid(), values * network.std + network.mean)


def fold_normalization(network: nn.Module) -> nn.Module:
    """Folds batch normalisation into the preceding convolutions, for faster inference with the same outputs."""
    for block in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        if len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
    return network


def _convolution(fan_in: int, fan_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)
    )


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
