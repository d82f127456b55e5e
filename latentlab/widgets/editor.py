"""Edit the faces of an inversion: a slider for each factor, and the places of the code that it moves."""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets
from torch import Tensor

from latentlab.editing.shipped import directions_for
from latentlab.inversion.result import Direction, Inversion
from latentlab.widgets.parts import LABEL, Names, Panel, Picture, face_choice, grid, places_slider, row, slider
from latentlab.widgets.selections import Edit, pick_factors

STRONGEST = 3.0  # standard deviations


class Editor(Panel):
    """The widget that ``edit`` returns. controls: face, places, and one for each factor by its name."""

    def __init__(self, inv: Inversion, directions: Mapping[str, Direction], factors: list[str], shipped: bool) -> None:
        self.inv, self.directions, self.factors, self._shipped = inv, directions, factors, shipped
        face = face_choice(len(inv))
        layers = inv.latent.shape[1]
        places = places_slider("places", (0, layers), layers, "the places of the code that move: start to end - 1")
        sliders = {
            name: slider(name.replace("_", " "), 0.0, -STRONGEST, STRONGEST, 0.1,
                         f"in standard deviations of {directions[name].std:.2g} over the generator's faces")
            for name in factors
        }  # fmt: skip
        super().__init__({"face": face, "places": places} | sliders, [Picture("Inversion"), Picture("Edited")], "edit")
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
            grid([face, places]),
            unit,
            grid(list(sliders.values())),
            row([self.reset_button, self.stem, self.save_button]),
            *(self.status, self.error, self.code, Names()),
        ]
        self.refresh()

    @property
    def state(self) -> Edit:
        """What the controls say."""
        strengths = [(name, round(self.controls[name].value, 3)) for name in self.factors]
        moved = tuple((name, strength) for name, strength in strengths if strength)
        return Edit(self.controls["face"].value, tuple(self.controls["places"].value), moved)

    def _jobs(self) -> list[tuple[tuple, Callable[[], Tensor], str]]:
        state, inv = self.state, self.inv
        words = f"face {state.face}, {state.describe(inv.generator)}"
        return [
            (("before", state.face), lambda: inv[state.face].image, f"face {state.face} by {inv.method}"),
            (("after", state), lambda: state.image(inv, self.directions), words),
        ]

    def _code(self) -> str:
        return self.state.code(self._shipped)

    def _save(self) -> None:
        picture, latent = self.state.save(self.inv, self.directions, self.stem.value.strip())
        self.say(f"wrote {picture} and {latent.name} beside it")


def edit(
    inv: Inversion, directions: Mapping[str, Direction] | None = None, *, factors: Sequence[str] | None = None
) -> Editor:
    """An inversion's faces, live: before and after, one slider for each factor, -3 to 3 standard deviations.

    directions: name -> direction of W or W+, by default those shipped with the generator. factors: names
    that get a slider, by default the main ones (smile, age, yaw, ..); an unknown one raises ``ValueError``.
    The places say which rows of the code move: an edit that belongs to coarse ones, such as yaw, changes
    the colours as well if it is let into the fine ones.
    """
    shipped = directions is None
    known = directions_for(inv.generator) if shipped else directions
    return Editor(inv, known, pick_factors(known, factors), shipped)
