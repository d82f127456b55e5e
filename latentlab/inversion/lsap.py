"""LSAP_O (arXiv 2209.12746, section 4.2): the StyleGAN2 projector with SNCD in its loss."""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.objective import check_images
from latentlab.inversion.projector import Penalty, project
from latentlab.inversion.result import Inversion
from latentlab.metrics.codes import sncd_of_codes
from latentlab.spaces import Anchors, anchors_for

LAMBDAS = {"W+": 20.0, "W": 5.0}  # LSAP, appendix C


def invert_lsap_o(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    *,
    space: Literal["W+", "W"] = "W+",
    lambda_: float | None = None,
    torgb: bool = True,
    anchors: Anchors | None = None,
    **knobs: Any,
) -> Inversion:
    """Inverts images by the perceptual distance and lambda SNCD (LSAP, Eq. 13), on the projector's schedule.

    images: (N, 3, R, R) in [-1, 1], inverted independently of one another.
    space: "W+", one code per layer, or "W", one for all. lambda_: weight of SNCD, by default the paper's 20 in W+ and
        5 in W; 0 is the projector. The paper does not tell whether SNCD is a sum or a mean over layers; it is the mean
        here, as in the metric, since a sum with these weights would leave no likeness.
    torgb: whether the style of the last toRGB counts, as in the paper's code for encoders.
    anchors: mean directions of the generator's styles, by default those of ``spaces.anchors_for``.
    knobs: steps, learning_rate, initial_noise_factor, noise_ramp, noise_weight, seed of ``projector.project``, and
        condition, initial, ... of ``Objective``.

    The paper gives no steps and no learning rate: those of the projector stand in. A layer whose style has length 0 has
    no direction and raises ``ValueError``. Trace: "perceptual", "noise", "sncd", "loss".
    """
    if space not in LAMBDAS:
        raise ValueError(f"space: expected 'W+' or 'W', got {space!r}")
    check_images(images, G)
    anchors = anchors or anchors_for(G)
    anchors.check(G)
    weight = LAMBDAS[space] if lambda_ is None else lambda_

    def alignment(w_plus: Tensor) -> Tensor:
        return sncd_of_codes(w_plus, G, anchors, torgb=torgb)

    # Eq. 13: L = L_LPIPS + lambda L_SNCD, and the regularisation of the noise maps (appendix C)
    penalty = Penalty("sncd", weight, alignment, {"space": space, "lambda_": weight, "torgb": torgb})
    return project(images, G, "lsap_o", space == "W+", penalty, **knobs)
