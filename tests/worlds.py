"""Small generators whose answers are known, for the tests of edits and claims."""

import torch
from torch import nn

from latentlab.stylegan.generator import Generator, GeneratorConfig, StyleLayer


class StyleWorld(nn.Module):
    """w = mixing z; two convolutions of 8 channels and one toRGB of 4 read three rows of W+; the picture's first
    pixels are styles, or what ``paint`` makes of the styles (N, 20), 48 numbers at most.

    ``A``: (20, 6), all affine weights, one layer below the other.
    """

    z_dim = w_dim = 6
    num_ws = 3
    resolution = 4

    def __init__(self, mixing=None, paint=lambda s: s, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.register_buffer("mapping_matrix", torch.eye(6) if mixing is None else mixing)
        self.register_buffer("A", torch.randn(20, 6, generator=draw))
        self.register_buffer("w_avg", torch.zeros(6))
        self.paint = paint
        self.style_layers = (
            StyleLayer("first", "conv", 0, 4, 8),
            StyleLayer("second", "conv", 1, 4, 8),
            StyleLayer("torgb", "torgb", 2, 4, 4),
        )

    def mapping(self, z):
        return z @ self.mapping_matrix.T

    def broadcast(self, w):
        return w[:, None].expand(-1, 3, -1)

    def styles(self, w_plus):
        parts = zip(self.A.split([8, 8, 4]), w_plus.unbind(1), strict=True)
        return [w @ a.T + 1 for a, w in parts]

    def synthesis(self, w_plus, *, noise="const", styles=None, replace=None, replace_rgb=True):
        seen = self.paint(torch.cat(self.styles(w_plus) if styles is None else list(styles), 1))
        return torch.nn.functional.pad(seen, (0, 48 - seen.shape[1])).view(-1, 3, 4, 4)


def first(k):
    """Reads the first k numbers of a picture."""
    return lambda x: x.flatten(1)[:, :k]


class CodesOf(nn.Module):
    """Stands in for a mapping network of 2 layers and gives codes of known distribution."""

    def __init__(self, codes):
        super().__init__()
        self.codes = codes

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.codes(z[:, :10])


CONFIG = GeneratorConfig(16, 12, 10, 2, (16, 16, 8))


def world(codes=None, config: GeneratorConfig = CONFIG) -> Generator:
    """An untrained generator, whose codes are a function of N(0, I) in 10 dimensions where one is given."""
    G = Generator(config, seed=3).requires_grad_(False)
    if codes:
        G.mapping = CodesOf(codes)
    return G
