"""Improved I2S, II2S (Zhu et al. 2020, arXiv 2012.09036): inversion in W+ regularised in PN+, with I2S and Z+."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.objective import Objective
from latentlab.inversion.result import Inversion
from latentlab.priors import pn_norm


def invert_ii2s(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    *,
    variant: str = "code",
    space: str = "W+",
    lambda_: float = 0.005,
    steps: int = 1300,
    learning_rate: float = 0.01,
    seed: int | Sequence[int] = 0,
    **common: Any,
) -> Inversion:
    """Inverts images into W+ with the Mahalanobis regulariser of PN+ (II2S, Eq. 8).

    images: (N, 3, R, R) in [-1, 1], inverted independently of one another.
    lambda_: weight of the squared PN+ norm; 0 is I2S. The paper recommends 0.005, the public code has 0.001.
    variant: "code" takes the mean of the squared norm over layers and dimensions (pn_norm), "paper" the sum, as in
        Eq. 8, which is L x D times as strong.
    space: "W+", or "Z+" to search one z per layer.
    seed: of the initial z for "Z+", one for all images or one for each; nothing else is random.
    common: condition, initial, ... of ``Objective``.

    Noise maps are constant; the public code draws new ones at every step.
    Trace: "mse", "perceptual", "pn_norm" (the mean, in both variants), "loss".
    """
    for name, value, known in (("variant", variant, ("code", "paper")), ("space", space, ("W+", "Z+"))):
        if value not in known:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r}")
    if not lambda_ >= 0:
        raise ValueError(f"lambda_: expected 0 or more, got {lambda_}")
    objective = Objective(images, G, **common)
    weight = lambda_ * (G.num_ws * G.w_dim if variant == "paper" else 1)  # of a sum, or of a mean
    x = (objective.start() if space == "W+" else _draw_z(objective, seed)).requires_grad_(True)

    def codes() -> Tensor:
        return x if space == "W+" else G.mapping(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def terms(step: int) -> dict[str, Tensor]:
        w_plus = codes()
        now = objective.compare(G.synthesis(w_plus, noise="const"))
        now["pn_norm"] = pn_norm(w_plus, objective.statistics)
        # Eq. 8: L = L_MSE + L_LPIPS + lambda |v|^2, all weights but lambda 1
        return now | {"loss": now["mse"] + now["perceptual"] + weight * now["pn_norm"]}

    name = "z_plus" if space == "Z+" else "ii2s" if lambda_ > 0 else "i2s"
    knobs = {"variant": variant, "lambda_": lambda_, "learning_rate": learning_rate, "seed": seed}
    return objective.minimize(name, terms, [x], codes, knobs=knobs, steps=steps, learning_rate=learning_rate)


def _draw_z(objective: Objective, seed: int | Sequence[int]) -> Float[Tensor, "n layers dim"]:
    if objective.initial is not None:
        raise ValueError("initial: expected None in Z+, got codes of W+, which do not determine a z")
    (z,) = objective.draw(seed, "z_plus start", (1, objective.G.z_dim))
    return z.repeat(1, objective.G.num_ws, 1)


def invert_i2s(images: Float[Tensor, "n 3 r r"], G: nn.Module, **knobs: Any) -> Inversion:
    """Inverts images into W+ without regularisation: I2S, as the paper of II2S runs it for comparison.

    knobs: those of ``invert_ii2s`` except ``lambda_``, which is 0. The original (Abdal et al. 2019, arXiv 1904.03189)
    uses StyleGAN, 5000 steps of Adam at 0.01 from the mean of W, and four layers of VGG16 at 256 px instead of LPIPS.
    """
    return invert_ii2s(images, G, lambda_=0.0, **knobs)


def invert_z_plus(images: Float[Tensor, "n 3 r r"], G: nn.Module, **knobs: Any) -> Inversion:
    """II2S with one z per layer, w_l = mapping(z_l) (Table 7); codes are returned in W+. knobs: of ``invert_ii2s``."""
    return invert_ii2s(images, G, space="Z+", **knobs)
