"""Widget that compares two ways of editing on a face, beside the truth of the edit where it is known."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.editing.edit import Edit, restrict
from latentlab.faces import TABLE, FaceSet
from latentlab.inversion.result import Inversion
from latentlab.metrics import edit_error
from latentlab.widgets.parts import LABEL, Panel, Picture, face_choice, layers_slider, slider
from latentlab.widgets.selections import check_layers, describe_layers

STRONGEST = 3.0  # end of the slider, in standard deviations
Ways = Mapping[str, Mapping[str, Edit]]


@dataclass(frozen=True)
class Comparison:
    """An edit of one face in two ways. left, right: names of ways; layers: (start, stop), those that are edited."""

    face: int
    factor: str
    left: str
    right: str
    strength: float
    layers: tuple[int, int]

    def edit(self, ways: Ways, way: str) -> Edit:
        """The edit of the factor by one way; ``ValueError`` if the way has none."""
        if self.factor not in ways[way]:
            known = ", ".join(ways[way])
            raise ValueError(f"way: expected one with an edit of {self.factor}, got {way!r}, which has {known}")
        return ways[way][self.factor]

    def image(self, inv: Inversion, ways: Ways, way: str) -> Float[Tensor, "1 3 r r"]:
        """The face after the edit by one way."""
        check_layers(self.layers, inv.latent.shape[1])
        edit, one = self.edit(ways, way), inv[self.face]
        if self.layers[0] == self.layers[1]:
            return one.image
        return one.edit(edit if self._all(inv) else restrict(edit, range(*self.layers)), self.strength)

    def measure(self, ways: Ways) -> str | None:
        """The way that says how far the truth moves: the left one, or the right one where the left one does not say
        what strength 1 is in the factor's unit; None if neither does or the factor is none of the face world's."""
        kinds = {factor.name: factor.kind for factor in TABLE}
        for way in (self.left, self.right) if self.factor in kinds else ():
            if kinds[self.factor] == "binary" or math.isfinite(self.edit(ways, way).std):
                return way
        return None

    def truth(self, faces: FaceSet, ways: Ways) -> FaceSet | None:
        """The face rendered with the factor really changed, None where ``measure`` is."""
        from latentlab.evaluation import true_edit  # imports the judges' modules, which no other part of a widget needs

        way = self.measure(ways)
        return None if way is None else true_edit(faces[self.face], self.edit(ways, way), self.strength)

    def code(self, inv: Inversion, ways: Ways, with_truth: bool) -> str:
        """Code that computes the images as ``left``, ``right`` and ``truth``, and both total errors, given ``inv``,
        ``ways`` and, for the truth, ``faces``."""
        start, stop = self.layers
        lines = ["import latentlab as ll", "", f"one = inv[{self.face}]"]
        for side, way in (("left", self.left), ("right", self.right)):
            edit = f"ways[{way!r}][{self.factor!r}]"
            edit = edit if self._all(inv) else f"ll.restrict({edit}, range({start}, {stop}))"
            lines += [f"{side} = one.image" if start == stop else f"{side} = one.edit({edit}, {self.strength!r})"]
        if with_truth and (way := self.measure(ways)):
            lines[0] += "\nfrom latentlab.evaluation import true_edit"
            edit = f"ways[{way!r}][{self.factor!r}]"
            lines += [f"given = faces[{self.face}]", f"truth = true_edit(given, {edit}, {self.strength!r}).images"]
            error = "ll.metrics.edit_error(one.image, x, given.images, truth)"
            lines += [f"errors = [{error} for x in (left, right)]"] if self.strength else []
        return "\n".join([*lines, ""])

    def _all(self, inv: Inversion) -> bool:
        return self.layers == (0, inv.latent.shape[1])


class Comparer(Panel):
    """The widget that ``compare`` returns. controls: face, factor, left, right, strength, layers."""

    def __init__(self, inv: Inversion, ways: Ways, faces: FaceSet | None) -> None:
        if not ways or not all(ways.values()):
            got = {way: len(edits) for way, edits in ways.items()}
            raise ValueError(f"ways: expected name -> factor -> Edit with edits in each, got so many edits: {got}")
        if faces is not None and faces.images.shape != inv.image.shape:
            raise ValueError(f"faces: expected those of the inversion, {tuple(inv.image.shape)}, got "
                             f"{tuple(faces.images.shape)}")  # fmt: skip
        self.inv, self.ways, self.faces = inv, ways, faces
        self._images: dict[tuple, Tensor] = {}
        L, names = inv.latent.shape[1], list(ways)
        controls = {"face": face_choice(len(inv))}
        factors = dict.fromkeys(factor for edits in ways.values() for factor in edits)
        options = {"factor": (list(factors), 0), "left": (names, 0), "right": (names, min(1, len(names) - 1))}
        for key, (values, start) in options.items():
            controls[key] = ipywidgets.Dropdown(
                options=values,
                value=values[start],
                description=key,
                style=LABEL,
                layout=ipywidgets.Layout(width="auto"),
            )
        controls["strength"] = slider("strength", 1.0, -STRONGEST, STRONGEST, 0.1, "of both edits, in their own unit")
        controls["layers"] = layers_slider("layers", (0, L), L, "layers that the edits change: start to end - 1")
        for key in ("strength", "layers"):  # some edits take seconds
            controls[key].continuous_update = False
        truth = [Picture("Truth")] if faces is not None else []
        super().__init__(controls, [Picture("Inversion"), Picture("Left"), Picture("Right"), *truth], "compare")
        self.stack()
        self.refresh()

    @property
    def state(self) -> Comparison:
        """The state of the controls."""
        values = {key: control.value for key, control in self.controls.items()}
        return Comparison(**values | {"strength": round(values["strength"], 3), "layers": tuple(values["layers"])})

    def _jobs(self) -> list[tuple[Any, Callable[[], Tensor], str]]:
        state, one = self.state, self.inv[self.state.face]
        edited = self._edited(state)
        truth = None if self.faces is None else state.truth(self.faces, self.ways)
        jobs = [(state.face, lambda: one.image, f"face {state.face} by {self.inv.method}")]
        layers = describe_layers(self.inv.generator, state.layers)
        for way, (key, image) in zip((state.left, state.right), edited, strict=True):
            words = f"{way}, {state.factor} {state.strength:+.1f} in {layers}"
            words += "" if truth is None else self._error(state, image, truth)
            jobs.append(((key, words), lambda image=image: image, words))
        return jobs if self.faces is None else [*jobs, self._truth_job(state, truth)]

    def _edited(self, state: Comparison) -> list[tuple[tuple, Tensor]]:
        """Keys and images of the left and the right edit; only what has changed is computed."""
        keys = [(state.face, state.factor, way, state.strength, state.layers) for way in (state.left, state.right)]
        kept, self._images = self._images, {}
        for key in keys:
            self._images[key] = kept[key] if key in kept else state.image(self.inv, self.ways, key[2])
        return [(key, self._images[key]) for key in keys]

    def _error(self, state: Comparison, image: Tensor, truth: FaceSet) -> str:
        given = self.faces[state.face].images
        if torch.equal(given, truth.images):
            return ""
        error = float(edit_error(self.inv[state.face].image, image, given.to(image), truth.images.to(image)))
        return f": total error {error:.2f} (no edit 1, truth 0)"

    def _truth_job(self, state: Comparison, truth: FaceSet | None) -> tuple[Any, Callable[[], Tensor], str]:
        given, factor = self.faces[state.face], state.factor
        if truth is None:
            return (state.face, factor, None), lambda: given.images, f"unknown of {factor}; the given face"
        before, after = (float(faces.factors[factor]) for faces in (given, truth))
        words = f"{factor} from {before:.2f} to {after:.2f}"
        words += ", which changes nothing" if torch.equal(given.images, truth.images) else ""
        return (state.face, factor, after), lambda: truth.images, words

    def _code(self) -> str:
        return self.state.code(self.inv, self.ways, self.faces is not None)


def compare(inv: Inversion, ways: Ways, faces: FaceSet | None = None) -> Comparer:
    """Widget that edits a face of an inversion in two ways side by side: a factor, two ways, strength and layers.

    ways: name of a way -> factor -> ``Edit``, e.g. {"regression": find_directions(..), "learned": ll.edits_for(G)};
    strengths mean the same in two ways where both are calibrated. faces: the rendered faces of the inversion; the truth
    of the edit is then shown beside them, and the total error of both edits, 0 for the truth and 1 for no edit. How far
    the truth moves is told by the left edit's ``std``, or by the right one's if the left one's is NaN.
    """
    return Comparer(inv, ways, faces)
