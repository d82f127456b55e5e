"""The StyleGAN2 projector (Karras et al. 2020, appendix D), with a penalty on the codes where a method adds one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.descent import ramped
from latentlab.inversion.objective import Objective
from latentlab.inversion.result import Inversion
from latentlab.seeds import stream


@dataclass(frozen=True)
class Penalty:
    """A term of the loss that depends on the codes alone.

    name: of the term in the trace. weight: its factor in the loss. function: from codes (N, L, D) to (N,). knobs: of
    the method, stored with the inversion.
    """

    name: str
    weight: float
    function: Callable[[Tensor], Tensor]
    knobs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"lambda_: expected a finite number of at least 0, got {self.weight}")


def project(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    method: str,
    w_plus: bool,
    penalty: Penalty | None,
    /,
    *,
    steps: int = 1000,
    learning_rate: float = 0.1,
    initial_noise_factor: float = 0.05,
    noise_ramp: float = 0.75,
    noise_weight: float = 1e5,
    seed: int = 0,
    **common: Any,
) -> Inversion:
    """Projects images into W or W+ and optimises their noise maps (StyleGAN2, appendix D); defaults are the paper's.

    images: (N, 3, R, R) in [-1, 1], inverted independently of one another.
    method: name of the inversion. w_plus: whether each layer has a code of its own; without it, ``initial`` is
        averaged over its layers. penalty: added to the loss.
    initial_noise_factor, noise_ramp: scale and duration, relative to the descent, of the noise added to w.
    noise_weight: of the autocorrelation of the noise maps.
    common: condition, initial, ... of ``Objective``.

    The loss is the perceptual distance, at 256 px or less, plus ``noise_weight`` times the autocorrelation, plus the
    penalty, which is that of the codes without the noise added to them.
    Trace: "perceptual", "noise", the penalty by its name, "loss".
    """
    objective = Objective(images, G, **common)
    start = objective.start()
    w = (start if w_plus else start.mean(1, keepdim=True)).requires_grad_(True)
    maps = objective.draw(seed, "sg2_w noise", *((1, *shape) for shape in G.noise_shapes))
    noise = [m.requires_grad_(True) for m in maps]

    def terms(step: int) -> dict[str, Tensor]:
        # Appendix D: Gaussian noise on w, sigma_t = 0.05 sigma_w max(0, 1 - t / 0.75)^2
        sigma = initial_noise_factor * objective.statistics.w_std * max(0.0, 1 - step / steps / noise_ramp) ** 2
        draw = stream(seed, "sg2_w jitter", step, device=images.device)  # one per step, so that resume= is possible
        eps = torch.randn(1, *w.shape[1:], generator=draw, device=images.device).to(w)
        distance = objective.compare(G.synthesis((w + sigma * eps).expand_as(start), noise=noise))["perceptual"]
        now = {"perceptual": distance, "noise": sum(noise_autocorrelation(m) for m in noise)}
        loss = now["perceptual"] + noise_weight * now["noise"]
        if penalty is not None:
            now[penalty.name] = penalty.function(w.expand_as(start))
            loss = loss + penalty.weight * now[penalty.name]
        return now | {"loss": loss}

    knobs = {"learning_rate": learning_rate, "noise_weight": noise_weight, "seed": seed}
    return objective.minimize(
        method,
        terms,
        [w, *noise],
        lambda: w.detach().expand_as(start),
        noise=noise,
        knobs=knobs | (penalty.knobs if penalty else {}),
        steps=steps,
        learning_rate=ramped(learning_rate, steps),
        after_step=lambda: _normalize(noise),
    )


def noise_autocorrelation(noise: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Autocorrelation of noise maps, (N,), which keeps them from storing image content (StyleGAN2, appendix D).

    It is the squared correlation at a shift of one pixel in x and y, summed over the map and its versions downsampled
    by factors of 2 to 8 px.
    """
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if noise.shape[-1] <= 8:
            return total
        noise = nn.functional.avg_pool2d(noise, 2)


@torch.no_grad()
def _normalize(noise: list[Tensor]) -> None:
    for m in noise:
        m -= m.mean((1, 2, 3), keepdim=True)
        m *= m.square().mean((1, 2, 3), keepdim=True).rsqrt()
