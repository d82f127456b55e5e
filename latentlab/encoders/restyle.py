"""ReStyle (arXiv 2104.02699): an encoder of 6 channels that refines its own codes in a few steps."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig, resize


class Step(NamedTuple):
    """What a step of refinement has found. codes: (N, L, D). image: (N, 3, R, R), the generator's picture of them."""

    codes: Float[Tensor, "n layers dim"]
    image: Float[Tensor, "n 3 r r"]


def restyle_config(base: EncoderConfig, *, pyramid: bool = False) -> EncoderConfig:
    """The shape of a ReStyle encoder: 6 input channels, and all heads on the backbone's last map.

    At 64 px that map is too small to hold all codes (4x4 positions), so the slim encoders keep the ``pyramid``.
    """
    return replace(base, in_channels=6, pyramid=pyramid)


def refine(
    encoder: CodeEncoder,
    images: Float[Tensor, "n 3 h w"],
    synthesize: Callable[[Tensor], Tensor],
    *,
    steps: int = 5,
    **options: int,
) -> Iterator[Step]:
    """Codes and their pictures after each of ``steps`` passes, from the mean of W on (ReStyle, section 3).

    encoder: pSp's or e4e's with ``restyle_config``; ``options`` go to its ``offsets`` (e4e: stage).
    synthesize: codes (N, L, D) to images. As in the public code, neither codes nor picture carry a gradient from
    one step to the next, so that the loss of each step can be propagated by itself.
    """
    if encoder.config.in_channels != 6:
        raise ValueError(f"encoder: expected one of 6 channels, got {encoder.config.in_channels}; see restyle_config")
    if steps < 1:
        raise ValueError(f"steps: expected an integer of at least 1, got {steps}")
    r, codes = encoder.config.resolution, encoder.latent_avg[None]
    with torch.no_grad():
        image = synthesize(codes).expand(len(images), -1, -1, -1)  # y_0 = G(w_avg)
    codes = codes.expand(len(images), -1, -1)
    for _ in range(steps):
        seen = torch.cat([resize(images, r), resize(image.detach(), r)], 1)
        # Section 3: w_{t+1} = E(x, y_t) + w_t, y_{t+1} = G(w_{t+1})
        codes = encoder.offsets(seen, **options) + codes.detach()
        image = synthesize(codes)
        yield Step(codes, image)
