"""What every optimiser here has in common: what it checks, where it starts, what it compares, what it returns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from latentlab.inversion.descent import Callback, Terms, descend
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import PerceptualDistance, load_perceptual
from latentlab.seeds import stream
from latentlab.spaces import Statistics, fingerprint, statistics_for

SIZE = 256  # px, the resolution of the papers' perceptual losses


class Objective:
    """Images to be found in a generator, and the keywords that every optimiser takes.

    statistics, perceptual: the generator's and the shipped ones unless given. condition: a differentiable
    image function f, see ``conditions``; f(G(w)) is compared with f(image), as in II2S' conditional
    embedding. initial: codes of W+ (N, L, D) or an inversion to start from. record: every how many steps the
    codes are kept, in ``Inversion.path``. patience, callback: see ``descend``. Raises ``ValueError`` where one
    of them does not fit.
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
    ) -> None:
        check_images(images, G)
        if record is not None and record < 1:
            raise ValueError(f"record is {record}; wanted is every how many steps codes are kept, at least 1")
        self.images, self.G, self.condition, self.initial = images, G, condition, initial
        self.record, self.patience, self.callback = record, patience, callback
        self.statistics = statistics or statistics_for(G)
        self.statistics.check(G)
        self.perceptual = (perceptual or load_perceptual()).to(images.device)
        self.target = images if condition is None else condition(images)
        if not isinstance(self.target, Tensor) or self.target.ndim != 4 or self.target.shape[1] != 3:
            got = tuple(self.target.shape) if isinstance(self.target, Tensor) else type(self.target).__name__
            raise ValueError(f"the condition makes {got} of the images; wanted are images, (N, 3, height, width)")
        if not bool(torch.isfinite(self.target).all()):
            raise ValueError("the condition makes NaN or infinite values of the images")
        self.features = self.perceptual.features(shrink(self.target, "lanczos"))

    def start(self) -> Float[Tensor, "n layers dim"]:
        """Codes of W+ to start from: the mean of W, or a copy of ``initial``."""
        if self.initial is None:
            return self.G.broadcast(self.statistics.w_mean.to(self.images).repeat(len(self.images), 1)).clone()
        codes = self.initial
        if isinstance(codes, Inversion):
            if (mark := fingerprint(codes.generator)) != fingerprint(self.G):
                raise ValueError(f"initial is a latent of generator {mark}, not of {fingerprint(self.G)}")
            codes = codes.latent
        wanted = (len(self.images), self.G.num_ws, self.G.w_dim)
        if codes.shape != wanted or not bool(torch.isfinite(codes).all()):
            raise ValueError(f"initial has shape {tuple(codes.shape)}; wanted are finite codes of shape {wanted}")
        return codes.detach().to(self.images, copy=True)

    def draw(self, seed: int, name: str, *shapes: tuple[int, ...]) -> list[Tensor]:
        """N(0, 1), one image's repeated for all, so that a batch equals its images one by one: (N, *shape) each."""
        draw, device = stream(seed, name, device=self.images.device), self.images.device
        drawn = [torch.randn(shape, generator=draw, device=device).to(self.images) for shape in shapes]
        return [x.repeat(len(self.images), *[1] * x.ndim) for x in drawn]

    def see(self, image: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 h w"]:
        """A generated image through the condition."""
        if self.condition is None:
            return image
        seen = self.condition(image)
        if seen.shape != self.target.shape or not seen.requires_grad:
            shapes = f"{tuple(seen.shape)} of what is generated and {tuple(self.target.shape)} of the images"
            raise ValueError(f"the condition makes {shapes}: one shape is wanted, and gradients that pass")
        return seen

    def compare(self, image: Float[Tensor, "n 3 r r"]) -> Terms:
        """ "mse", the mean over pixels at full resolution, and "perceptual", at ``SIZE`` px or less."""
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
        """Descends on ``terms`` (``loop``: keywords of ``descend``) and gathers what was found. codes: gives
        W+ for the parameters as they stand. noise: maps to paint with, the generator's constant ones if None."""
        loop |= {"patience": self.patience, "callback": self.callback}
        path: list[Tensor] = []

        def watched(step: int) -> Terms:
            if self.record is not None and step % self.record == 0:
                with torch.no_grad():
                    path.append(codes().clone())
            return terms(step)

        descent = descend(watched, parameters, description=method, **loop)
        maps = None if noise is None else [m.detach() for m in noise]
        with torch.no_grad():
            latent = codes().clone()
            image = self.G.synthesis(latent, noise="const" if maps is None else maps)
        knobs = knobs | {"steps": descent.steps, "condition": getattr(self.condition, "__name__", None)}
        found = (latent, image, self.G, method, descent.trace, descent.seconds, maps)
        kept = (torch.stack([*path, latent]), [*range(0, descent.steps, self.record), descent.steps]) if path else ()
        return Inversion(*found, None, knobs, descent.interrupted, *kept)


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
        reach = f"{float(images.min()):.3g} to {float(images.max()):.3g}"
        raise ValueError(f"images reach from {reach}; wanted is [-1, 1]")


def shrink(images: Float[Tensor, "n 3 h w"], kernel: str = "bicubic", size: int = SIZE) -> Float[Tensor, "n 3 s s"]:
    """Images no larger than ``size`` px, antialiased: "bicubic" for what is generated, "lanczos", which has
    no gradient here, for the reference (II2S, section 4.1; a minor effect, Table 8)."""
    if images.shape[-1] <= size:
        return images
    if kernel == "bicubic":
        return nn.functional.interpolate(images, size=(size, size), mode=kernel, antialias=True)
    planes = images.detach().float().cpu().flatten(0, 1).numpy()
    small = [np.array(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in planes]
    return torch.from_numpy(np.stack(small)).unflatten(0, images.shape[:2]).to(images)
