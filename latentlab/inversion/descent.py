"""The descent loop that all optimisers share, with callbacks, early stopping and continuation."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt
from latentlab.memory import keep_freed_memory

Terms = dict[str, Tensor]


@dataclass
class Step:
    """One step of a descent, as passed to a callback.

    number: of the step, from 0. total: number of steps requested. terms: the loss terms of ``codes``, detached, (N,)
    each, NaN for an image that has stopped. Read ``codes`` and ``image`` before the callback returns: afterwards they
    are those of later steps.
    """

    number: int
    total: int
    terms: Terms
    _look: "Look"
    stopped: bool = False

    @property
    def codes(self) -> Float[Tensor, "n layers dim"]:
        """A copy of the codes in W+, (N, L, D), to which the terms belong."""
        with torch.no_grad():
            return self._look.codes().clone()

    @property
    def image(self) -> Float[Tensor, "n 3 r r"]:
        """The images of these codes, (N, 3, R, R), computed on access."""
        with torch.no_grad():
            return self._look.draw(self._look.codes())

    def stop(self) -> None:
        """Ends the descent after this step. Its result is returned as usual and can be continued."""
        self.stopped = True


@dataclass(frozen=True)
class Look:
    """Access to a descent for callbacks: ``codes()`` returns codes in W+, ``draw(codes)`` their images."""

    codes: Callable[[], Tensor]
    draw: Callable[[Tensor], Tensor]


Callback = Callable[[Step], object]


@dataclass(frozen=True)
class DescentState:
    """State of a descent, from which it continues with the same result as without a pause.

    tensors: (N, ...) each, by name: the parameters, Adam's moments, and for each image its best parameters so far,
    their loss and step. rates: the learning rates of the steps done.
    """

    tensors: dict[str, Tensor]
    rates: list[float]

    def __getitem__(self, index: object) -> "DescentState":
        """The state of some of the images."""
        return DescentState({k: v[index] for k, v in self.tensors.items()}, self.rates)


@dataclass
class Descent:
    """Result of a descent.

    trace: (steps, N) for each term; "loss" is the minimised one, NaN after an image has stopped. seconds: wall time.
    steps: number of steps done, fewer than requested if Ctrl-C (then ``interrupted``) or a callback ended the descent
    or all images stopped. state: to continue it.
    """

    trace: Terms = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    interrupted: bool = False
    state: DescentState | None = None


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
    look: Look | None = None,
    resume: Descent | None = None,
    description: str = "descent",
) -> Descent:
    """Minimises ``terms(step)["loss"]`` with Adam, summed over images, so that each is optimised independently.

    terms: maps a step to named terms of shape (N,); "loss" is minimised and all are traced.
    parameters: (N, ...) each, modified in place.
    learning_rate: constant, or a schedule of the step.
    patience: stop an image when its loss has not improved for this many steps, and reset it to its best parameters;
        None: never. An image whose loss or parameters become infinite or NaN stops likewise, with a warning.
    keep_best: reset all images to their best parameters at the end.
    after_step: called after each step of the optimiser, for projections, e.g. of noise maps.
    callback: called with a ``Step`` at each step; look: gives it access to codes and images.
    resume: a descent on the same terms to continue; ``steps`` counts from its first step.

    Ctrl-C ends the descent after the current step and keeps its result.
    """
    for name, value in {"steps": steps, "patience": patience}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    keep_freed_memory()
    rate = learning_rate if callable(learning_rate) else lambda step: learning_rate
    optimizer = torch.optim.Adam(parameters, lr=rate(0), betas=(0.9, 0.999))
    images, began = _Images(parameters, description), time.perf_counter()
    first = 0 if resume is None else _restore(resume, optimizer, images, rate, steps)
    with deferred_interrupt() as interrupted, tqdm(total=steps, initial=first, desc=description, leave=False) as bar:
        for step in range(first, steps):
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.zero_grad(set_to_none=True)
            now = terms(step)
            now["loss"].sum().backward()
            images.record(step, now)
            seen = Step(step, steps, images.history[-1], look)
            if callback is not None:
                callback(seen)
            optimizer.step()
            after_step()
            images.stop(step, patience)
            bar.update()
            if step % 25 == 0:
                bar.set_postfix(loss=f"{float(images.history[-1]['loss'].nanmean()):.4f}")
            if interrupted.is_set() or seen.stopped or not images.active.any():
                break
    done = len(images.history)
    state = DescentState(_tensors(optimizer, images), [rate(i) for i in range(done)])
    images.reset_to_best(~images.active | keep_best)
    if stopped := interrupted.is_set() and done < steps:
        warnings.warn(f"{description} was interrupted after {done} of {steps} steps", stacklevel=4)
    trace = {name: torch.stack([now[name] for now in images.history]) for name in images.history[-1]}
    before = 0.0 if resume is None else resume.seconds
    return Descent(trace, before + time.perf_counter() - began, done, stopped, state)


class _Images:
    """Bookkeeping per image: history of its terms, parameters at its lowest loss, and whether it is still active."""

    def __init__(self, parameters: list[Tensor], description: str) -> None:
        self.parameters, self.description, self.history = parameters, description, []
        self.kept = [p.detach().clone() for p in parameters]
        first = parameters[0].detach().reshape(len(parameters[0]), -1)[:, 0]
        self.lowest, self.at = torch.full_like(first, torch.inf), torch.zeros_like(first, dtype=torch.long)
        self.active = torch.ones_like(first, dtype=torch.bool)

    def record(self, step: int, now: Terms) -> None:
        """Records terms, and the parameters of images at a new lowest loss; called before the optimiser's step."""
        self.history.append({name: v.detach().where(self.active, torch.nan) for name, v in now.items()})
        loss = self.history[-1]["loss"]
        better = loss < self.lowest
        self.lowest, self.at = loss.where(better, self.lowest), self.at.masked_fill(better, step)
        for kept, p in zip(self.kept, self.parameters, strict=True):
            kept[better] = p.detach()[better]
        self._stop_diverged(step, loss.isfinite())

    def stop(self, step: int, patience: int | None) -> None:
        """Stops images that have diverged or exceeded the patience, and resets stopped ones; called after the step."""
        finite = torch.stack([p.detach().reshape(len(p), -1).isfinite().all(1) for p in self.parameters]).all(0)
        self._stop_diverged(step, finite)
        if patience is not None:
            self.active &= step - self.at < patience
        if not self.active.all():
            self.reset_to_best(~self.active)

    @torch.no_grad()
    def reset_to_best(self, which: Tensor) -> None:
        """Resets images, given by a mask (N,), to the parameters at their lowest loss."""
        for kept, p in zip(self.kept, self.parameters, strict=True):
            p[which] = kept[which]

    def _stop_diverged(self, step: int, finite: Tensor) -> None:
        if diverged := torch.nonzero(self.active & ~finite)[:, 0].tolist():
            indices = ", ".join(map(str, diverged))
            text = f"{self.description} diverged at step {step} in image {indices}: keeping its best earlier iterate"
            warnings.warn(f"{text}; a smaller learning_rate may help", stacklevel=6)
            self.active &= finite


def _tensors(optimizer: torch.optim.Adam, images: _Images) -> dict[str, Tensor]:
    """The state of a descent as tensors (N, ...)."""
    found = {"lowest": images.lowest, "at": images.at, "active": images.active}
    for i, (p, kept) in enumerate(zip(images.parameters, images.kept, strict=True)):
        moments = {k: v for k, v in optimizer.state[p].items() if k != "step"}
        parts: Mapping[str, Tensor] = {"parameter": p, "kept": kept, **moments}
        found |= {f"{name}.{i}": value.detach().clone() for name, value in parts.items()}
    return found


@torch.no_grad()
def _restore(
    resume: Descent, optimizer: torch.optim.Adam, images: _Images, rate: Callable[[int], float], steps: int
) -> int:
    """Restores optimiser and images from ``resume`` and returns the number of its steps."""
    tensors, done = resume.state.tensors, resume.steps
    if steps <= done:
        raise ValueError(f"steps: expected more than the {done} steps already done, got {steps}")
    if [rate(i) for i in range(done)] != resume.state.rates:
        raise ValueError(
            f"resume: expected the same learning rates in the first {done} steps, got different ones; "
            "a schedule depends on the number of steps, so pass the same number as in the first call"
        )
    images.lowest, images.at, images.active = (tensors[k].clone() for k in ("lowest", "at", "active"))
    for i, p in enumerate(images.parameters):
        saved = tensors[f"parameter.{i}"]
        if saved.shape != p.shape:
            raise ValueError(f"resume: expected parameters of shape {tuple(p.shape)}, got {tuple(saved.shape)}")
        p.copy_(saved)
        images.kept[i].copy_(tensors[f"kept.{i}"])
        moments = {name: tensors[f"{name}.{i}"].to(p, copy=True) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.tensor(float(done))} | moments
    images.history = [{k: v[t] for k, v in resume.trace.items()} for t in range(done)]
    return done


def ramped(learning_rate: float, steps: int, *, up: float = 0.05, down: float = 0.25) -> Callable[[int], float]:
    """Learning rate of the StyleGAN2 projector: linear rise over the first 5 %, cosine fall over the last 25 %."""

    def rate(step: int) -> float:
        t = step / steps
        cosine = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / down))
        return learning_rate * cosine * min(1.0, t / up)

    return rate
