"""Two branches (Yin et al. 2022, arXiv 2204.12530): sparse directions of W+, and content of the image fused in where
the edit leaves the generator's features alone.

The paper has no public code; what it leaves open is chosen here and said where it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.seeds import stream

Targets = Float[Tensor, "n k"]
Map = Float[Tensor, "n c h w"]
AnyMap = Float[Tensor, "n _ _ _"]  # of several resolutions


@dataclass(frozen=True)
class TwoBranchConfig:
    """Shape of the two branches.

    attributes: names of the K attributes. layers, w_dim: of the generator's codes. resolutions, channels: of the
    generator's blocks that are fused, ascending. seen: channels of the encoder's feature maps. width: of the networks
    between. relevance: "cosine", a map of similarities in [0, 1]; or "attention", the paper's softmax. most: the
    largest target, in standard deviations. std: one standard deviation of each attribute in its own unit (degrees for
    yaw), so that targets can be given in that unit; empty where it is not known.
    """

    attributes: tuple[str, ...]
    layers: int
    w_dim: int
    resolutions: tuple[int, ...]
    channels: tuple[int, ...]
    seen: int
    width: int = 48
    relevance: Literal["cosine", "attention"] = "cosine"
    most: float = 3.0
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.relevance not in RELEVANCES:
            raise ValueError(f"relevance: expected one of {', '.join(RELEVANCES)}, got {self.relevance!r}")
        if not self.attributes or len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes: expected different names, got {', '.join(self.attributes) or 'none'}")
        if len(self.resolutions) != len(self.channels):
            raise ValueError(f"channels: expected one for each of {len(self.resolutions)} resolutions, got "
                             f"{self.channels}")  # fmt: skip
        if self.std and (len(self.std) != len(self.attributes) or not all(x > 0 for x in self.std)):
            raise ValueError(f"std: expected a positive number for each of {len(self.attributes)} attributes, or none, "
                             f"got {self.std}")  # fmt: skip

    def to_dict(self) -> dict:
        """The fields as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> "TwoBranchConfig":
        """Inverse of ``to_dict``."""
        lists = {name: tuple(values[name]) for name in ("attributes", "resolutions", "channels", "std")}
        return cls(**{**values, **lists})


class ContentExtractor(nn.Module):
    """Encoder features (N, E, h, w) and a content direction (N, D) to content of a block, (N, C, r, r): the paper's A.

    A modulated convolution, whose scales of the input channels and shifts of the output are affine in the direction,
    and a plain convolution. Untrained it returns 0.

    The paper calls A "AdaIN [18] based" and leaves its details to the supplement. [18] is StyleGAN2, which replaced
    AdaIN's instance normalisation by modulation and demodulation of the weights (its section 2.2), and so does this:
    instance normalisation divides by the statistics of the map itself and thereby removes each channel's mean and
    size. Demodulation divides by the size that the scales give to noise of variance 1, and keeps both.
    """

    def __init__(self, config: TwoBranchConfig, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(config.w_dim, config.seen + config.width)
        self.conv = nn.Conv2d(config.seen, config.width, 3, padding=1, bias=False)
        self.out = nn.Conv2d(config.width, channels, 3, padding=1)

    def forward(
        self, features: Float[Tensor, "n e p q"], direction: Float[Tensor, "n d"], resolution: int
    ) -> Float[Tensor, "n c r r"]:
        x = F.interpolate(features, (resolution, resolution), mode="bilinear", align_corners=False)
        return self.out(F.leaky_relu(self.modulated(x, direction), 0.2))

    def modulated(self, x: Float[Tensor, "n e r r"], direction: Float[Tensor, "n d"]) -> Float[Tensor, "n c r r"]:
        """The modulated convolution: a direction says which channels of x count, and what is added to the result."""
        scale, shift = self.affine(direction).split([self.conv.in_channels, self.conv.out_channels], 1)
        scale = 1 + scale
        size = scale.square() @ self.conv.weight.square().sum((2, 3)).T  # StyleGAN2 (arXiv 1912.04958), Eq. 3
        x = self.conv(x * scale[:, :, None, None]) * (size + 1e-8).rsqrt()[:, :, None, None]
        return x + shift[:, :, None, None]


class CosineRelevance(nn.Module):
    """The relevance map as similarity, (N, 1, r, r) in [0, 1], of both features at the same position: 1 where the edit
    changes nothing. An (HW x HW) softmax, as the paper prints it, cannot multiply an (H x W) map.

    Features of faces-64 keep a cosine of 0.99 and more where an edit changes nothing, and fall to about 0.9 where it
    puts glasses on or turns the head. So the map begins with one half at 0.95: with one half at 0.5, content would
    undo nearly every edit until training has found out.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, width, 1)
        self.log_slope = nn.Parameter(torch.tensor(math.log(100.0)))
        self.shift = nn.Parameter(torch.tensor(5.0))

    def map(self, before: Map, after: Map) -> Float[Tensor, "n 1 h w"]:
        """Where content belongs, of features before and after the edit."""
        similar = F.cosine_similarity(self.query(before), self.query(after), dim=1)[:, None]
        return torch.sigmoid(self.shift - self.log_slope.exp() * (1 - similar))

    def forward(self, before: Map, after: Map, style: Map, content: Map) -> Map:
        m = self.map(before, after)
        return (1 - m) * style + m * content  # Eq. 7


class AttentionRelevance(nn.Module):
    """The paper's softmax (Eq. 6), read as a matrix between positions: fused = (1 - M) style + M content, with the unit
    matrix for 1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, width, 1)
        self.key = nn.Conv2d(channels, width, 1)

    def matrix(self, before: Map, after: Map) -> Float[Tensor, "n p p"]:
        """M, (N, HW, HW); each row sums to 1."""
        q, k = self.query(before).flatten(2), self.key(after).flatten(2)
        return (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(2)  # Eq. 6

    def map(self, before: Map, after: Map) -> Float[Tensor, "n 1 h w"]:
        """How much of its own position each one takes: the diagonal of M."""
        return self.matrix(before, after).diagonal(dim1=1, dim2=2).unflatten(1, before.shape[2:])[:, None]

    def forward(self, before: Map, after: Map, style: Map, content: Map) -> Map:
        moved = self.matrix(before, after) @ (content - style).flatten(2).transpose(1, 2)
        return style + moved.transpose(1, 2).unflatten(2, style.shape[2:])  # Eq. 7


RELEVANCES = {"cosine": CosineRelevance, "attention": AttentionRelevance}


class TwoBranch(nn.Module):
    """Both branches: directions of W+ for attributes, and the fusion of an image's content into an edited picture.

    Targets s, (N, K), are changes of the attributes in standard deviations; 0 keeps an attribute.
    encoder_fingerprint: of the encoder that they were trained with, None if not known.
    """

    encoder_fingerprint: str | None = None

    def __init__(self, config: TwoBranchConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        k, blocks = len(config.attributes), list(zip(config.resolutions, config.channels, strict=True))
        self.style_directions = nn.Parameter(torch.zeros(k, config.layers, config.w_dim))
        self.content_directions = nn.Parameter(torch.zeros(k, len(blocks), config.w_dim))
        self.extract = nn.ModuleDict({str(r): ContentExtractor(config, c) for r, c in blocks})
        self.fuse = nn.ModuleDict({str(r): RELEVANCES[config.relevance](c, config.width) for r, c in blocks})
        draw = stream(seed, "two branches")
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name == "content_directions":
                    weight.copy_(torch.randn(weight.shape, generator=draw) / math.sqrt(k))  # their sum has size 1
                elif name.endswith("weight"):
                    size = 0.0 if ".out." in name else 1 / math.sqrt(weight[0].numel())
                    weight.copy_(size * torch.randn(weight.shape, generator=draw))
                elif name.endswith("bias"):
                    weight.zero_()

    def targets(self, name: str, strengths: Float[Tensor, " n"]) -> Targets:
        """Targets that change one attribute by so many standard deviations."""
        if name not in self.config.attributes:
            raise ValueError(f"attribute: expected one of {', '.join(self.config.attributes)}, got {name!r}")
        s = strengths.new_zeros(len(strengths), len(self.config.attributes))
        s[:, self.config.attributes.index(name)] = strengths
        return s

    def check(self, s: Targets) -> None:
        """Raises ``ValueError`` for targets of another number of attributes or out of their range."""
        wanted, most = len(self.config.attributes), self.config.most
        if s.ndim != 2 or s.shape[1] != wanted:
            raise ValueError(f"targets: expected shape (N, {wanted}), got {tuple(s.shape)}")
        if not bool(s.isfinite().all()) or float(s.abs().max()) > most:
            raise ValueError(f"targets: expected {-most:g} to {most:g} standard deviations, got "
                             f"{float(s.abs().max()):.3g}; choose a smaller strength (edits of one attribute add "
                             "up)")  # fmt: skip

    def style_shift(self, s: Targets) -> Float[Tensor, "n layers dim"]:
        """d_sty, what an edit adds to codes of W+."""
        return torch.einsum("nk,kld->nld", s, self.style_directions)  # Eq. 1

    def contents(self, levels: Sequence[AnyMap], s: Targets) -> dict[int, AnyMap]:
        """The content of each fused block, by resolution, beyond the features of the inversion.

        levels: the encoder's feature maps of the images, coarsest first; each block takes the one of its rank, the
        last one where there are more blocks.
        """
        # Eq. 4; targets of both signs and of more than 1 ask for |s| in units of the largest one
        d = torch.einsum("nk,krd->nrd", 1 - s.abs() / self.config.most, self.content_directions)
        found = {}
        for i, r in enumerate(self.config.resolutions):
            found[r] = self.extract[str(r)](levels[min(i, len(levels) - 1)], d[:, i], r)  # Eq. 5
        return found

    def fusion(
        self, before: Mapping[int, AnyMap], after: Mapping[int, AnyMap], contents: Mapping[int, AnyMap]
    ) -> dict[int, "Fusion"]:
        """For ``Generator.synthesis(replace=)``: at each resolution a function from a block's output to the fused map.

        before, after: the generator's features of the inversion and of its edit. The content of a block is what
        ``contents`` adds to ``before``, so that untrained branches change nothing where nothing is edited.
        """
        like = self.style_directions  # synthesis runs without autocast
        parts = {r: (before[r].to(like), after[r].to(like), c.to(like)) for r, c in contents.items()}
        return {r: Fusion(self.fuse[str(r)], b, a, b + c) for r, (b, a, c) in parts.items()}

    def relevance(
        self, before: Mapping[int, AnyMap], after: Mapping[int, AnyMap]
    ) -> dict[int, Float[Tensor, "n 1 _ _"]]:
        """The relevance maps by resolution, to be looked at."""
        return {r: self.fuse[str(r)].map(before[r], after[r]) for r in self.config.resolutions}

    @torch.no_grad()
    def style_branch(self) -> "TwoBranch":
        """The style branch alone: the same directions, and no content."""
        alone = TwoBranch(replace(self.config, resolutions=(), channels=())).to(self.style_directions)
        alone.style_directions.copy_(self.style_directions)
        alone.encoder_fingerprint = self.encoder_fingerprint
        return alone.train(self.training).requires_grad_(self.style_directions.requires_grad)

    @torch.no_grad()
    def shrink(self, amount: float) -> None:
        """A proximal step of the sparsity term (Eq. 3): moves every number of the style directions towards 0 by
        ``amount``, and those that are nearer to 0 to exactly 0."""
        d = self.style_directions
        d.copy_(d.sign() * (d.abs() - amount).clamp(min=0))

    @property
    def sparsity(self) -> Float[Tensor, " k"]:
        """The share of each style direction's numbers that are exactly 0, (K,)."""
        return (self.style_directions == 0).float().flatten(1).mean(1)


@dataclass(frozen=True, eq=False)
class Fusion:
    """Fuses content into the output of a block, see ``TwoBranch.fusion``."""

    module: nn.Module
    before: Tensor
    after: Tensor
    content: Tensor

    def __call__(self, style: Map) -> Map:
        return self.module(self.before, self.after, style.to(self.content), self.content)
