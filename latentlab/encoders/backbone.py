"""What the encoders share: their shape, the feature pyramid over IR-SE, and the heads that make a code of a map.

pSp (arXiv 2008.00951, section 3) designed it; e4e, LSAP, ReStyle and CLCAE took it over. Parameters bear the
names of the official checkpoints.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.networks.ir_se import UNITS, WIDTHS, Trunk
from latentlab.seeds import drawn_from
from latentlab.stylegan import GeneratorConfig
from latentlab.stylegan.ops import EqualLinear

SIZE = 256  # px, what the official encoders see of an image of any resolution
COARSE, MEDIUM = 3, 7  # the first code that reads the second level of the pyramid, and the third


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder, by default that of the official ones for a generator of 1024 px.

    layers: L, the number of codes. w_dim: D, their width. resolution: px of the images that it sees.
    widths, units: of the backbone's four stages; the last width is that of the pyramid and of the heads.
    in_channels: 6 for ReStyle, which sees the current reconstruction as well. pyramid: whether later codes read
    finer maps; without it all read the last one (ReStyle's simplified encoder).
    """

    layers: int = 18
    w_dim: int = 512
    resolution: int = SIZE
    widths: tuple[int, ...] = WIDTHS
    units: tuple[int, ...] = UNITS[50]
    in_channels: int = 3
    pyramid: bool = True

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution: expected a power of two of at least 16, got {self.resolution}")
        if self.layers < 1 or self.w_dim < 1:
            raise ValueError(f"layers and w_dim: expected at least 1, got {self.layers} and {self.w_dim}")

    @classmethod
    def slim(cls, generator: GeneratorConfig, *, in_channels: int = 3) -> "EncoderConfig":
        """The shape for a small generator: some 1.5 million parameters for ``faces-64`` (w_dim 128).

        Two units a stage, widths in proportion to w_dim; the image is read at the generator's resolution, so for
        64 px the pyramid has 16, 8 and 4 px.
        """
        top = generator.w_dim // 2
        return cls(
            layers=2 * len(generator.channels),
            w_dim=generator.w_dim,
            resolution=min(generator.resolution, SIZE),
            widths=(top // 4, top // 2, top, top),
            units=(2, 2, 2, 2),
            in_channels=in_channels,
        )

    def to_dict(self) -> dict:
        """Plain json types."""
        return asdict(self) | {"widths": list(self.widths), "units": list(self.units)}

    @classmethod
    def from_dict(cls, values: Mapping) -> "EncoderConfig":
        """Inverse of ``to_dict``."""
        return cls(**{**values, "widths": tuple(values["widths"]), "units": tuple(values["units"])})


def level_of(layer: int) -> int:
    """Which level of the pyramid, coarsest first, the code of a layer is read from: 0-2 of the first, 3-6 of the
    second, all later ones of the third (pSp, section 3.1)."""
    return (layer >= COARSE) + (layer >= MEDIUM)


class Map2Style(nn.Module):
    """Feature map (N, C, s, s) to a vector (N, D): convolutions that halve it down to 1x1, then a linear layer.

    log2(s) convolutions 3x3 with stride 2, each followed by a leaky ReLU of slope 0.01 (not StyleGAN's 0.2).
    """

    def __init__(self, channels: int, w_dim: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        halvings = range(int(math.log2(size)))
        self.convs = nn.Sequential(
            *(layer for _ in halvings for layer in (nn.Conv2d(channels, channels, 3, 2, 1), nn.LeakyReLU(0.01)))
        )
        self.linear = EqualLinear(channels, w_dim, generator=generator)

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n dim"]:
        return self.linear(self.convs(x).flatten(1))


class Pyramid(Trunk):
    """Images to three feature maps of one width: the backbone's last, and two finer ones merged top-down."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config.widths, config.units, config.in_channels)
        self.shape = config
        if config.pyramid:
            self.latlayer1 = nn.Conv2d(config.widths[2], config.widths[3], 1)
            self.latlayer2 = nn.Conv2d(config.widths[1], config.widths[3], 1)

    def levels(self, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """c3, p2 and p1, coarsest first: at 1/16, 1/8 and 1/4 of the image (c3 alone without a pyramid)."""
        _, c1, c2, c3 = self.features(self.fit(images))
        if not self.shape.pyramid:
            return [c3]
        p2 = _enlarge(c3, c2) + self.latlayer1(c2)
        p1 = _enlarge(p2, c1) + self.latlayer2(c1)
        return [c3, p2, p1]

    def fit(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c r r"]:
        """Images at the resolution that the encoder sees."""
        channels, r = self.shape.in_channels, self.shape.resolution
        if images.ndim != 4 or images.shape[1] != channels or not images.is_floating_point():
            raise ValueError(
                f"images: expected floats in [-1, 1] of shape (N, {channels}, R, R), got {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        return resize(images, r)

    def level(self, layer: int) -> int:
        """Which of ``levels`` the code of a layer is read from."""
        return level_of(layer) if self.shape.pyramid else 0

    def heads(self, layers: range, generator: torch.Generator) -> nn.ModuleList:
        """A head for each of some layers, made for the size of its level."""
        width, r = self.shape.widths[3], self.shape.resolution
        sizes = [r >> (4 - self.level(layer)) for layer in layers]
        return nn.ModuleList(Map2Style(width, self.shape.w_dim, size, generator) for size in sizes)


class CodeEncoder(Pyramid):
    """Images to codes of W+; what the heads' vectors mean is up to the encoder.

    ``latent_avg`` (L, D) is added to what the heads give, so that training starts near the mean of W: set it
    with ``set_average``. ``seed`` draws the initial weights and leaves the global random state alone.
    """

    def __init__(self, config: EncoderConfig = EncoderConfig(), seed: int = 0) -> None:
        with drawn_from(seed, "encoder weights") as draw:
            super().__init__(config)
            self.config = config
            self._add_heads(draw)
        self.register_buffer("latent_avg", torch.zeros(config.layers, config.w_dim))

    def _add_heads(self, draw: torch.Generator) -> None:
        self.styles = self.heads(range(self.config.layers), draw)

    def set_average(self, w_avg: Float[Tensor, "*layers dim"]) -> None:
        """Takes over the mean of W, (D,) or (L, D), of the generator that the codes are for."""
        self.latent_avg.copy_(w_avg.expand_as(self.latent_avg))

    def offsets(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n layers dim"]:
        """Codes of images in [-1, 1] without the average, (N, L, D)."""
        raise NotImplementedError

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n layers dim"]:
        """Codes of W+, (N, L, D), of images in [-1, 1]."""
        return self.offsets(images) + self.latent_avg


def resize(images: Float[Tensor, "n c h w"], resolution: int) -> Float[Tensor, "n c r r"]:
    """Images at another resolution, bilinear, antialiased where they shrink."""
    if images.shape[-2:] == (resolution, resolution):
        return images
    return F.interpolate(images, (resolution, resolution), mode="bilinear", antialias=True)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
