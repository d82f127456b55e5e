"""The perceptual distance: the LPIPS formula over any trunk of convolutions.

The face world's own is not LPIPS: its trunk has seen nothing but rendered faces, and its layers are weighted
so that two random faces score 0.6 on average (LPIPS' own scale for unrelated photographs), which keeps the
papers' lambdas meaningful at 64 px.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

MEAN_OF_RANDOM_PAIRS = 0.6

Features = list[Tensor]


class PerceptualDistance(nn.Module):
    """d(a, b) = sum_l scale_l mean_hw sum_c (f_l(a) - f_l(b))^2 over unit feature vectors f (LPIPS, Eq. 1).

    Images (N, 3, H, W) in [-1, 1] of any size from 32 px; 0 for equal images, about 0.6 for two random
    faces. ``trunk`` has ``features``, finest first, and their ``widths``. ``features`` of a fixed image can
    be computed once and compared with ``between``.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.register_buffer("scales", torch.ones(len(trunk.widths)))

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Features:
        """Feature maps with unit length in every pixel, one (N, C, H, W) a layer."""
        return [f * (f.square().sum(1, keepdim=True) + 1e-8).rsqrt() for f in self.trunk.features(images)]

    def between(self, a: Features, b: Features) -> Float[Tensor, " n"]:
        """The distance of two sets of features, (N,)."""
        layers = [(fa - fb).square().sum(1).mean((1, 2)) for fa, fb in zip(a, b, strict=True)]
        return torch.stack(layers, 1) @ self.scales.to(layers[0])

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        return self.between(self.features(a), self.features(b))

    @torch.no_grad()
    def calibrate(self, faces: Float[Tensor, "n 3 h w"]) -> None:
        """Scales the layers alike, so that on average two of these faces score 0.6 in total."""
        self.scales.fill_(1)
        features = self.features(faces)
        layers = [(f - f.roll(1, 0)).square().sum(1).mean() for f in features]
        self.scales.copy_(MEAN_OF_RANDOM_PAIRS / len(layers) / torch.stack(layers))


class Lpips(PerceptualDistance):
    """LPIPS itself: its authors' weight for every channel, learned from people's judgements."""

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Features:
        return [f * w.sqrt() for f, w in zip(super().features(images), self.trunk.channel_weights, strict=True)]
