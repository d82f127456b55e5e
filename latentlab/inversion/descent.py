"""The one loop in which every optimizer descends, what it tells on the way, and how it is continued."""

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

Terms = dict[str, Tensor]


@dataclass
class Step:
    """One step of a descent, as a callback sees it.

    number: from 0. total: steps asked for. terms: the loss terms of ``codes``, detached, (N,) each, NaN for an
    image that has stopped. The codes move on when the callback returns.
    """

    number: int
    total: int
    terms: Terms
    _look: "Look"
    stopped: bool = False

    @property
    def codes(self) -> Float[Tensor, "n layers dim"]:
        """A copy of the codes in W+ that the terms belong to, (N, L, D)."""
        with torch.no_grad():
            return self._look.codes().clone()

    @property
    def image(self) -> Float[Tensor, "n 3 r r"]:
        """The pictures of these codes, (N, 3, R, R), drawn when asked for."""
        with torch.no_grad():
            return self._look.draw(self._look.codes())

    def stop(self) -> None:
        """Ends the descent after this step; what was found so far is returned and can be continued."""
        self.stopped = True


@dataclass(frozen=True)
class Look:
    """How to see a descent from outside: ``codes()`` gives W+, ``draw(codes)`` their pictures."""

    codes: Callable[[], Tensor]
    draw: Callable[[Tensor], Tensor]


Callback = Callable[[Step], object]


@dataclass(frozen=True)
class DescentState:
    """Where a descent stands: all that is needed to continue it as if it had never stopped.

    tensors: (N, ...) each, by name: the parameters, Adam's moments, and for each image the best parameters so
    far, their loss and step. rates: the learning rate of every step that was made.
    """

    tensors: dict[str, Tensor]
    rates: list[float]

    def __getitem__(self, rows: object) -> "DescentState":
        return DescentState({k: v[rows] for k, v in self.tensors.items()}, self.rates)


@dataclass
class Descent:
    """How a descent went.

    trace: (steps, N) for each term, "loss" is what was minimised, NaN after an image has stopped. seconds: wall
    time. steps: how many were made, fewer than asked for where Ctrl-C or a callback ended it (``interrupted`` for
    Ctrl-C) or every image stopped. state: to continue it.
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
    """Adam on ``terms(step)["loss"]``, summed over images so that each descends as if alone.

    terms: gives named terms of shape (N,) for a step; "loss" is minimised, all are traced. parameters:
    (N, ...) each, left where they end. learning_rate: constant, or a schedule of the step.
    patience: an image stops once its loss has not improved for that many steps, and returns to its best
    parameters; None: never. keep_best: all images return to their best parameters in the end. An image whose
    loss or codes are no longer finite stops with a warning and returns, too. after_step: projections, e.g. of
    noise maps. callback: called with every ``Step``; ``look`` tells it how to see codes and pictures.
    resume: a descent on the same terms to continue; ``steps`` counts from its beginning. Ctrl-C keeps what there is.
    """
    for name, value in {"steps": steps, "patience": patience}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
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
            images.look(step, now)
            seen = Step(step, steps, images.history[-1], look)
            if callback is not None:
                callback(seen)
            optimizer.step()
            after_step()
            images.hold(step, patience)
            bar.update()
            if step % 25 == 0:
                bar.set_postfix(loss=f"{float(images.history[-1]['loss'].nanmean()):.4f}")
            if interrupted.is_set() or seen.stopped or not images.active.any():
                break
    done = len(images.history)
    state = DescentState(_tensors(optimizer, images), [rate(i) for i in range(done)])
    images.put_back(~images.active | keep_best)
    if stopped := interrupted.is_set() and done < steps:
        warnings.warn(f"{description} was interrupted after {done} of {steps} steps", stacklevel=4)
    trace = {name: torch.stack([now[name] for now in images.history]) for name in images.history[-1]}
    before = 0.0 if resume is None else resume.seconds
    return Descent(trace, before + time.perf_counter() - began, done, stopped, state)


class _Images:
    """Image by image: its terms so far, its parameters at its lowest loss, and whether it still descends."""

    def __init__(self, parameters: list[Tensor], description: str) -> None:
        self.parameters, self.description, self.history = parameters, description, []
        self.kept = [p.detach().clone() for p in parameters]
        first = parameters[0].detach().flatten(1)[:, 0]
        self.lowest, self.at = torch.full_like(first, torch.inf), torch.zeros_like(first, dtype=torch.long)
        self.active = torch.ones_like(first, dtype=torch.bool)

    def look(self, step: int, now: Terms) -> None:
        """Keeps the images that have never been as low; comes before the optimizer's step."""
        self.history.append({name: v.detach().where(self.active, torch.nan) for name, v in now.items()})
        loss = self.history[-1]["loss"]
        better = loss < self.lowest
        self.lowest, self.at = loss.where(better, self.lowest), self.at.masked_fill(better, step)
        for kept, p in zip(self.kept, self.parameters, strict=True):
            kept[better] = p.detach()[better]
        self._drop(step, loss.isfinite())

    def hold(self, step: int, patience: int | None) -> None:
        """Stops what has diverged or run out of patience, and holds it in place; comes after the step."""
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
            says = f"{self.description} diverged at step {step} in image {which}: keeping its best earlier iterate"
            warnings.warn(f"{says}; a smaller learning_rate may help", stacklevel=6)
            self.active &= sound


def _tensors(optimizer: torch.optim.Adam, images: _Images) -> dict[str, Tensor]:
    """The state of a descent as tensors with one row an image."""
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
    """Puts everything where ``resume`` left it and returns the number of steps that it has made."""
    tensors, done = resume.state.tensors, resume.steps
    if steps <= done:
        raise ValueError(f"steps: expected more than the {done} that were made already, got {steps}")
    if [rate(i) for i in range(done)] != resume.state.rates:
        raise ValueError(
            f"resume: expected the learning rates of its first {done} steps, got others; a schedule depends on the "
            "number of steps: ask for as many as the first time"
        )
    images.lowest, images.at, images.active = (tensors[k].clone() for k in ("lowest", "at", "active"))
    for i, p in enumerate(images.parameters):
        if tensors[f"parameter.{i}"].shape != p.shape:
            raise ValueError(f"resume: expected parameters of shape {tuple(p.shape)}, "
                             f"got {tuple(tensors[f'parameter.{i}'].shape)}")  # fmt: skip
        p.copy_(tensors[f"parameter.{i}"])
        images.kept[i].copy_(tensors[f"kept.{i}"])
        moments = {name: tensors[f"{name}.{i}"].to(p, copy=True) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.tensor(float(done))} | moments
    images.history = [{k: v[t] for k, v in resume.trace.items()} for t in range(done)]
    return done


def ramped(learning_rate: float, steps: int, *, up: float = 0.05, down: float = 0.25) -> Callable[[int], float]:
    """The StyleGAN2 projector's schedule: linear up over the first 5 %, cosine down over the last 25 %."""

    def rate(step: int) -> float:
        t = step / steps
        cosine = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / down))
        return learning_rate * cosine * min(1.0, t / up)

    return rate
