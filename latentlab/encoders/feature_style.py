"""An encoder in the manner of FeatureStyle (Yao et al. 2022, arXiv 2202.02183): codes of W+ and a feature map.

Smaller than the published one; it stands beside CLCAE's: both inversions end in F space, and this one has no w.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.feature_space import FeatureCodes, FeatureEncoder, feature_size
from latentlab.seeds import drawn_from
from latentlab.stylegan import GeneratorConfig
from latentlab.stylegan.ops import EqualLinear

POOLED = 3  # each stage's map is averaged to 3x3 before the codes are read from it


@dataclass(frozen=True)
class FeatureStyleConfig:
    """Shape of the encoder. feature_resolution, feature_channels: of the map that replaces the generator's."""

    encoder: EncoderConfig
    feature_resolution: int
    feature_channels: int

    def __post_init__(self) -> None:
        sizes = [self.encoder.resolution >> k for k in range(1, 5)]
        if self.feature_resolution not in sizes:
            raise ValueError(f"feature_resolution: expected that of a stage, one of {sizes}, got "
                             f"{self.feature_resolution}")  # fmt: skip

    @classmethod
    def slim(cls, generator: GeneratorConfig) -> "FeatureStyleConfig":
        """The shape for a small generator."""
        return cls(replace(EncoderConfig.slim(generator), pyramid=False), *feature_size(generator))

    def to_dict(self) -> dict:
        """Plain json types."""
        return asdict(self) | {"encoder": self.encoder.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping) -> "FeatureStyleConfig":
        """Inverse of ``to_dict``."""
        return cls(**{**values, "encoder": EncoderConfig.from_dict(values["encoder"])})


class FeatureStyle(FeatureEncoder):
    """w+_i = w_avg + A_i (all four stages, averaged to 3x3); f = CNN(the stage of the map's resolution)."""

    def __init__(self, config: FeatureStyleConfig, seed: int = 0) -> None:
        shape = config.encoder
        with drawn_from(seed, "encoder weights") as draw:
            super().__init__(shape)
            self.config = config
            pooled = sum(shape.widths) * POOLED**2
            self.pooled = nn.BatchNorm1d(pooled)  # the stages differ in scale
            self.styles = EqualLinear(pooled, shape.layers * shape.w_dim, generator=draw)
            self.stage = [shape.resolution >> k for k in range(1, 5)].index(config.feature_resolution)
            width, channels = shape.widths[self.stage], config.feature_channels
            self.content = nn.Sequential(
                nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, 1, 1), nn.BatchNorm2d(channels),
                nn.PReLU(channels), nn.Conv2d(channels, channels, 3, 1, 1), nn.BatchNorm2d(channels),
            )  # fmt: skip
        self.register_buffer("w_avg", torch.zeros(shape.w_dim))

    def set_averages(self, w_avg: Float[Tensor, " dim"], image: Float[Tensor, "3 r r"]) -> None:
        """Takes over the mean of W; the mean picture is not used."""
        self.w_avg.copy_(w_avg)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> FeatureCodes:
        """Codes of W+ and feature map of images in [-1, 1]; there is no w."""
        stages = self.features(self.fit(images))
        pooled = torch.cat([F.adaptive_avg_pool2d(x, POOLED).flatten(1) for x in stages], 1)
        offsets = self.styles(self.pooled(pooled)).unflatten(1, (self.shape.layers, self.shape.w_dim))
        return FeatureCodes(None, self.w_avg + offsets, self.content(stages[self.stage]))
