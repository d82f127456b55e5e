"""Selections made by the controls of a widget, with the codes, the image and the Python code that belong to them.

Layers are those of W+, 0 (coarse) to L - 1 (fine); ranges of layers are half-open, like slices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, restrict
from latentlab.faces import MAIN_NAMES
from latentlab.images import tile
from latentlab.inversion.result import Inversion
from latentlab.seeds import stream


def describe_layers(G: nn.Module, layers: tuple[int, int]) -> str:
    """A range of layers in words, with the resolutions that read them: "layers 4 to 9 (16 to 64 px)"."""
    start, stop = layers
    if start >= stop:
        return "no layers"
    if (start, stop) == (0, G.num_ws):
        return "all layers"
    # Layer i is first read by a convolution of 4 * 2^ceil(i / 2) px; the last one only by the last toRGB.
    first, last = (min(4 << (i + 1) // 2, G.resolution) for i in (start, stop - 1))
    sizes = f"{first} px" if first == last else f"{first} to {last} px"
    return f"layer {start} ({sizes})" if stop - start == 1 else f"layers {start} to {stop - 1} ({sizes})"


def check_layers(layers: tuple[int, int], num_ws: int) -> None:
    """Raises ``ValueError`` unless 0 <= start <= stop <= num_ws."""
    start, stop = layers
    if not 0 <= start <= stop <= num_ws:
        raise ValueError(f"layers: expected (start, stop) with 0 <= start <= stop <= {num_ws}, got {layers}")


@dataclass(frozen=True)
class MixSelection:
    """A style mix of two seeds: ``layers`` (start, stop) are taken from the code of ``seed_b``.

    psi: truncation from 0 (average face) to 1 (none); other values extrapolate. noise: whether the generator's
    constant noise maps are added.
    """

    seed: int = 0
    seed_b: int = 1
    psi: float = 0.7
    layers: tuple[int, int] = (0, 0)
    noise: bool = True

    @property
    def unmixed(self) -> "MixSelection":
        """The first face alone; ``seed_b`` is set to ``seed``, so that equal images have equal states."""
        return replace(self, seed_b=self.seed, layers=(0, 0))

    @property
    def other(self) -> "MixSelection":
        """The second face alone."""
        return replace(self, seed=self.seed_b).unmixed

    def describe(self, G: nn.Module) -> str:
        """A description of the image."""
        mixed = f", {describe_layers(G, self.layers)} from seed {self.seed_b}" if self.seed != self.seed_b else ""
        return f"seed {self.seed}{mixed}, psi {self.psi:.2f}, {'constant' if self.noise else 'no'} noise"

    def code(self) -> str:
        """Code that computes the image as ``image``, (1, 3, R, R), given a generator ``G``."""
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
        """The image in [-1, 1], not clamped."""
        return G.synthesis(self.latent(G), noise=self._noise)


def _draw(G: nn.Module, seed: int) -> Float[Tensor, "1 z_dim"]:
    return torch.randn(1, G.z_dim, generator=stream(seed, "latents")).to(G.w_avg)


@dataclass(frozen=True)
class EditSelection:
    """Edits of one face of an inversion.

    face: its index in the inversion. layers: (start, stop), the layers that the edits change. strengths: pairs of a
    name and a strength in the unit of that edit, without zeros.
    """

    face: int
    layers: tuple[int, int]
    strengths: tuple[tuple[str, float], ...] = ()

    def describe(self, G: nn.Module) -> str:
        """A description of the edits."""
        if not self.strengths:
            return "no edit"
        edits = ", ".join(f"{name} {strength:+.1f}" for name, strength in self.strengths)
        return f"{edits} standard deviations in {describe_layers(G, self.layers)}"

    @property
    def _made(self) -> tuple[tuple[str, float], ...]:
        """The strengths that change something: none where no layer is chosen."""
        return self.strengths if self.layers[0] != self.layers[1] else ()

    def inversion(self, inv: Inversion, edits: Mapping[str, Edit]) -> Inversion:
        """The edited face as an inversion that can be saved; its ``knobs`` record the edits."""
        L = inv.latent.shape[1]
        check_layers(self.layers, L)
        one = inv[self.face]
        for name, strength in self._made:
            edit = edits[name] if self.layers == (0, L) else restrict(edits[name], range(*self.layers))
            one = one.edited(edit, strength)
        return one

    def image(self, inv: Inversion, edits: Mapping[str, Edit]) -> Float[Tensor, "1 3 r r"]:
        """The image of the edited face, edited as the method of the inversion does."""
        return self.inversion(inv, edits).image

    def save(self, inv: Inversion, edits: Mapping[str, Edit], stem: str | Path) -> tuple[Path, Path]:
        """Writes image and inversion as ``stem``.png and .safetensors; if they exist, as "stem-2" and so on."""
        picture, latent = free_paths(stem, ".png", ".safetensors")
        edited = self.inversion(inv, edits)
        edited.save(latent)
        tile(edited.image, 1).save(picture)
        return picture, latent

    def code(self, inv: Inversion, shipped: bool) -> str:
        """Code that computes the image as ``image``, given the inversion ``inv``.

        It also needs the mapping ``edits``, unless these are the ``shipped`` ones.
        """
        some = self.layers != (0, inv.latent.shape[1]) and self._made
        lines = ["import latentlab as ll", ""] if some or (shipped and self._made) else []
        lines += ["edits = ll.edits_for(inv.generator)"] if shipped and self._made else []
        lines += [f"one = inv[{self.face}]"]
        for name, strength in self._made:
            edit = f"edits[{name!r}]"
            edit = f"ll.restrict({edit}, range{self.layers})" if some else edit
            lines += [f"one = one.edited({edit}, {strength!r})"]
        return "\n".join([*lines, "image = one.image", ""])


@dataclass(frozen=True)
class StepSelection:
    """One face of an inversion after ``step`` steps, one of its ``path_steps``. face: its index."""

    step: int
    face: int = 0

    def describe(self, inv: Inversion) -> str:
        """A description of the image."""
        return f"face {self.face} after {self.step} of {inv.path_steps[-1]} steps"

    def row(self, inv: Inversion) -> int:
        """Index of its codes in ``inv.path``."""
        if self.step not in inv.path_steps:
            recorded = ", ".join(map(str, inv.path_steps)) or "none, since the inversion was made without record="
            raise ValueError(f"step: expected a recorded one ({recorded}), got {self.step}")
        return inv.path_steps.index(self.step)

    def image(self, inv: Inversion) -> Float[Tensor, "1 3 r r"]:
        """The image of its codes, drawn with the final noise maps and features of the inversion."""
        one = inv[self.face]
        return one.synthesize(one.path[self.row(inv)])

    def code(self, inv: Inversion) -> str:
        """Code that computes the image as ``image``, given the inversion ``inv``."""
        return f"""\
one = inv[{self.face}]
image = one.synthesize(one.path[{self.row(inv)}])  # after {self.step} steps
"""


def free_paths(stem: str | Path, *suffixes: str) -> list[Path]:
    """Paths of files that do not exist yet, one for each suffix, so that nothing is overwritten."""
    stem = Path(stem).expanduser().absolute()
    if not stem.name:
        raise ValueError(f"stem: expected a file name without its suffix, such as 'edited-face', got '{stem}'")
    number = 1
    while True:
        name = stem.name if number == 1 else f"{stem.name}-{number}"
        paths = [stem.with_name(name + suffix) for suffix in suffixes]
        if not any(path.exists() for path in paths):
            return paths
        number += 1


def pick_factors(edits: Mapping[str, Edit], factors: Sequence[str] | None) -> list[str]:
    """Names that get a slider: ``factors``, or if None the main ones among ``edits`` (all, if it has none of them).

    An unknown name raises ``ValueError`` that lists the known ones.
    """
    if not edits:
        raise ValueError("edits: expected at least one name -> Edit, got an empty mapping")
    if unknown := [name for name in factors or () if name not in edits]:
        raise ValueError(f"factors: expected names among {', '.join(edits)}; got {', '.join(unknown)}")
    if factors is not None:
        return list(factors)
    return [name for name in MAIN_NAMES if name in edits] or list(edits)
