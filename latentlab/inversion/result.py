"""What an inversion returns, and what moves it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.spaces import fingerprint
from latentlab.weights import read_tensors, write_tensors


@dataclass(frozen=True)
class Direction:
    """Where an attribute lies in W. vector: (D,), the step of w for +1 standard deviation of the attribute
    while the others stay as nearly as W allows. std: that standard deviation over samples, in the attribute's unit."""

    name: str
    vector: Float[Tensor, " dim"]
    std: float


@dataclass
class Inversion:
    """Codes found for a batch of images, and the way there.

    latent: (N, L, D) in W+. image: (N, 3, R, R) = G(latent) with the noise used, not clamped.
    trace: term -> (steps, N), one value a step and image. seconds: wall time of the whole batch.
    interrupted: whether Ctrl-C ended the search; knobs then hold the steps that were done.
    noise: one map a layer where the method found its own, else None (the generator's constant noise).
    features: replaced feature maps by resolution (F space), else None.
    path: (K, N, L, D), the codes after each number of steps in ``path_steps``, the last of them ``latent``,
    where ``record`` asked for them, else None. Row t of the trace belongs to the codes after t steps.
    """

    latent: Float[Tensor, "n layers dim"]
    image: Float[Tensor, "n 3 r r"]
    generator: nn.Module
    method: str
    trace: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    noise: list[Tensor] | None = None
    features: dict[int, Tensor] | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    path: Float[Tensor, "k n layers dim"] | None = None
    path_steps: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.latent)

    def __getitem__(self, index: int | slice) -> "Inversion":
        """Some of the images, as an inversion of its own."""
        rows = slice(index, index + 1 or None) if isinstance(index, int) else index
        return replace(
            self,
            latent=self.latent[rows],
            image=self.image[rows],
            trace={k: v[:, rows] for k, v in self.trace.items()},
            noise=None if self.noise is None else [m[rows] for m in self.noise],
            features=None if self.features is None else {r: f[rows] for r, f in self.features.items()},
            path=None if self.path is None else self.path[:, rows],
        )

    @torch.no_grad()
    def synthesize(self, w_plus: Float[Tensor, "n layers dim"]) -> Float[Tensor, "n 3 r r"]:
        """The picture of other codes under this inversion's noise and features."""
        noise = "const" if self.noise is None else self.noise
        return self.generator.synthesis(w_plus, noise=noise, replace=self.features)

    def edit(self, direction: Direction | Tensor, strength: float = 1.0) -> Float[Tensor, "n 3 r r"]:
        """The images after moving every code by ``strength`` along a direction of W or W+.

        direction: a ``Direction``, or a tensor (D,), (L, D) or (N, L, D). Strength 0 changes nothing.
        """
        vector = (direction.vector if isinstance(direction, Direction) else direction).to(self.latent)
        wanted = (self.latent.shape[-1:], self.latent.shape[1:], self.latent.shape)
        if vector.shape not in wanted:
            raise ValueError(
                f"a direction of shape {tuple(vector.shape)} does not fit this generator: "
                f"wanted is one of {', '.join(str(tuple(s)) for s in wanted)}"
            )
        return self.synthesize(self.latent + strength * vector)

    def save(self, path: str | Path) -> None:
        """Writes all of it as safetensors, with the method, knobs and generator's mark."""
        tensors = {"latent": self.latent, "image": self.image}
        tensors |= {f"noise.{i}": n for i, n in enumerate(self.noise or [])}
        tensors |= {f"features.{r}": f for r, f in (self.features or {}).items()}
        tensors |= {f"trace.{k}": v for k, v in self.trace.items()}
        tensors |= {} if self.path is None else {"path": self.path}
        metadata = {"method": self.method, "knobs": json.loads(json.dumps(self.knobs, default=str))}
        metadata |= {"interrupted": self.interrupted, "path_steps": self.path_steps}
        metadata |= {"generator": fingerprint(self.generator), "seconds": self.seconds}
        write_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path, G: nn.Module) -> "Inversion":
        """Reads what ``save`` wrote, and paints its image anew. Raises ``ValueError`` if it belongs to another
        latent space than that of ``G``; a generator that shares it paints the same codes in its own way."""
        tensors, metadata = read_tensors(path)
        if metadata.get("generator") != fingerprint(G):
            raise ValueError(f"{path} is a latent of generator {metadata.get('generator')}, not of {fingerprint(G)}")
        noise = [tensors[f"noise.{i}"] for i in range(sum(k.startswith("noise.") for k in tensors))]
        features = {int(k.removeprefix("features.")): v for k, v in tensors.items() if k.startswith("features.")}
        trace = {k.removeprefix("trace."): v for k, v in tensors.items() if k.startswith("trace.")}
        found = cls(
            tensors["latent"], tensors["image"], G, metadata["method"], trace, metadata["seconds"],
            noise or None, features or None, metadata["knobs"], metadata["interrupted"],
            tensors.get("path"), metadata["path_steps"],
        )  # fmt: skip
        return replace(found, image=found.synthesize(found.latent))
