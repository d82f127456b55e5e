"""IR-SE, the residual network with squeeze-and-excitation that ArcFace trained (arXiv 1801.07698).

With 50 layers it measures identity in e4e, LSAP and CLCAE and is the backbone of their encoders. Parameters
bear the names of the public weights (``model_ir_se50.pth``), at any depth and width.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

UNITS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}  # layers -> units in each stage
WIDTHS = (64, 128, 256, 512)


class SqueezeExcitation(nn.Module):
    """Each channel times a gate that sees all channels' means (arXiv 1709.01507), reduction 16, at least 4 wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Unit(nn.Module):
    """BN, convolution, PReLU, convolution (strided), BN, SE; plus the input, subsampled or projected."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride) if fan_in == fan_out
            else nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out))
        )  # fmt: skip
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(fan_in),
            nn.Conv2d(fan_in, fan_out, 3, 1, 1, bias=False),
            nn.PReLU(fan_out),
            nn.Conv2d(fan_out, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out),
            SqueezeExcitation(fan_out),
        )

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        return self.res_layer(x) + self.shortcut_layer(x)


class Trunk(nn.Module):
    """Images (N, C, H, W) in [-1, 1] to a feature map at 1/16 of the size, by default IR-SE-50 of 3 channels.

    ``widths`` and ``units`` hold one number for each of the four stages; the first unit of a stage halves the map.
    """

    def __init__(
        self, widths: Sequence[int] = WIDTHS, units: Sequence[int] = UNITS[50], in_channels: int = 3
    ) -> None:
        super().__init__()
        if len(widths) != 4 or len(units) != 4 or min(*widths, *units) < 1:
            raise ValueError(f"widths and units: expected four positive numbers each, got {widths} and {units}")
        stem = widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        blocks, fan_in = [], stem
        for width, count in zip(widths, units, strict=True):
            blocks += [Unit(fan_in if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
            fan_in = width
        self.body = nn.Sequential(*blocks)
        self.taps = [end - 1 for end in accumulate(units)]  # the last unit of each stage

    def features(self, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """The output of each of the four stages, at 1/2, 1/4, 1/8 and 1/16 of the size."""
        x, maps = self.input_layer(images), []
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return self.body(self.input_layer(images))


class ArcFace(Trunk):
    """Aligned face photographs (N, 3, R, R) in [-1, 1] to embeddings (N, 512), not yet of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    def forward(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 512"]:
        # As pSp and e4e: of 256 px the rows 35 to 223 and columns 32 to 220 hold the face, averaged to 112 px.
        if images.shape[-1] != 256:
            images = F.interpolate(images, (256, 256), mode="bilinear", antialias=True)
        face = F.adaptive_avg_pool2d(images[:, :, 35:223, 32:220], (112, 112))
        return self.output_layer(super().forward(face))
