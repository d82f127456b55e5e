"""Widget that edits the faces of an inversion: one slider per factor, and the layers that the edits change."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import ipywidgets
from torch import Tensor

from latentlab.editing.code_range import CodeRange
from latentlab.editing.edit import Edit
from latentlab.editing.shipped import edits_for
from latentlab.inversion.result import Inversion
from latentlab.widgets.parts import LABEL, Names, Panel, Picture, face_choice, grid, layers_slider, row, slider
from latentlab.widgets.selections import EditSelection, pick_factors

STRONGEST = 3.0  # end of the sliders, in standard deviations


class Editor(Panel):
    """The widget that ``edit`` returns. controls: face, layers, and one slider per factor, by its name."""

    def __init__(self, inv: Inversion, edits: Mapping[str, Edit], factors: list[str], shipped: bool) -> None:
        self.inv, self.edits, self.factors, self._shipped = inv, edits, factors, shipped
        face = face_choice(len(inv))
        L = inv.latent.shape[1]
        layers = layers_slider("layers", (0, L), L, "layers that the edits change: start to end - 1")
        tips = {k: f"in {edits[k].unit}; 1 is {edits[k].std:.2g} in the attribute's own unit" for k in factors}
        sliders = {k: slider(k.replace("_", " "), 0.0, -STRONGEST, STRONGEST, 0.1, tips[k]) for k in factors}
        super().__init__({"face": face, "layers": layers} | sliders, [Picture("Inversion"), Picture("Edited")], "edit")
        self.stem = ipywidgets.Text(
            "edited-face", description="file name", style=LABEL, layout=ipywidgets.Layout(width="20em")
        )
        self.save_button = ipywidgets.Button(
            description="Save PNG + latent", tooltip="writes NAME.png and NAME.safetensors"
        )
        self.save_button.on_click(lambda _: self.attempt(self._save))
        self.stem.add_class("ll-stem")
        self.save_button.add_class("ll-save")
        unit = ipywidgets.HTML('<span style="color: var(--jp-ui-font-color1)">strengths in standard deviations</span>')
        self.children = [
            row(self.pictures, wrap=False),
            grid([face, layers]),
            unit,
            grid(list(sliders.values())),
            row([self.reset_button, self.stem, self.save_button]),
            *(self.warning, self.status, self.error, self.code, Names()),
        ]
        self.refresh()

    @property
    def state(self) -> EditSelection:
        """The state of the controls."""
        strengths = [(name, round(self.controls[name].value, 3)) for name in self.factors]
        moved = tuple((name, strength) for name, strength in strengths if strength)
        return EditSelection(self.controls["face"].value, tuple(self.controls["layers"].value), moved)

    def _jobs(self) -> list[tuple[tuple, Callable[[], Tensor], str]]:
        state, inv = self.state, self.inv
        words = f"face {state.face}, {state.describe(inv.generator)}"
        return [
            (("before", state.face), lambda: inv[state.face].image, f"face {state.face} by {inv.method}"),
            (("after", state), lambda: self._edited(state), words),
        ]

    @cached_property
    def _range(self) -> CodeRange:
        return CodeRange(self.inv.generator)

    def _edited(self, state: EditSelection) -> Tensor:
        """The edited face; a warning is shown where its code leaves the generator's range."""
        after = state.inversion(self.inv, self.edits)
        moved = state.strengths and self._range.departure(self.inv[state.face].state, after.state)
        self.warn(moved.describe() if moved else "")
        return after.image

    def _code(self) -> str:
        return self.state.code(self.inv, self._shipped)

    def _save(self) -> None:
        picture, latent = self.state.save(self.inv, self.edits, self.stem.value.strip())
        self.say(f"wrote {picture} and {latent.name} in the same folder")


def edit(inv: Inversion, edits: Mapping[str, Edit] | None = None, *, factors: Sequence[str] | None = None) -> Editor:
    """Widget that shows a face of an inversion before and after edits, with a slider from -3 to 3 for each factor.

    edits: name -> ``Edit``, by default those shipped with the generator. factors: names that get a slider, by default
    the main ones (smile, age, yaw, ..); an unknown one raises ``ValueError``. Edits change only the chosen layers: an
    edit of coarse properties, such as yaw, also changes colours if it is applied to the fine layers. A line below the
    sliders tells when the edited code leaves the generator's range (``editing.code_range``).
    """
    shipped = edits is None
    known = edits_for(inv.generator) if shipped else edits
    return Editor(inv, known, pick_factors(known, factors), shipped)
