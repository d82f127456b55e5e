"""Inversion with the StyleGAN2 projector (Karras et al. 2020, appendix D): one w, or one per layer, and noise maps."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.projector import project
from latentlab.inversion.result import Inversion


def invert_sg2_w(images: Float[Tensor, "n 3 r r"], G: nn.Module, *, w_plus: bool = False, **knobs: Any) -> Inversion:
    """Projects images into W and optimises their noise maps (StyleGAN2, appendix D); defaults are the paper's.

    images: (N, 3, R, R) in [-1, 1], inverted independently of one another.
    w_plus: search one code per layer instead; without it, ``initial`` is averaged over its layers.
    knobs: steps, learning_rate, initial_noise_factor, noise_ramp, noise_weight, seed of ``projector.project``, and
        condition, initial, ... of ``Objective``.

    Trace: "perceptual", "noise", "loss".
    """
    return project(images, G, "sg2_wplus" if w_plus else "sg2_w", w_plus, None, **knobs)


def invert_sg2_wplus(images: Float[Tensor, "n 3 r r"], G: nn.Module, **knobs: Any) -> Inversion:
    """Projects images into W+ with noise maps, as ports of the projector do; knobs: those of ``invert_sg2_w``."""
    return invert_sg2_w(images, G, w_plus=True, **knobs)
