"""pSp (arXiv 2008.00951): an independent code for every layer; and the W encoder, one code for all layers.

e4e calls the first configuration A. The second is the official "BackboneEncoderUsingLastLayerIntoW".
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig
from latentlab.stylegan import GeneratorConfig
from latentlab.stylegan.ops import EqualLinear

W_CONFIG = EncoderConfig(pyramid=False)


def slim_w_config(generator: GeneratorConfig) -> EncoderConfig:
    """The shape of a W encoder for a small generator: as ``EncoderConfig.slim``, but with a last map that is as
    wide as a code, for its mean is all that the code is made of."""
    d = generator.w_dim
    return replace(EncoderConfig.slim(generator), widths=(d // 4, d // 2, d, d), pyramid=False)


class PspEncoder(CodeEncoder):
    """E(x) = w_avg + (h_0, ..., h_{L-1}) with all heads h_i in parallel (pSp, section 3.1)."""

    def offsets(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n layers dim"]:
        """Codes of images in [-1, 1] without the average, (N, L, D)."""
        levels = self.levels(images)
        return torch.stack([head(levels[self.level(i)]) for i, head in enumerate(self.styles)], 1)


class WEncoder(CodeEncoder):
    """E(x) = w_avg + A pool(c3) + b in every layer: one code of W from the mean of the backbone's last map."""

    def __init__(self, config: EncoderConfig = W_CONFIG, seed: int = 0) -> None:
        if config.pyramid:
            raise ValueError("config: expected pyramid=False, got True; one code reads the backbone's last map alone")
        super().__init__(config, seed)

    def _add_heads(self, draw: torch.Generator) -> None:
        self.linear = EqualLinear(self.config.widths[3], self.config.w_dim, generator=draw)

    def offsets(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n layers dim"]:
        """The code of images in [-1, 1] without the average, repeated for all layers, (N, L, D)."""
        (c3,) = self.levels(images)
        return self.linear(c3.mean((2, 3)))[:, None].expand(-1, self.config.layers, -1)
