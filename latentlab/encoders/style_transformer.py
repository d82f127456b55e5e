"""An encoder in the manner of StyleTransformer (Hu et al. 2022, arXiv 2203.07932): cross-attention whose query counts.

Smaller than the published one; it stands beside CLCAE's, whose published attention has one key and ignores its query.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.encoders.backbone import CodeEncoder
from latentlab.stylegan.ops import EqualLinear

HEADS = 4


class StyleTransformer(CodeEncoder):
    """E(x) = w_avg + decoder(queries, tokens of the pyramid) (StyleTransformer, section 3.2).

    One learned query for each layer of W+, and three decoder layers (self-attention, cross-attention, feed-forward
    network), of which the first attends to the positions of the pyramid's coarsest map, the last to the finest.
    """

    def _add_heads(self, draw: torch.Generator) -> None:
        dim, width, r = self.config.w_dim, self.config.widths[3], self.config.resolution
        self.queries = nn.Parameter(torch.randn(self.config.layers, dim, generator=draw))
        self.decoders = nn.ModuleList(
            nn.TransformerDecoderLayer(dim, HEADS, 2 * dim, dropout=0.0, batch_first=True) for _ in range(3)
        )
        self.tokens = nn.ModuleList(nn.Linear(width, dim) for _ in range(3))
        sizes = [(r >> shift) ** 2 for shift in (4, 3, 2)]
        self.positions = nn.ParameterList(torch.randn(n, dim, generator=draw) / math.sqrt(dim) for n in sizes)
        # The last normalisation fixes the length of what it returns; offsets from the mean of W have any length.
        self.head = EqualLinear(dim, dim, generator=draw)

    def offsets(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n layers dim"]:
        """Codes of images in [-1, 1] without the average, (N, L, D)."""
        x = self.queries.expand(len(images), -1, -1)
        for level, tokens, place, decoder in zip(
            self.levels(images), self.tokens, self.positions, self.decoders, strict=True
        ):
            seen = tokens(level.flatten(2).transpose(1, 2)) + place  # (N, H W, D)
            x = decoder(x, seen)
        return self.head(x.flatten(0, 1)).unflatten(0, x.shape[:2])
