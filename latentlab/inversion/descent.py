"""The one loop in which every optimiser descends, and what all of them check and share."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt

Terms = dict[str, Tensor]
Callback = Callable[[int, Terms], None]


@dataclass
class Descent:
    """How a descent went: ``trace`` holds (steps, N) for each term, "loss" is what was minimised;
    ``steps`` is how many there were, fewer than asked for where it was ``interrupted``."""

    trace: Terms = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    interrupted: bool = False


def check_images(images: Tensor, G: nn.Module) -> None:
    """Raises ``ValueError`` unless images are finite (N, 3, R, R) of the generator's resolution, about [-1, 1]."""
    r = G.resolution
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, r, r) or len(images) == 0:
        raise ValueError(f"images have shape {tuple(images.shape)}; wanted is (N, 3, {r}, {r}) with N >= 1")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; wanted are floats in [-1, 1] (pixels / 127.5 - 1)")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images hold NaN or infinite values")
    if float(images.abs().max()) > 1.5:
        raise ValueError(
            f"images reach from {float(images.min()):.3g} to {float(images.max()):.3g}; wanted is [-1, 1]"
        )


def descend(
    terms: Callable[[int], Terms],
    parameters: list[Tensor],
    *,
    steps: int,
    learning_rate: float | Callable[[int], float],
    after_step: Callable[[], None] | None = None,
    callback: Callback | None = None,
    description: str = "descent",
) -> Descent:
    """Adam on ``terms(step)["loss"]``, summed over images so that each descends as if alone.

    terms: gives named terms of shape (N,) for a step; "loss" is minimised, all are traced.
    learning_rate: constant, or a schedule of the step. after_step: projections, e.g. of noise maps.
    callback: called with the step and its detached terms. Ctrl-C keeps what there is.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is wanted")
    rate = learning_rate if callable(learning_rate) else lambda step: learning_rate
    optimizer = torch.optim.Adam(parameters, lr=rate(0), betas=(0.9, 0.999))
    history: dict[str, list[Tensor]] = {}
    began = time.perf_counter()
    with deferred_interrupt() as interrupted, tqdm(total=steps, desc=description, leave=False) as bar:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.zero_grad(set_to_none=True)
            now = terms(step)
            now["loss"].sum().backward()
            optimizer.step()
            if after_step is not None:
                after_step()
            for name, value in now.items():
                history.setdefault(name, []).append(value.detach())
            if callback is not None:
                callback(step, {k: v[-1] for k, v in history.items()})
            bar.update()
            if step % 25 == 0:
                bar.set_postfix(loss=f"{float(now['loss'].detach().mean()):.4f}")
            if interrupted.is_set():
                break
    trace = {name: torch.stack(values) for name, values in history.items()}
    done = len(trace["loss"])
    if done < steps:
        warnings.warn(f"{description} was interrupted after {done} of {steps} steps", stacklevel=3)
    return Descent(trace, time.perf_counter() - began, done, done < steps)


def ramped(learning_rate: float, steps: int, *, up: float = 0.05, down: float = 0.25) -> Callable[[int], float]:
    """The StyleGAN2 projector's schedule: linear up over the first 5 %, cosine down over the last 25 %."""

    def rate(step: int) -> float:
        t = step / steps
        cosine = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / down))
        return learning_rate * cosine * min(1.0, t / up)

    return rate


def shrink(images: Float[Tensor, "n 3 h w"], size: int = 256) -> Float[Tensor, "n 3 s s"]:
    """Images no larger than ``size`` px, the resolution of the papers' losses (antialiased bicubic)."""
    if images.shape[-1] <= size:
        return images
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
