"""PULSE (Menon et al. 2020, arXiv 2003.03808): a search on spheres for images that match a low-resolution target."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.objective import Objective, shrink
from latentlab.inversion.result import Inversion
from latentlab.priors import geodesic_cross
from latentlab.spaces import Statistics, p_to_w, w_to_p

TRAINABLE_MAPS = 5


def invert_pulse(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    *,
    size: int = 32,
    cross_weight: float = 0.05,
    mse_floor: float = 2e-3,
    steps: int = 100,
    learning_rate: float = 0.4,
    seed: int | Sequence[int] = 0,
    **common: Any,
) -> Inversion:
    """Inverts images by a search for one code per layer on spheres: PULSE on StyleGAN2, as the paper of II2S runs it.

    images: (N, 3, R, R) in [-1, 1], inverted independently.
    seed: of the initial point, one for all images or one for each.
    size: side in px at which generated image and target are compared.
    common: condition, initial, ... of ``Objective``.

    w = LeakyReLU_0.2(std v + mean), with mean and standard deviation of each coordinate of P. The codes v, drawn from
    N(0, I), and the first five noise maps keep their initial norms; the other maps are constant, the last one is zero.
    The loss is 100 max(MSE, ``mse_floor``) + ``cross_weight`` GEOCROSS, with GEOCROSS of v as in the paper (the public
    code takes w). The iterate of the lowest loss is returned. Trace: "mse" (of images in [0, 1]), "cross", "loss".
    """
    objective = Objective(images, G, **common)
    v, *noise = objective.draw(seed, "pulse", (G.num_ws, G.w_dim), *((1, *shape) for shape in G.noise_shapes))
    mean, std = (t.to(images) for t in _independent_normal(objective.statistics))
    if objective.initial is not None:
        v = (w_to_p(objective.start()) - mean) / std
    noise[-1].zero_()
    moving = [p.requires_grad_(True) for p in (v, *noise[:-1][:TRAINABLE_MAPS])]
    radii = [_norm(p) for p in moving]
    target = shrink(objective.target, size=size)

    def codes() -> Tensor:
        return p_to_w(std * v + mean)

    def terms(step: int) -> dict[str, Tensor]:
        seen = shrink(objective.see(G.synthesis(codes(), noise=noise)), size=size)
        mse, cross = (seen - target).square().mean((1, 2, 3)) / 4, geodesic_cross(v)
        return {"mse": mse, "cross": cross, "loss": 100 * mse.clamp(min=mse_floor) + cross_weight * cross}

    @torch.no_grad()
    def project() -> None:
        for p, radius in zip(moving, radii, strict=True):
            p *= radius / _norm(p)

    knobs = {"size": size, "cross_weight": cross_weight, "learning_rate": learning_rate, "seed": seed}
    loop = {"steps": steps, "learning_rate": _cycled(learning_rate, steps), "keep_best": True, "after_step": project}
    return objective.minimize("pulse", terms, moving, codes, noise=noise, knobs=knobs, **loop)


def _independent_normal(statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate of P, the latter from the diagonal of U Lambda U^T."""
    return statistics.mean, (statistics.eigenvectors.square() @ statistics.eigenvalues).sqrt()


def _norm(p: Tensor) -> Tensor:
    """Norms of the codes (N, L, D) of each layer, or of noise maps (N, 1, r, r)."""
    return p.detach().norm(dim=-1 if p.ndim == 3 else (-2, -1), keepdim=True)


def _cycled(learning_rate: float, steps: int) -> Callable[[int], float]:
    """Learning rate of PULSE, piecewise linear: 0.1 of it at the start, 1 at 45 % of the steps, 0.1 at 90 %, 0.001 at
    the end."""

    def rate(step: int) -> float:
        t = step / steps
        return learning_rate * (1 - 0.9 * abs(t / 0.45 - 1) if t < 0.9 else 0.1 - 0.099 * (t - 0.9) / 0.1)

    return rate
