"""The common part of all optimisers: checks, initial codes, image terms, and the resulting inversion."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from latentlab.editing.edit import State
from latentlab.inversion.descent import Callback, Descent, DescentState, Look, Terms, descend
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import PerceptualDistance, load_perceptual
from latentlab.seeds import stream
from latentlab.spaces import Statistics, fingerprint, statistics_for

SIZE = 256  # px, the resolution of the papers' perceptual losses


class Objective:
    """The images to invert, and the keywords that every optimiser takes.

    statistics: of the generator's codes, by default the stored ones. perceptual: distance, by default the shipped one.
    condition: differentiable function f of images, see ``conditions``; f(G(w)) is compared with f(image), as in the
        conditional embedding of II2S.
    initial: codes of W+ (N, L, D), or an inversion, to start from.
    record: interval in steps at which codes are recorded in ``Inversion.path``.
    patience, callback: see ``descend``.
    resume: an inversion of the same images, by the same method and keywords, to continue; ``steps`` counts from its
        first step.

    Raises ``ValueError`` for arguments that do not fit.
    """

    def __init__(
        self,
        images: Float[Tensor, "n 3 r r"],
        G: nn.Module,
        *,
        statistics: Statistics | None = None,
        perceptual: PerceptualDistance | None = None,
        condition: Callable[[Tensor], Tensor] | None = None,
        initial: Inversion | Tensor | None = None,
        record: int | None = None,
        patience: int | None = None,
        callback: Callback | None = None,
        resume: Inversion | None = None,
    ) -> None:
        check_images(images, G)
        if record is not None and record < 1:
            raise ValueError(f"record: expected an interval of at least 1 step, got {record}")
        self.images, self.G, self.condition, self.initial = images, G, condition, initial
        self.record, self.patience, self.callback, self.resume = record, patience, callback, resume
        self.statistics = statistics or statistics_for(G)
        self.statistics.check(G)
        self.perceptual = (perceptual or load_perceptual()).to(images.device)
        self.target = images if condition is None else condition(images)
        if not isinstance(self.target, Tensor) or self.target.ndim != 4 or self.target.shape[1] != 3:
            got = tuple(self.target.shape) if isinstance(self.target, Tensor) else type(self.target).__name__
            raise ValueError(f"condition: expected it to return images (N, 3, height, width), got {got}")
        if not bool(torch.isfinite(self.target).all()):
            raise ValueError("condition: expected it to return finite values, got NaN or infinity")
        self.features = self.perceptual.features(shrink(self.target, "lanczos"))

    def start(self) -> Float[Tensor, "n layers dim"]:
        """Initial codes of W+: the mean of W, or a copy of ``initial``."""
        if self.initial is None:
            return self.G.broadcast(self.statistics.w_mean.to(self.images).repeat(len(self.images), 1)).clone()
        codes = self.initial
        if isinstance(codes, Inversion):
            if (mark := fingerprint(codes.generator)) != fingerprint(self.G):
                raise ValueError(f"initial: expected codes of the mapping network {fingerprint(self.G)}, got {mark}")
            codes = codes.latent
        shape = (len(self.images), self.G.num_ws, self.G.w_dim)
        if codes.shape != shape:
            raise ValueError(f"initial: expected codes of shape {shape}, got {tuple(codes.shape)}")
        if not bool(torch.isfinite(codes).all()):
            raise ValueError("initial: expected finite values, got NaN or infinity")
        return codes.detach().to(self.images, copy=True)

    def draw(self, seed: int | Sequence[int], name: str, *shapes: tuple[int, ...]) -> list[Tensor]:
        """Samples of N(0, 1), (N, *shape) each, the same for all images, so that results do not depend on the batch.

        seed: one for all, or one for each image.
        """
        n, device = len(self.images), self.images.device
        seeds = [seed] if isinstance(seed, int) else list(seed)
        if not isinstance(seed, int) and len(seeds) != n:
            raise ValueError(f"seed: expected a number, or one for each of {n} images, got {len(seeds)}")
        draws = [stream(s, name, device=device) for s in seeds]
        drawn = [[torch.randn(shape, generator=d, device=device).to(self.images) for shape in shapes] for d in draws]
        stacked = [torch.stack(x) for x in zip(*drawn, strict=True)]
        return [x if len(seeds) == n else x.repeat(n, *[1] * (x.ndim - 1)) for x in stacked]

    def see(self, image: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 h w"]:
        """Generated images after the condition."""
        if self.condition is None:
            return image
        seen = self.condition(image)
        if seen.shape != self.target.shape or not seen.requires_grad:
            raise ValueError(
                f"condition: expected a differentiable function with values of shape {tuple(self.target.shape)}, "
                f"as for the images, got {tuple(seen.shape)}{'' if seen.requires_grad else ' without a gradient'}"
            )
        return seen

    def compare(self, image: Float[Tensor, "n 3 r r"]) -> Terms:
        """Terms of the loss: "mse" at full resolution, and "perceptual" at ``SIZE`` px or less, (N,) each."""
        seen = self.see(image)
        distance = self.perceptual.between(self.perceptual.features(shrink(seen)), self.features)
        return {"mse": (seen - self.target).square().mean((1, 2, 3)), "perceptual": distance}

    def minimize(
        self,
        method: str,
        terms: Callable[[int], Terms],
        parameters: list[Tensor],
        codes: Callable[[], Float[Tensor, "n layers dim"]],
        *,
        noise: list[Tensor] | None = None,
        knobs: dict[str, Any],
        **loop: Any,
    ) -> Inversion:
        """Runs ``descend`` on ``terms`` and returns the inversion.

        codes: returns the codes in W+ of the current parameters. noise: noise maps, or None for the generator's
        constant ones. knobs: stored with the inversion. loop: keywords of ``descend``.
        """
        rate = knobs["learning_rate"]
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"learning_rate: expected a finite number above 0, got {rate}")
        knobs = knobs | {"condition": getattr(self.condition, "__name__", None), "floor": self.statistics.floor}
        before = self._before(method, knobs)
        path = self._recorded(before)

        def recorded_terms(step: int) -> Terms:
            if self.record is not None and step % self.record == 0:
                with torch.no_grad():
                    path.append(codes().clone())
            return terms(step)

        def draw(w_plus: Tensor) -> Tensor:
            return self.G.synthesis(w_plus, noise="const" if noise is None else noise)

        loop |= {"patience": self.patience, "callback": self.callback, "look": Look(codes, draw)}
        descent = descend(recorded_terms, parameters, description=method, resume=before, **loop)
        with torch.no_grad():
            state = State(codes().clone(), None if noise is None else [m.detach() for m in noise])
            image = state.draw(self.G)
        end = DescentState(descent.state.tensors | {"target": self._summary()}, descent.state.rates)
        return Inversion(
            state,
            image,
            self.G,
            method,
            trace=descent.trace,
            seconds=descent.seconds,
            knobs=knobs | {"steps": descent.steps},
            interrupted=descent.interrupted,
            path=torch.stack([*path, state.w_plus]) if path else None,
            path_steps=[*range(0, descent.steps, self.record), descent.steps] if path else [],
            descent=end,
        )

    def _before(self, method: str, knobs: dict[str, Any]) -> Descent | None:
        """The descent to continue, after a check that images, generator, method and knobs are the same."""
        found = self.resume
        if found is None:
            return None
        if not isinstance(found, Inversion):
            raise ValueError(f"resume: expected the Inversion to continue, got {type(found).__name__}")
        if found.descent is None:
            raise ValueError(
                "resume: expected an inversion as an optimiser returned it, got one without the state of a descent"
            )
        if self.initial is not None:
            raise ValueError("resume: expected no initial codes, since the search continues where it was, got some")
        then = {"method": found.method} | found.knobs
        differing = [
            f"{name} = {value!r} (the inversion has {then.get(name)!r})"
            for name, value in ({"method": method} | knobs).items()
            if then.get(name) != value
        ]
        if fingerprint(found.generator, "generator") != fingerprint(self.G, "generator"):
            differing.append("another generator")
        then, now = found.descent.tensors["target"].to(self.images), self._summary()
        if then.shape != now.shape or not torch.allclose(then, now, atol=1e-3):
            differing.append("other images, another condition or another perceptual network")
        if differing:
            raise ValueError(f"resume: expected the same as in the inversion to continue, got {', '.join(differing)}")
        tensors = {k: v.to(self.images.device) for k, v in found.descent.tensors.items()}
        state = DescentState(tensors, found.descent.rates)
        return Descent(found.trace, found.seconds, len(state.rates), state=state)

    def _summary(self) -> Float[Tensor, "n _"]:
        """What ``resume`` recognises the target and the perceptual network by: a thumbnail and mean features."""
        thumbnail = nn.functional.adaptive_avg_pool2d(self.target, 8)
        features = self.features[-1].mean((2, 3))
        return torch.cat([thumbnail.flatten(1), features.to(thumbnail)], 1).detach()

    def _recorded(self, before: Descent | None) -> list[Tensor]:
        """The codes that were recorded before the pause."""
        if before is None or self.record is None:
            return []
        steps = range(0, before.steps, self.record)
        if missing := [step for step in steps if step not in self.resume.path_steps]:
            raise ValueError(f"resume: expected codes recorded every {self.record} steps, got none after {missing[0]}")
        return [self.resume.path[self.resume.path_steps.index(step)] for step in steps]


def check_images(images: Tensor, G: nn.Module) -> None:
    """Raises ``ValueError`` unless images are (N, 3, R, R) of the generator's resolution, finite, and about [-1, 1]."""
    r = G.resolution
    if not isinstance(images, Tensor):
        advice = "pass its .images" if hasattr(images, "images") else "convert it with torch.as_tensor"
        raise ValueError(f"images: expected a tensor of shape (N, 3, {r}, {r}), got {type(images).__name__}; {advice}")
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, r, r) or len(images) == 0:
        raise ValueError(f"images: expected shape (N, 3, {r}, {r}) with N >= 1, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images: expected floats in [-1, 1], got {images.dtype}; convert with pixels / 127.5 - 1")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images: expected finite values, got NaN or infinity")
    if float(images.abs().max()) > 1.5:
        span = f"[{float(images.min()):.3g}, {float(images.max()):.3g}]"
        raise ValueError(f"images: expected values in [-1, 1], got {span}; convert with pixels / 127.5 - 1")


def shrink(images: Float[Tensor, "n 3 h w"], kernel: str = "bicubic", size: int = SIZE) -> Float[Tensor, "n 3 s s"]:
    """Images resized to at most ``size`` px with antialiasing.

    kernel: "bicubic" for generated images; "lanczos", not differentiable here, for the target (II2S, section 4.1; the
    effect is small, Table 8).
    """
    if images.shape[-1] <= size:
        return images
    if kernel == "bicubic":
        return nn.functional.interpolate(images, size=(size, size), mode=kernel, antialias=True)
    planes = images.detach().float().cpu().flatten(0, 1).numpy()
    small = [np.array(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in planes]
    return torch.from_numpy(np.stack(small)).unflatten(0, images.shape[:2]).to(images)
