"""The residual StyleGAN2 discriminator (arXiv 1912.04958, section 4.1 and figure 7)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from . import ops
from .generator import check_resolution


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Architecture of a discriminator; `channels`: one width for each of 4, 8, .., resolution."""

    resolution: int = 64
    channels: tuple[int, ...] = (128, 128, 128, 64, 32)
    stddev_group: int = 4

    def __post_init__(self) -> None:
        blocks = check_resolution(self.resolution)
        if len(self.channels) != blocks:
            raise ValueError(
                f"channels: expected {blocks} widths, one for each of 4, 8, .., {self.resolution}, "
                f"got {len(self.channels)}"
            )

    def to_dict(self) -> dict:
        """The fields as plain JSON types."""
        return asdict(self) | {"channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping) -> "DiscriminatorConfig":
        """Inverse of `to_dict`."""
        return cls(**{**values, "channels": tuple(values["channels"])})  # JSON has lists only


class EqualConv(nn.Module):
    """Convolution with equalised learning rate, weight / sqrt(fan_in) at run time (arXiv 1710.10196), and activation.

    It is followed by a bias and sqrt(2) lrelu; `down` halves the resolution (FIR filter and stride 2).
    """

    def __init__(self, fan_in: int, fan_out: int, size: int, generator: torch.Generator, down: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, size, size, generator=generator))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.gain = 1 / math.sqrt(fan_in * size * size)
        self.down = down

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """scale * sqrt(2) lrelu(conv(x) + bias), with the positive factors folded into weight and bias."""
        weight, bias = self.weight * (self.gain * ops.GAIN * scale), self.bias * (ops.GAIN * scale)
        if self.down:
            x = ops.conv_down(x, weight, bias)
        else:
            x = F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=weight.shape[-1] // 2)
        return F.leaky_relu_(x, ops.SLOPE)


class Skip(nn.Module):
    """Skip connection: halves the resolution, then a linear 1x1 convolution without bias."""

    def __init__(self, fan_in: int, fan_out: int, generator: torch.Generator):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, 1, 1, generator=generator))
        self.gain = 1 / math.sqrt(fan_in)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return F.conv2d(ops.fir_down(x), (self.weight * (self.gain * scale)).to(x.dtype))


class ResidualBlock(nn.Module):
    """(conv1(conv0(x)) + skip(x)) / sqrt(2), at half the resolution."""

    def __init__(self, fan_in: int, fan_out: int, generator: torch.Generator):
        super().__init__()
        self.conv0 = EqualConv(fan_in, fan_in, 3, generator)
        self.conv1 = EqualConv(fan_in, fan_out, 3, generator, down=True)
        self.skip = Skip(fan_in, fan_out, generator)

    def forward(self, x: Tensor) -> Tensor:
        scale = math.sqrt(0.5)  # keeps the second moment of the sum
        return self.conv1(self.conv0(x), scale) + self.skip(x, scale)


class Epilogue(nn.Module):
    """Final layers at 4x4: minibatch standard deviation, convolution, two fully connected layers to one logit."""

    def __init__(self, channels: int, group: int, generator: torch.Generator):
        super().__init__()
        self.group = group
        self.conv = EqualConv(channels + 1, channels, 3, generator)
        self.fc = ops.EqualLinear(channels * 16, channels, generator=generator)
        self.out = ops.EqualLinear(channels, 1, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        # The deviation is a constant map and the last input channel of `conv`. It is convolved separately, which
        # avoids a concatenation to an odd number of channels.
        weight, bias = self.conv.weight * (self.conv.gain * ops.GAIN), self.conv.bias * ops.GAIN
        deviation = ops.minibatch_stddev(x.to(weight.dtype), self.group)[:, None, None, None]
        response = F.conv2d(weight.new_ones(1, 1, 4, 4), weight[:, -1:], padding=1)
        x = F.conv2d(x, weight[:, :-1].to(x.dtype), bias.to(x.dtype), padding=1)
        x = x.to(weight.dtype) + deviation * response  # from here to the logit in full precision
        x = F.leaky_relu(x, ops.SLOPE).flatten(1)
        return self.out(ops.lrelu(self.fc(x)))


class Discriminator(nn.Module):
    """Residual discriminator: images (N, 3, R, R) in [-1, 1] to logits (N, 1), positive for real images.

    N is at most the stddev group or a multiple of it. The initial weights are drawn from `seed`, without changing
    the global random state.
    """

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig(), seed: int = 0):
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        widths = config.channels[::-1]
        self.fromrgb = EqualConv(3, widths[0], 1, generator)
        self.blocks = nn.ModuleDict(
            {
                str(config.resolution >> k): ResidualBlock(a, b, generator)
                for k, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
            }
        )
        self.epilogue = Epilogue(widths[-1], config.stddev_group, generator)

    def forward(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 1"]:
        """Logits of images."""
        r, group = self.config.resolution, self.config.stddev_group
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, r, r):
            raise ValueError(f"images: expected shape (N, 3, {r}, {r}), got {tuple(images.shape)}")
        if len(images) > group and len(images) % group:
            raise ValueError(
                f"images: expected a batch of at most {group} or a multiple of it (the stddev group), got {len(images)}"
            )
        x = images.to(ops.compute_dtype(self.fromrgb.weight))
        with ops.no_autocast(self.fromrgb.weight):
            x = self.fromrgb(x)
            for block in self.blocks.values():
                x = block(x)
            return self.epilogue(x)
