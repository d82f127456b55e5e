"""What the controls of a widget select, and what follows from it: codes, an image, and the lines of code for it.

Layers are those of W+, 0 (coarse) to L - 1 (fine); a range of them is half open, as in a slice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, restrict
from latentlab.images import tile
from latentlab.inversion.result import Inversion
from latentlab.seeds import stream

MAIN_FACTORS = ("smile", "age", "yaw", "glasses", "beard", "hair_length", "mouth_open", "light_azimuth")


def describe_layers(G: nn.Module, layers: tuple[int, int]) -> str:
    """A range of layers in words, with the resolutions that they steer: "layers 4 to 9 (16 to 64 px)"."""
    start, stop = layers
    if start >= stop:
        return "no layers"
    if (start, stop) == (0, G.num_ws):
        return "all layers"
    # Layer i is first read by a convolution of 4 * 2^ceil(i / 2) px; the last one only by the last toRGB.
    first, last = (min(4 << (i + 1) // 2, G.resolution) for i in (start, stop - 1))
    steered = f"{first} px" if first == last else f"{first} to {last} px"
    return f"layer {start} ({steered})" if stop - start == 1 else f"layers {start} to {stop - 1} ({steered})"


def check_layers(layers: tuple[int, int], num_ws: int) -> None:
    """Refuses a range that is not 0 <= start <= stop <= num_ws."""
    start, stop = layers
    if not 0 <= start <= stop <= num_ws:
        raise ValueError(f"layers: got {layers}, want (start, stop) with 0 <= start <= stop <= {num_ws}")


@dataclass(frozen=True)
class MixSelection:
    """Two seeds and how they are mixed: ``layers`` (start, stop) take the code of ``seed_b``.

    psi: truncation, 0 (the average face) to 1 (none), outside of that it extrapolates. noise: whether the
    generator's constant noise maps are added.
    """

    seed: int = 0
    seed_b: int = 1
    psi: float = 0.7
    layers: tuple[int, int] = (0, 0)
    noise: bool = True

    @property
    def unmixed(self) -> "MixSelection":
        """The first face alone; ``seed_b`` is dropped, as it has no say in the picture."""
        return replace(self, seed_b=self.seed, layers=(0, 0))

    @property
    def other(self) -> "MixSelection":
        """The second face alone."""
        return replace(self, seed=self.seed_b).unmixed

    def describe(self, G: nn.Module) -> str:
        """What the picture shows, in words."""
        mixed = f", {describe_layers(G, self.layers)} from seed {self.seed_b}" if self.seed != self.seed_b else ""
        return f"seed {self.seed}{mixed}, psi {self.psi:.2f}, {'constant' if self.noise else 'no'} noise"

    def code(self) -> str:
        """Lines that make the picture as ``image`` of shape (1, 3, R, R), given a generator ``G``."""
        start, stop = self.layers
        return f"""\
import torch
from latentlab.seeds import stream

z_a = torch.randn(1, G.z_dim, generator=stream({self.seed}, "latents"))
z_b = torch.randn(1, G.z_dim, generator=stream({self.seed_b}, "latents"))
with torch.no_grad():
    w_plus = G.broadcast(G.mapping(z_a.to(G.w_avg))).clone()
    w_plus[:, {start}:{stop}] = G.broadcast(G.mapping(z_b.to(G.w_avg)))[:, {start}:{stop}]
    image = G.synthesis(G.truncate(w_plus, psi={self.psi!r}), noise={self._noise!r})
"""

    @property
    def _noise(self) -> str:
        return "const" if self.noise else "none"

    @torch.no_grad()
    def latent(self, G: nn.Module) -> Float[Tensor, "1 layers dim"]:
        """The mixed and truncated code in W+."""
        check_layers(self.layers, G.num_ws)
        start, stop = self.layers
        w_plus = G.broadcast(G.mapping(_draw(G, self.seed))).clone()
        w_plus[:, start:stop] = G.broadcast(G.mapping(_draw(G, self.seed_b)))[:, start:stop]
        return G.truncate(w_plus, psi=self.psi)

    @torch.no_grad()
    def image(self, G: nn.Module) -> Float[Tensor, "1 3 r r"]:
        """The picture in [-1, 1], not clamped."""
        return G.synthesis(self.latent(G), noise=self._noise)


def _draw(G: nn.Module, seed: int) -> Float[Tensor, "1 z_dim"]:
    return torch.randn(1, G.z_dim, generator=stream(seed, "latents")).to(G.w_avg)


@dataclass(frozen=True)
class EditSelection:
    """Edits of one face of an inversion. strengths: (name, strength in the edit's unit), zeros left out.

    face: its index in the inversion. layers: (start, stop), the layers of the code that move.
    """

    face: int
    layers: tuple[int, int]
    strengths: tuple[tuple[str, float], ...] = ()

    def describe(self, G: nn.Module) -> str:
        """The edits in words."""
        if not self.strengths:
            return "no edit"
        edits = ", ".join(f"{name} {strength:+.1f}" for name, strength in self.strengths)
        return f"{edits} standard deviations in {describe_layers(G, self.layers)}"

    def inversion(self, inv: Inversion, edits: Mapping[str, Edit]) -> Inversion:
        """The edited face as an inversion that can be saved; its ``knobs`` record the edits."""
        L = inv.latent.shape[1]
        check_layers(self.layers, L)
        one = inv[self.face]
        for name, strength in self.strengths:
            edit = edits[name] if self.layers == (0, L) else restrict(edits[name], range(*self.layers))
            one = one.edited(edit, strength)
        return one

    def image(self, inv: Inversion, edits: Mapping[str, Edit]) -> Float[Tensor, "1 3 r r"]:
        """The edited face, by the inversion's own way of editing."""
        return self.inversion(inv, edits).image

    def save(self, inv: Inversion, edits: Mapping[str, Edit], stem: str | Path) -> tuple[Path, Path]:
        """Writes picture and latent as ``stem``.png and .safetensors; a taken stem gets a number, "face-2"."""
        picture, latent = _free_paths(Path(stem).expanduser().absolute())
        edited = self.inversion(inv, edits)
        edited.save(latent)
        tile(edited.image, 1).save(picture)
        return picture, latent

    def code(self, inv: Inversion, shipped: bool) -> str:
        """Lines that make the picture as ``image``, given the inversion ``inv`` and, unless they are the
        ``shipped`` ones, the mapping ``edits``."""
        some = self.layers != (0, inv.latent.shape[1]) and self.strengths
        lines = ["import latentlab as ll", ""] if some or (shipped and self.strengths) else []
        lines += ["edits = ll.directions_for(inv.generator)"] if shipped and self.strengths else []
        lines += [f"one = inv[{self.face}]"]
        for name, strength in self.strengths:
            edit = f"edits[{name!r}]"
            edit = f"ll.restrict({edit}, range{self.layers})" if some else edit
            lines += [f"one = one.edited({edit}, {strength!r})"]
        return "\n".join([*lines, "image = one.image", ""])


@dataclass(frozen=True)
class StepSelection:
    """One face of an inversion after so many steps. step: one of its ``path_steps``. face: its index in it."""

    step: int
    face: int = 0

    def describe(self, inv: Inversion) -> str:
        """Which face it is and how far the descent has come, in words."""
        return f"face {self.face} after {self.step} of {inv.path_steps[-1]} steps"

    def row(self, inv: Inversion) -> int:
        """Where in ``inv.path`` its codes are."""
        if self.step not in inv.path_steps:
            recorded = ", ".join(map(str, inv.path_steps)) or "none (pass record= to the inversion)"
            raise ValueError(f"no codes were recorded after {self.step} steps; recorded steps are: {recorded}")
        return inv.path_steps.index(self.step)

    def image(self, inv: Inversion) -> Float[Tensor, "1 3 r r"]:
        """The picture of its codes, painted with the noise maps and features that the inversion ended with."""
        one = inv[self.face]
        return one.synthesize(one.path[self.row(inv)])

    def code(self, inv: Inversion) -> str:
        """Lines that make the picture as ``image``, given the inversion ``inv``."""
        return f"""\
one = inv[{self.face}]
image = one.synthesize(one.path[{self.row(inv)}])  # after {self.step} steps
"""


def _free_paths(stem: Path) -> tuple[Path, Path]:
    """Files that do not exist yet, so that no earlier picture is lost."""
    if not stem.name:
        raise ValueError("a file name is wanted, without its ending, such as 'edited-face'")
    number = 1
    while True:
        name = stem.name if number == 1 else f"{stem.name}-{number}"
        paths = stem.with_name(f"{name}.png"), stem.with_name(f"{name}.safetensors")
        if not any(path.exists() for path in paths):
            return paths
        number += 1


def pick_factors(edits: Mapping[str, Edit], factors: Sequence[str] | None) -> list[str]:
    """Names that get a slider: those asked for, or the main ones, or all if none of these is known.

    Raises ``ValueError`` for an unknown name, with the known ones.
    """
    if not edits:
        raise ValueError("edits: expected at least one name -> Edit, got an empty mapping")
    if unknown := [name for name in factors or () if name not in edits]:
        raise ValueError(f"unknown factors {', '.join(unknown)}; the known ones are: {', '.join(edits)}")
    if factors is not None:
        return list(factors)
    return [name for name in MAIN_FACTORS if name in edits] or list(edits)
