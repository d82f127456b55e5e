"""CLCAE's encoder (arXiv 2211.11448, section 3.2): a code of W, from it codes of W+, and a feature map of F space."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.encoders.attention import CrossAttentionBlock, PrintedAttention
from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.feature_space import FeatureCodes, FeatureEncoder, feature_size
from latentlab.seeds import drawn_from
from latentlab.stylegan import GeneratorConfig

Attention = Literal["faithful", "paper", "multi_token"]


@dataclass(frozen=True)
class ClcaeConfig:
    """Shape of CLCAE's encoder, by default the official one for 1024 px.

    attention: "faithful" as in the public code, "paper" as in Eq. 4 and 5 (one set of projections for all layers,
    no feed-forward network), "multi_token" as in the code but with a key for each layer, so that the query has a
    choice. Both of the former have one key and ignore the query.
    feature_resolution, feature_channels: of the map that replaces the generator's: the output of its fifth
    convolution at 1024 px. w_plus_block, f_block: False leaves the block out, for the paper's ablations.
    shared_blocks: layers that are read from the same level of the pyramid share a W+ block, instead of one for each
    layer. residual_feature: the feature map is the generator's for the mean of W plus what a further convolution
    makes, without activation, as codes are ``w_avg`` plus what the heads make.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    attention: Attention = "faithful"
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.1
    feature_resolution: int = 16
    feature_channels: int = 512
    w_plus_block: bool = True
    f_block: bool = True
    shared_blocks: bool = False
    residual_feature: bool = False

    def __post_init__(self) -> None:
        finest = self.encoder.resolution // 8
        if self.feature_resolution not in {finest >> k for k in range(finest.bit_length())}:
            raise ValueError(
                f"feature_resolution: expected a power of two up to {finest}, half of the pyramid's finest map, "
                f"got {self.feature_resolution}"
            )
        if self.attention not in ("faithful", "paper", "multi_token"):
            raise ValueError(f"attention: expected 'faithful', 'paper' or 'multi_token', got {self.attention!r}")

    @classmethod
    def slim(cls, generator: GeneratorConfig, attention: Attention = "faithful") -> "ClcaeConfig":
        """The shape for a small generator: some 1.5 million parameters for ``faces-64`` (w_dim 128).

        The blocks are shared, for one a layer would have half of all parameters. The feature map is a residual: the
        maps of faces differ from their mean by a sixth of their power, and a map that had to be learned from nothing
        drew blurred faces after 30,000 images. Nothing is dropped out. The feature map has the size that
        ``feature_size`` tells, 8x8 for ``faces-64``.
        """
        resolution, channels = feature_size(generator)
        top = 4 * max(1, round(generator.w_dim * 13 / 128))
        base = EncoderConfig.slim(generator).to_dict() | {"widths": (top // 2, top // 2, top, top)}
        return cls(
            encoder=EncoderConfig.from_dict(base),
            attention=attention,
            feedforward=generator.w_dim // 2,
            dropout=0.0,
            feature_resolution=resolution,
            feature_channels=channels,
            shared_blocks=True,
            residual_feature=True,
        )

    def to_dict(self) -> dict:
        """Plain json types."""
        return asdict(self) | {"encoder": self.encoder.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping) -> "ClcaeConfig":
        """Inverse of ``to_dict``."""
        return cls(**{**values, "encoder": EncoderConfig.from_dict(values["encoder"])})


class Residuals(NamedTuple):
    """What the pyramid gives, before the blocks: w - w_avg, the coarse residuals of all layers, the finest map."""

    w_offset: Float[Tensor, "n dim"]
    deltas: Float[Tensor, "n layers dim"]
    finest: Float[Tensor, "n c h w"]


class ContentLayer(nn.Module):
    """The CNN of Eq. 5: convolutions of stride 2, each with a leaky ReLU of slope 0.01, down to the feature map; for a
    residual one of stride 1 more, which begins at 0 and has no activation."""

    def __init__(self, fan_in: int, fan_out: int, halvings: int, residual: bool = False) -> None:
        super().__init__()
        widths = [fan_in] + [fan_out] * halvings
        convolutions = (nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:], strict=False))
        layers = [layer for conv in convolutions for layer in (conv, nn.LeakyReLU(0.01))]
        if residual:
            layers.append(nn.Conv2d(fan_out, fan_out, 3, 1, 1))
            nn.init.zeros_(layers[-1].weight)
            nn.init.zeros_(layers[-1].bias)
        self.convs = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o r r"]:
        return self.convs(x)


class ClcaeEncoder(FeatureEncoder):
    """Images (N, 3, R, R) in [-1, 1] to ``FeatureCodes``. Parameters bear the names of the official checkpoints.

    Buffers that those lack, 0 until ``set_averages``: ``w_avg`` (D,), ``image_avg`` (3, R, R), the
    picture of the mean of W, which the public code subtracts from what it sees (the paper does not mention it), and,
    with ``residual_feature``, ``feature_avg`` (C, s, s), the generator's map for the mean of W.
    """

    def __init__(self, config: ClcaeConfig = ClcaeConfig(), seed: int = 0) -> None:
        shape = config.encoder
        width, dim, layers = shape.widths[3], shape.w_dim, shape.layers
        with drawn_from(seed, "encoder weights") as draw:
            super().__init__(shape)
            self.config = config
            self.styles = self.heads(range(1), draw)
            self.styles_others = self.heads(range(1, layers), draw)
            halvings = int(math.log2(shape.resolution // 4 // config.feature_resolution))
            self.content_layer = ContentLayer(width, config.feature_channels, halvings, config.residual_feature)
            if config.w_plus_block:
                blocks = len(set(self._block_numbers()))
                self.cross_attention = nn.ModuleList(_attention(config, dim) for _ in range(blocks))
            if config.f_block:
                self.feature_cross_attention = _attention(config, width)
        if config.attention == "multi_token":  # of the W+ block's keys, of the F block's, and of the W+ block's queries
            self.layer_embedding = nn.Parameter(torch.randn(3, layers, dim, generator=draw) / math.sqrt(dim))
        self.register_buffer("w_avg", torch.zeros(dim))
        self.register_buffer("image_avg", torch.zeros(shape.in_channels, shape.resolution, shape.resolution))
        if config.residual_feature:
            size = config.feature_resolution
            self.register_buffer("feature_avg", torch.zeros(config.feature_channels, size, size))

    def set_averages(
        self,
        w_avg: Float[Tensor, " dim"],
        image: Float[Tensor, "3 r r"],
        feature: Float[Tensor, "o s s"] | None = None,
    ) -> None:
        """Takes over the mean of W of the generator that the codes are for, its picture, at any resolution, and, with
        ``residual_feature``, the generator's feature map for it."""
        self.w_avg.copy_(w_avg)
        self.image_avg.copy_(self.fit(image[None])[0])
        if feature is not None:
            self.feature_avg.copy_(feature)

    def residuals(self, images: Float[Tensor, "n 3 h w"]) -> Residuals:
        """What the pyramid gives of images. The first layer's residual is the offset of w itself, as coded."""
        levels = self.levels(self.fit(images) - self.image_avg)
        w_offset = self.styles[0](levels[0])
        others = [head(levels[self.level(i)]) for i, head in enumerate(self.styles_others, start=1)]
        return Residuals(w_offset, torch.stack([w_offset, *others], 1), levels[-1])

    def w_plus_offsets(
        self, w_offset: Float[Tensor, "n dim"], deltas: Float[Tensor, "n layers dim"]
    ) -> Float[Tensor, "n layers dim"]:
        """The W+ block: w_plus - w, (N, L, D), from the offset of w and the coarse residuals.

        To edit as the public code does, move ``w_offset`` along a direction and take the same residuals.
        """
        if not self.config.w_plus_block:
            return torch.cat([torch.zeros_like(deltas[:, :1]), deltas[:, 1:]], 1)
        if self.config.attention == "paper":
            w = (w_offset + self.w_avg)[:, None, None].expand(-1, deltas.shape[1], -1, -1)
            # Eq. 4: Q = w W_Q, K = V = the layer's own residual: one query and one key for each layer
            return self.cross_attention[0](w.flatten(0, 1), deltas.flatten(0, 1)[:, None])[:, 0].view_as(deltas)
        parts = zip(self.blocks, self.queries(w_offset), self.keys(deltas), strict=True)
        return torch.cat([block(q, k) for block, q, k in parts], 1)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The W+ block of each layer."""
        return [self.cross_attention[i] for i in self._block_numbers()]

    def _block_numbers(self) -> Sequence[int]:
        layers = range(self.config.encoder.layers)
        if self.config.attention == "paper":  # Eq. 4 has one set of projections
            return [0] * len(layers)
        return [self.level(i) for i in layers] if self.config.shared_blocks else list(layers)

    def queries(self, w_offset: Float[Tensor, "n dim"]) -> Sequence[Float[Tensor, "n 1 dim"]]:
        """The query of the W+ block for each layer: the offset of w, with "multi_token" marked by its layer."""
        marks = self.layer_embedding[2] if self.config.attention == "multi_token" else None
        return [w_offset[:, None] + (0 if marks is None else marks[i]) for i in range(self.config.encoder.layers)]

    def keys(self, deltas: Float[Tensor, "n layers dim"]) -> Sequence[Float[Tensor, "n k dim"]]:
        """The keys of the W+ block for each layer: its own residual alone, or with "multi_token" those of all."""
        if self.config.attention == "multi_token":
            return [deltas + self.layer_embedding[0]] * deltas.shape[1]
        return deltas.split(1, 1)

    def feature(
        self,
        w_offset: Float[Tensor, "n dim"],
        w_plus_offsets: Float[Tensor, "n layers dim"],
        finest: Float[Tensor, "n c h w"],
    ) -> Float[Tensor, "n o r r"]:
        """The F block: every position of the finest map attends to the code of W ("multi_token": to those of W+),
        then the CNN brings it to the size of the generator's feature map (Eq. 5)."""
        if not self.config.f_block:
            return self._content(finest)
        positions = finest.flatten(2).transpose(1, 2)  # (N, H W, C)
        if self.config.attention == "paper":
            # Eq. 5: f = CNN[Attention(T3, w, w) + T3]
            positions = positions + self.feature_cross_attention(positions, (w_offset + self.w_avg)[:, None])
        else:
            several = self.config.attention == "multi_token"
            codes = w_offset[:, None] + w_plus_offsets + self.layer_embedding[1] if several else w_offset[:, None]
            positions = self.feature_cross_attention(positions, codes)
        return self._content(positions.transpose(1, 2).reshape(finest.shape))

    def _content(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o r r"]:
        made = self.content_layer(x)
        return self.feature_avg + made if self.config.residual_feature else made

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> FeatureCodes:
        """Codes and feature map of images in [-1, 1]."""
        w_offset, deltas, finest = self.residuals(images)
        offsets = self.w_plus_offsets(w_offset, deltas)
        w = w_offset + self.w_avg
        # Eq. 4: w_i^+ = w + Attention(Q, K, V)
        return FeatureCodes(w, w[:, None] + offsets, self.feature(w_offset, offsets, finest))


def _attention(config: ClcaeConfig, dim: int) -> nn.Module:
    """A block whose queries are ``dim`` wide and whose keys are codes."""
    token_dim = config.encoder.w_dim
    if config.attention == "paper":
        return PrintedAttention(dim, token_dim, config.heads)
    return CrossAttentionBlock(dim, token_dim, config.heads, config.feedforward, config.dropout)
