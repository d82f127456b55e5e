"""IR-SE-50, the residual network with squeeze-and-excitation that ArcFace trained (arXiv 1801.07698).

It measures identity in e4e, LSAP and CLCAE, and it is the backbone of their encoders. Layers bear the names
of the public weights (``model_ir_se50.pth``).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # width and units; the first unit of each halves the map
TAPS = (6, 20, 23)  # the units whose output pSp's encoder reads: the last of 128, 256 and 512 channels


class SqueezeExcitation(nn.Module):
    """Each channel times a gate that sees all channels' means (arXiv 1709.01507), reduction 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

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
    """Images (N, 3, H, W) in [-1, 1] to the feature maps of every unit, the last at 1/16 of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units, fan_in = [], 64
        for width, count in STAGES:
            units += [Unit(fan_in if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
            fan_in = width
        self.body = nn.Sequential(*units)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The output of every unit, 24 maps; ``TAPS`` says which an encoder reads."""
        maps = [self.input_layer(images)]
        for unit in self.body:
            maps.append(unit(maps[-1]))
        return maps[1:]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 512 h2 w2"]:
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
