"""F space: encoders that find a feature map of the generator beside codes, and pictures and edits of such maps.

The map replaces the output of one block of the generator (CLCAE and FeatureStyle: of its fifth convolution at 1024 px).
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from latentlab.encoders.backbone import Pyramid
from latentlab.stylegan import Generator, GeneratorConfig


class FeatureCodes(NamedTuple):
    """What an encoder into F space finds in images: a code of W, where it has one, codes of W+, and a feature map."""

    w: Float[Tensor, "n dim"] | None
    w_plus: Float[Tensor, "n layers dim"]
    feature: Float[Tensor, "n c r r"]


class FeatureEncoder(Pyramid):
    """Base of encoders into F space: images (N, 3, R, R) in [-1, 1] to ``FeatureCodes``.

    A subclass has ``config`` with ``encoder``, ``feature_resolution`` and ``feature_channels``, and takes over the
    averages of the generator that its codes are for.
    """

    def set_averages(self, w_avg: Float[Tensor, " dim"], image: Float[Tensor, "3 r r"]) -> None:
        """Takes over the mean of W of the generator that the codes are for, and its picture, at any resolution."""
        raise NotImplementedError

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> FeatureCodes:
        """Codes and feature map of images in [-1, 1]."""
        raise NotImplementedError


def feature_size(generator: GeneratorConfig) -> tuple[int, int]:
    """Resolution and channels of the map of F space for a generator: the finest, up to an eighth of the picture's
    resolution, that holds fewer numbers than the picture. 8 and 128 for ``faces-64``, whose 8,192 numbers are two
    thirds of the picture's; at 16 px the map would hold 32,768, and F would be a copy of the picture."""
    r = generator.resolution
    widths = dict(zip(generator.resolutions, generator.channels, strict=True))
    fits = [k for k, channels in widths.items() if k <= r // 8 and channels * k * k < 3 * r * r]
    if not fits:
        raise ValueError(f"generator: expected one of at least 32 px, got {r}; it has no feature map to replace")
    return fits[-1], widths[fits[-1]]


def synthesize(G: Generator, w_plus: Float[Tensor, "n layers dim"], feature: Float[Tensor, "n c r r"]) -> Tensor:
    """G(w+, f), (N, 3, R, R): the map replaces the output of the block of its resolution. As in the public code
    that block's toRGB still reads what the block itself made of the codes."""
    return G.synthesis(w_plus, replace={feature.shape[-1]: feature}, replace_rgb=False)


def edit_feature(
    G: Generator,
    feature: Float[Tensor, "n c r r"],
    w_plus: Float[Tensor, "n layers dim"],
    edited: Float[Tensor, "n layers dim"],
) -> Float[Tensor, "n c r r"]:
    """The feature map that goes with edited codes of W+ (CLCAE, Eq. 6); the same one where nothing was edited."""
    r = feature.shape[-1]
    # Eq. 6: f + G^5(edited w) - G^5(w)
    return feature + (G.features(edited, upto=r)[r] - G.features(w_plus, upto=r)[r])
