"""Widget that moves along the line between two codes of a face, with an edit of the code in between."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from latentlab.editing.edit import Edit, State
from latentlab.editing.mixing import blend_states
from latentlab.editing.shipped import edits_for
from latentlab.faces import TABLE, FaceSet
from latentlab.inversion.result import Inversion
from latentlab.metrics import code_variation, edit_error, psnr
from latentlab.spaces import fingerprint
from latentlab.widgets.parts import LABEL, Panel, Picture, face_choice, slider

STRONGEST = 3.0  # end of the slider of strengths, in the edits' own units
Edits = Mapping[str, Edit]


@dataclass(frozen=True)
class Blend:
    """A code between inversions of one face, and an edit of it. t: 0 is the first inversion, 1 the second, ..."""

    face: int
    t: float
    factor: str
    strength: float

    def leg(self, stations: Sequence[Inversion]) -> tuple[int, float]:
        """Which two neighbours t lies between, by the number of the first, and where on the line between them."""
        first = min(int(self.t), len(stations) - 2)
        return first, round(self.t - first, 3)

    def between(self, stations: Sequence[Inversion]) -> Inversion:
        """The face drawn at t of the line through these inversions: codes, and feature maps where there are some."""
        first, t = self.leg(stations)
        a, b = stations[first : first + 2]
        drawn = (State(inv.latent, features=inv.features, replace_rgb=inv.state.replace_rgb) for inv in (a, b))
        start, stop = (state[[self.face]] for state in drawn)
        state = blend_states(start, stop, t, a.generator)
        return Inversion(state, state.draw(a.generator), a.generator, f"{a.method} to {b.method}")

    def truth(self, faces: FaceSet, edits: Edits) -> FaceSet | None:
        """The given face rendered with the factor really changed; None if the factor is none of the face world's, or
        the edit does not say what its strength 1 is in the factor's unit."""
        from latentlab.evaluation import true_edit  # imports the judges' modules, which no other part of a widget needs

        kinds, edit = {factor.name: factor.kind for factor in TABLE}, edits[self.factor]
        if self.factor not in kinds or not (kinds[self.factor] == "binary" or math.isfinite(edit.std)):
            return None
        return true_edit(faces[self.face], edit, self.strength)

    def code(self, with_faces: bool, with_truth: bool, stations: Sequence[Inversion]) -> str:
        """Code that computes ``image``, ``edited`` and the numbers in the captions, given ``a``, ``b`` (and what lies
        between them, ``through``), ``edits`` and, for what is compared with the given face, ``faces``."""
        edit, i, (first, t) = f"edits[{self.factor!r}]", self.face, self.leg(stations)
        state = f"state = ll.State(ll.interpolate(a.latent[[{i}]], b.latent[[{i}]], {self.t!r}))"
        head = ["import latentlab as ll", "", state]
        if len(stations) > 2 or any(inversion.features for inversion in stations):
            head = [
                "import latentlab as ll", "from latentlab.editing.mixing import blend_states", "",
                f"start, stop = [inv.state[[{i}]] for inv in [a, *through, b][{first}:{first + 2}]]",
                f"state = blend_states(start, stop, {t!r}, a.generator)",
            ]  # fmt: skip
        lines = [
            *head,
            "between = ll.Inversion(state, state.draw(a.generator), a.generator, 'between')",
            f"image, edited = between.image, between.edit({edit}, {self.strength!r})",
            "variation = ll.metrics.code_variation(state.w_plus)",
        ]  # fmt: skip
        if with_faces:
            lines += [f"given = faces[{i}]", "psnr = ll.metrics.psnr(image, given.images)"]
        if with_truth:
            lines[0] += "\nfrom latentlab.evaluation import true_edit"
            lines += [f"truth = true_edit(given, {edit}, {self.strength!r}).images"]
            lines += ["error = ll.metrics.edit_error(image, edited, given.images, truth)"] if self.strength else []
        return "\n".join([*lines, ""])


class Blender(Panel):
    """The widget that ``blend`` returns. controls: face, t, factor, strength."""

    def __init__(self, stations: Sequence[Inversion], edits: Edits, faces: FaceSet | None) -> None:
        for other in stations[1:]:
            _check(stations[0], other, edits, faces)
        self.stations, self.edits, self.faces = stations, edits, faces
        self.names = _names(stations)
        a, last = stations[0], float(len(stations) - 1)
        ends = "of the line between the codes: " + ", ".join(f"{i} is {name}" for i, name in enumerate(self.names))
        options, names = {"description": "factor", "style": LABEL, "layout": ipywidgets.Layout(width="auto")}, [*edits]
        controls = {
            "face": face_choice(len(a)),
            "t": slider("t", 0.0, 0.0, last, 0.05, ends),
            "factor": ipywidgets.Dropdown(options=names, value=names[0], **options),
            "strength": slider("strength", 1.0, -STRONGEST, STRONGEST, 0.1, "of the edit, in its own unit"),
        }
        for key in ("t", "strength"):  # some edits take seconds
            controls[key].continuous_update = False
        known = faces is not None
        pictures = [Picture("Given")] * known + [Picture("Between"), Picture("Edit")] + [Picture("Truth")] * known
        super().__init__(controls, pictures, "blend")
        self.stack()
        self.refresh()

    @property
    def state(self) -> Blend:
        """The state of the controls."""
        values = {key: control.value for key, control in self.controls.items()}
        return Blend(**values | {key: round(values[key], 3) for key in ("t", "strength")})

    def _jobs(self) -> list[tuple[Any, Callable[[], Tensor], str]]:
        state, at = self.state, (self.state.face, self.state.t)
        one, edit = state.between(self.stations), (state.factor, state.strength)
        edited = one.edit(self.edits[state.factor], state.strength)
        words = f"face {state.face}, t {state.t:.2f} from {' to '.join(self.names)}: "
        words += f"variation {float(code_variation(one.latent)):.1f}"
        told, jobs = f"{state.factor} {state.strength:+.1f}", []
        if self.faces is None:
            return [(at, lambda: one.image, words), ((at, edit), lambda: edited, told)]
        given, truth = self.faces[state.face], state.truth(self.faces, self.edits)
        words += f", PSNR {float(psnr(one.image, given.images.to(one.image))):.1f} dB"
        told += self._error(one.image, edited, given, truth)
        jobs = [(state.face, lambda: given.images, f"face {state.face}"), (at, lambda: one.image, words)]
        jobs += [((at, edit), lambda: edited, told)]
        if truth is None:
            return [*jobs, ((state.face, None), lambda: given.images, f"unknown of {state.factor}; the given face")]
        before, after = (float(faces.factors[state.factor]) for faces in (given, truth))
        words = f"{state.factor} from {before:.2f} to {after:.2f}"
        return [*jobs, ((state.face, state.factor, after), lambda: truth.images, words)]

    def _error(self, before: Tensor, edited: Tensor, given: FaceSet, truth: FaceSet | None) -> str:
        if truth is None or torch.equal(given.images, truth.images):
            return ""
        error = edit_error(before, edited, given.images.to(before), truth.images.to(before))
        return f": total error {float(error):.2f} (no edit 1, truth 0)"

    def _code(self) -> str:
        faces, state = self.faces, self.state
        truth = faces is not None and state.truth(faces, self.edits) is not None
        return state.code(faces is not None, truth, self.stations)


def _names(stations: Sequence[Inversion]) -> list[str]:
    """The methods, or where one method is there several times, its spaces."""
    methods = [inversion.method for inversion in stations]
    if len(set(methods)) == len(methods):
        return methods
    return [inversion.knobs.get("space", inversion.method) for inversion in stations]


def _check(a: Inversion, b: Inversion, edits: Edits, faces: FaceSet | None) -> None:
    if a.latent.shape != b.latent.shape:
        raise ValueError(
            f"b: expected codes of the same faces as a's, of shape {tuple(a.latent.shape)}, got {tuple(b.latent.shape)}"
        )
    if (own := fingerprint(a.generator, "generator")) != (other := fingerprint(b.generator, "generator")):
        raise ValueError(f"b: expected an inversion with a's generator, {own}, got one with {other}")
    if not edits:
        raise ValueError("edits: expected at least one, name -> Edit, got none")
    if faces is not None and faces.images.shape != a.image.shape:
        raise ValueError(
            f"faces: expected those of the inversions, {tuple(a.image.shape)}, got {tuple(faces.images.shape)}"
        )


def blend(
    a: Inversion, b: Inversion, faces: FaceSet | None = None, edits: Edits | None = None, *,
    through: Sequence[Inversion] = (),
) -> Blender:  # fmt: skip
    """Widget that moves along the line between the codes of two inversions of the same faces, and edits in between.

    It shows the face at t (0: a's code, 1: b's), the variation of its code over the layers, and an edit of it. Of the
    inversions the codes of W+ and the feature maps are used. through: inversions between the two, so that t runs from 0
    to 2 with one of them: from W through W+ to F. faces: the rendered faces that were inverted; PSNR, the truth of the
    edit and its total error are then shown as well. edits: by name, by default those shipped with the generator.
    """
    return Blender([a, *through, b], edits_for(a.generator) if edits is None else edits, faces)
