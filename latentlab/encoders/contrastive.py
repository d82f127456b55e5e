"""CLCAE's contrastive pair (arXiv 2211.11448, section 3.1): an image and its code of W as unit vectors that agree."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.encoders.backbone import EncoderConfig, Pyramid
from latentlab.seeds import drawn_from
from latentlab.stylegan import GeneratorConfig

TEMPERATURE = 0.07  # where the learnable one starts


@dataclass(frozen=True)
class ContrastiveConfig:
    """Shape of the pair, by default the official one. encoder: of the image encoder, whose first head alone is
    used. heads, feedforward, dropout: of the latent encoder's transformer layers."""

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(layers=1))
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.1

    @classmethod
    def slim(cls, generator: GeneratorConfig) -> "ContrastiveConfig":
        """The shape for a small generator: both encoders together some 1.5 million parameters for ``faces-64``."""
        d = generator.w_dim
        base = replace(EncoderConfig.slim(generator), layers=1, widths=(d // 8, d // 4, d // 2, d), pyramid=False)
        return cls(base, feedforward=2 * d, dropout=0.0)

    def to_dict(self) -> dict:
        """Plain json types."""
        return asdict(self) | {"encoder": self.encoder.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping) -> "ContrastiveConfig":
        """Inverse of ``to_dict``."""
        return cls(**{**values, "encoder": EncoderConfig.from_dict(values["encoder"])})


class Projection(nn.Module):
    """Two linear layers without bias, batch normalisation and ReLU between them: vectors (N, D) to (N, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        return self.lin2(self.bn(self.lin1(x)).relu())


class ImageEncoder(nn.Module):
    """h_I: images (N, 3, R, R), less the mean picture, to unit vectors (N, D); it holds the pair's temperature.

    ``logit_scale`` is log(1 / t). Parameters bear the names of the official checkpoints.
    """

    def __init__(self, config: ContrastiveConfig = ContrastiveConfig(), seed: int = 0) -> None:
        super().__init__()
        with drawn_from(seed, "image encoder") as draw:
            self.encoder = Pyramid(config.encoder)
            self.encoder.styles = self.encoder.heads(range(1), draw)
            self.image_projection = Projection(config.encoder.w_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n dim"]:
        c3 = self.encoder.features(self.encoder.fit(images))[-1]
        return F.normalize(self.image_projection(self.encoder.styles[0](c3)), dim=1)


class LatentEncoder(nn.Module):
    """h_w: codes of W (N, D), less their mean, to unit vectors (N, D), through three transformer layers.

    As coded the sequence has length 1: self-attention over one token is a linear map. Parameters bear the names of
    the official checkpoints, whose ``pos_embedding`` is not used.
    """

    def __init__(self, config: ContrastiveConfig = ContrastiveConfig(), seed: int = 0) -> None:
        super().__init__()
        dim = config.encoder.w_dim
        with drawn_from(seed, "latent encoder"):
            for name in ("coarse", "medium", "fine"):
                layer = nn.TransformerEncoderLayer(
                    dim, config.heads, config.feedforward, config.dropout, batch_first=True
                )
                setattr(self, name, layer)
            self.latent_projection = Projection(dim)
        self.register_buffer("pos_embedding", torch.zeros(1, 1, dim))

    def forward(self, w: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        x = self.fine(self.medium(self.coarse(w[:, None])))
        return F.normalize(self.latent_projection(x[:, 0]), dim=1)


class ContrastivePair(nn.Module):
    """Both encoders, and the averages that they subtract: ``w_avg`` (D,) and its picture ``image_avg`` (3, R, R)."""

    def __init__(self, config: ContrastiveConfig = ContrastiveConfig(), seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.images, self.latents = ImageEncoder(config, seed), LatentEncoder(config, seed)
        shape = config.encoder
        self.register_buffer("w_avg", torch.zeros(shape.w_dim))
        self.register_buffer("image_avg", torch.zeros(3, shape.resolution, shape.resolution))

    def set_averages(self, w_avg: Float[Tensor, " dim"], image: Float[Tensor, "3 r r"]) -> None:
        """Takes over the mean of W of a generator and its picture, at any resolution."""
        self.w_avg.copy_(w_avg)
        self.image_avg.copy_(self.images.encoder.fit(image[None])[0])

    def forward(
        self, images: Float[Tensor, "n 3 h w"], w: Float[Tensor, "n dim"]
    ) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "n dim"]]:
        """Unit vectors of images in [-1, 1] and of codes of W."""
        seen = self.images.encoder.fit(images) - self.image_avg
        return self.images(seen), self.latents(w - self.w_avg)

    def loss(self, images: Float[Tensor, "n 3 h w"], w: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """Alignment of images with their codes, (N,) (CLCAE, Eq. 3).

        It trains the pair, and once frozen an encoder: the paper compares w with the photograph, weight 1; the
        public code with G(w), weight 0.1.
        """
        return info_nce(*self(images, w), self.images.logit_scale)


def info_nce(
    a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"], logit_scale: Float[Tensor, ""], *, share: float = 0.5
) -> Float[Tensor, " n"]:
    """Symmetric contrastive loss of paired unit vectors, (N,) (CLCAE, Eq. 1 to 3); log N at chance, 0 at best.

    logit_scale: log(1 / t), not clamped (CLIP stops at t = 0.01). share: lambda, the weight of a -> b. The other
    rows are the negatives, so a batch of one raises ``ValueError``.
    """
    if len(a) < 2:
        raise ValueError(f"batch: expected at least 2 pairs, got {len(a)}; the other pairs are the negatives")
    similarity = a @ b.T * logit_scale.exp()
    pairs = torch.arange(len(a), device=a.device)
    # Eq. 1 and 2: -log softmax of a pair's own similarity, over a row and over a column
    forth, back = (F.cross_entropy(s, pairs, reduction="none") for s in (similarity, similarity.T))
    # Eq. 3: lambda L(I -> w) + (1 - lambda) L(w -> I)
    return share * forth + (1 - share) * back
