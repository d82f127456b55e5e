"""The one loop in which every optimiser descends."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt

Terms = dict[str, Tensor]
Callback = Callable[[int, Terms], None]


@dataclass
class Descent:
    """How a descent went: ``trace`` holds (steps, N) for each term, "loss" is what was minimised, NaN
    after an image has stopped; ``steps`` is how many there were, fewer than asked for where it was
    ``interrupted`` or every image stopped."""

    trace: Terms = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    interrupted: bool = False


def descend(
    terms: Callable[[int], Terms],
    parameters: list[Tensor],
    *,
    steps: int,
    learning_rate: float | Callable[[int], float],
    patience: int | None = None,
    keep_best: bool = False,
    after_step: Callable[[], object] = lambda: None,
    callback: Callback | None = None,
    description: str = "descent",
) -> Descent:
    """Adam on ``terms(step)["loss"]``, summed over images so that each descends as if alone.

    terms: gives named terms of shape (N,) for a step; "loss" is minimised, all are traced. parameters:
    (N, ...) each, left where they end. learning_rate: constant, or a schedule of the step.
    patience: an image stops once its loss has not been below its lowest for that many steps, and is put
    back there; None: never. keep_best: all are put back to their lowest in the end. An image whose loss or
    codes are no longer finite stops with a warning and is put back, too. after_step: projections, e.g. of
    noise maps. callback: called with the step and its detached terms. Ctrl-C keeps what there is.
    """
    if steps < 1 or (patience is not None and patience < 1):
        raise ValueError(f"steps is {steps}, patience {patience}; at least 1 is wanted")
    rate = learning_rate if callable(learning_rate) else lambda step: learning_rate
    optimizer = torch.optim.Adam(parameters, lr=rate(0), betas=(0.9, 0.999))
    images, began = _Images(parameters, description), time.perf_counter()
    with deferred_interrupt() as interrupted, tqdm(total=steps, desc=description, leave=False) as bar:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.zero_grad(set_to_none=True)
            now = terms(step)
            now["loss"].sum().backward()
            images.look(step, now)
            optimizer.step()
            after_step()
            images.hold(step, patience)
            if callback is not None:
                callback(step, images.history[-1])
            bar.update()
            if step % 25 == 0:
                bar.set_postfix(loss=f"{float(images.history[-1]['loss'].nanmean()):.4f}")
            if interrupted.is_set() or not images.active.any():
                break
    images.put_back(~images.active | keep_best)
    done = len(images.history)
    if stopped := interrupted.is_set() and done < steps:
        warnings.warn(f"{description} was interrupted after {done} of {steps} steps", stacklevel=4)
    trace = {name: torch.stack([now[name] for now in images.history]) for name in now}
    return Descent(trace, time.perf_counter() - began, done, stopped)


class _Images:
    """Image by image: its terms so far, its parameters at its lowest loss, and whether it still descends."""

    def __init__(self, parameters: list[Tensor], description: str) -> None:
        self.parameters, self.description, self.history = parameters, description, []
        self.kept = [p.detach().clone() for p in parameters]
        first = parameters[0].detach().flatten(1)[:, 0]
        self.lowest, self.at = torch.full_like(first, torch.inf), torch.zeros_like(first, dtype=torch.long)
        self.active = torch.ones_like(first, dtype=torch.bool)

    def look(self, step: int, now: Terms) -> None:
        """Keeps the images that have never been as low; comes before the optimiser's step."""
        self.history.append({name: v.detach().where(self.active, torch.nan) for name, v in now.items()})
        loss = self.history[-1]["loss"]
        better = loss < self.lowest
        self.lowest, self.at = loss.where(better, self.lowest), self.at.masked_fill(better, step)
        for kept, p in zip(self.kept, self.parameters, strict=True):
            kept[better] = p.detach()[better]
        self._drop(step, loss.isfinite())

    def hold(self, step: int, patience: int | None) -> None:
        """Stops what has broken or run out of patience, and holds it in place; comes after the step."""
        self._drop(step, torch.stack([p.detach().flatten(1).isfinite().all(1) for p in self.parameters]).all(0))
        if patience is not None:
            self.active &= step - self.at < patience
        if not self.active.all():
            self.put_back(~self.active)

    @torch.no_grad()
    def put_back(self, rows: Tensor) -> None:
        """Returns images to where their loss was lowest."""
        for kept, p in zip(self.kept, self.parameters, strict=True):
            p[rows] = kept[rows]

    def _drop(self, step: int, sound: Tensor) -> None:
        if broken := torch.nonzero(self.active & ~sound)[:, 0].tolist():
            which = ", ".join(map(str, broken))
            says = f"{self.description} diverged at step {step} in image {which}: its lowest before is kept"
            warnings.warn(f"{says}; a smaller learning_rate may help", stacklevel=6)
            self.active &= sound


def ramped(learning_rate: float, steps: int, *, up: float = 0.05, down: float = 0.25) -> Callable[[int], float]:
    """The StyleGAN2 projector's schedule: linear up over the first 5 %, cosine down over the last 25 %."""

    def rate(step: int) -> float:
        t = step / steps
        cosine = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / down))
        return learning_rate * cosine * min(1.0, t / up)

    return rate
