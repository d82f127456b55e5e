"""Widget that explores a generator's faces: seeds, truncation, style mixing by layers, noise."""

import secrets
from collections.abc import Callable

import ipywidgets
from torch import Tensor, nn

from latentlab.widgets.parts import LABEL, Names, Panel, Picture, grid, layers_slider, row, slider
from latentlab.widgets.selections import MixSelection

SEEDS = 2**31 - 1
NEW_SEEDS = 10_000  # seeds drawn at random are below this, short enough to be noted


class Explorer(Panel):
    """The widget that ``explore`` returns. controls: seed, seed_b, psi, layers, noise."""

    def __init__(self, G: nn.Module, start: MixSelection) -> None:
        self.G = G
        controls = {
            "seed": _seed_box("seed A", start.seed),
            "seed_b": _seed_box("seed B", start.seed_b),
            "psi": slider("psi", start.psi, -1, 1.5, 0.05, "truncation: 0 is the average face, 1 no truncation"),
            "layers": layers_slider(
                "B's layers", start.layers, G.num_ws, "layers taken from the code of face B: start to end - 1"
            ),
            "noise": ipywidgets.Checkbox(
                start.noise, description="constant noise", indent=False, layout=ipywidgets.Layout(width="12em")
            ),
        }
        super().__init__(controls, [Picture("Face A"), Picture("Face B"), Picture("Mix")], "explore")
        boxes = [row([controls[key], _random_button(controls[key])]) for key in ("seed", "seed_b")]
        self.children = [
            row(self.pictures, wrap=False),
            grid([*boxes, controls["psi"], controls["layers"]]),
            row([controls["noise"], self.reset_button]),
            *(self.status, self.error, self.code, Names()),
        ]
        self.refresh()

    @property
    def state(self) -> MixSelection:
        """The state of the controls."""
        values = {key: control.value for key, control in self.controls.items()}
        return MixSelection(**values | {"psi": round(values["psi"], 3)})  # a slider can give 0.7000000000000001

    def _jobs(self) -> list[tuple[MixSelection, Callable[[], Tensor], str]]:
        states = [self.state.unmixed, self.state.other, self.state]
        return [(state, lambda state=state: state.image(self.G), state.describe(self.G)) for state in states]

    def _code(self) -> str:
        return self.state.code()


def _seed_box(label: str, value: int) -> ipywidgets.BoundedIntText:
    return ipywidgets.BoundedIntText(
        value, min=0, max=SEEDS, description=label, style=LABEL, layout=ipywidgets.Layout(width="14.5em")
    )


def _random_button(box: ipywidgets.BoundedIntText) -> ipywidgets.Button:
    button = ipywidgets.Button(
        description="Random", tooltip=f"another {box.description}", layout=ipywidgets.Layout(width="6em")
    )
    button.on_click(lambda _: setattr(box, "value", secrets.randbelow(NEW_SEEDS)))
    button.add_class("ll-random")
    return button


def explore(G: nn.Module, *, seed: int = 0, seed_b: int = 1, psi: float = 0.7) -> Explorer:
    """Widget that shows two faces A and B of a generator and their style mix, with the code that reproduces it.

    seed, seed_b: of the faces, 0 to 2^31 - 1. psi: truncation, -1 to 1.5. Initially the last three fifths of the
    layers, the finer ones, are taken from face B.
    """
    return Explorer(G, MixSelection(seed, seed_b, psi, (G.num_ws * 2 // 5, G.num_ws)))
