"""The perceptual distance: the formula of LPIPS with any convolutional trunk.

The distance of the face world is not LPIPS: its trunk was trained on rendered faces only, and its layers are scaled so
that two random faces have a distance of 0.6 on average, as unrelated photographs have in LPIPS. The papers' values of
lambda therefore keep their meaning at 64 px.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

MEAN_OF_RANDOM_PAIRS = 0.6

Features = list[Tensor]


class PerceptualDistance(nn.Module):
    """Perceptual distance d(a, b) = sum_l scale_l mean_hw sum_c (f_l(a) - f_l(b))^2 with unit feature vectors f.

    LPIPS, Eq. 1. It is 0 for equal images and about 0.6 for two random faces. Images are (N, 3, H, W) in [-1, 1], of at
    least 32 px. ``trunk`` has a method ``features``, which returns feature maps, and their ``widths``. ``features`` of
    a fixed image can be computed once and compared by ``between``.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.register_buffer("scales", torch.ones(len(trunk.widths)))

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Features:
        """Feature maps of unit length at every pixel, (N, C, H, W) per layer."""
        return [f * (f.square().sum(1, keepdim=True) + 1e-8).rsqrt() for f in self.trunk.features(images)]

    def between(self, a: Features, b: Features) -> Float[Tensor, " n"]:
        """Distances between features, (N,)."""
        layers = [(fa - fb).square().sum(1).mean((1, 2)) for fa, fb in zip(a, b, strict=True)]
        return torch.stack(layers, 1) @ self.scales.to(layers[0])

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        return self.between(self.features(a), self.features(b))

    @torch.no_grad()
    def calibrate(self, faces: Float[Tensor, "n 3 h w"]) -> None:
        """Sets the scales so that two of these faces have a mean distance of 0.6, with equal parts from all layers."""
        self.scales.fill_(1)
        features = self.features(faces)
        layers = [(f - f.roll(1, 0)).square().sum(1).mean() for f in features]
        self.scales.copy_(MEAN_OF_RANDOM_PAIRS / len(layers) / torch.stack(layers))


class Lpips(PerceptualDistance):
    """LPIPS with its published weight for every channel, learned from human judgements."""

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Features:
        return [f * w.sqrt() for f, w in zip(super().features(images), self.trunk.channel_weights, strict=True)]
