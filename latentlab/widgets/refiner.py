"""Widget of the two branches: the picture of the style branch, the refined one, and the relevance map."""

from collections.abc import Callable
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion
from latentlab.inversion.two_branch import TwoBranchEditor
from latentlab.plots import overlay
from latentlab.widgets.parts import LABEL, Panel, Picture, face_choice, slider
from latentlab.widgets.selections import EditSelection


class Refiner(Panel):
    """The widget that ``refine`` returns. controls: face, map (its resolution), and one slider per attribute."""

    def __init__(self, inv: Inversion, faces: FaceSet | None) -> None:
        network = inv.editor.network
        self.inv, self.faces, self.edits = inv, faces, inv.editor.edits
        self.attributes = network.config.attributes
        self._made: tuple[EditSelection, Inversion] | None = None
        sizes = [(f"{r} x {r}", r) for r in network.config.resolutions]
        maps = ipywidgets.Dropdown(options=sizes, value=sizes[-1][1], description="map", style=LABEL,
                                   tooltip="resolution of the relevance map",
                                   layout=ipywidgets.Layout(width="auto"))  # fmt: skip
        most, tip = network.config.most, "target of the attribute, in standard deviations"
        sliders = {k: slider(k.replace("_", " "), 0.0, -most, most, 0.1, tip) for k in self.attributes}
        pictures = [Picture("Given")] * (faces is not None)
        pictures += [Picture(name) for name in ("Style only", "Refined", "Relevance map")]
        super().__init__({"face": face_choice(len(inv)), "map": maps} | sliders, pictures, "refine")
        self.stack()
        self.refresh()

    @property
    def state(self) -> EditSelection:
        """The state of the controls."""
        targets = [(name, round(self.controls[name].value, 3)) for name in self.attributes]
        moved = tuple((name, target) for name, target in targets if target)
        return EditSelection(self.controls["face"].value, (0, self.inv.latent.shape[1]), moved)

    def _edited(self) -> Inversion:
        """The edited face; kept until the sliders move, since three images are made of it."""
        state = self.state
        if self._made is None or self._made[0] != state:
            self._made = state, state.inversion(self.inv, self.edits)
        return self._made[1]

    @torch.no_grad()
    def _style_only(self) -> Tensor:
        one = self._edited()
        return one.generator.synthesis(one.latent)

    def _map(self) -> Tensor:
        one = self._edited()
        return one.editor.relevance(one.state, one.generator)[self.controls["map"].value]

    @torch.no_grad()
    def _overlaid(self) -> Tensor:
        return overlay(self._edited().image, self._map())

    def _jobs(self) -> list[tuple[Any, Callable[[], Tensor], str]]:
        state, size, jobs = self.state, self.controls["map"].value, []
        if self.faces is not None:
            jobs = [(("given", state.face), lambda: self.faces[state.face].images, f"face {state.face}")]
        words = f"face {state.face}, {state.describe(self.inv.generator)}"
        share = f"{size} x {size}, {float(self._map().mean()):.0%} content; blue: the given picture, orange: the edit"
        return [
            *jobs,
            (("style", state), self._style_only, words),
            (("refined", state), lambda: self._edited().image, words),
            (("map", state, size), self._overlaid, share),
        ]

    def _code(self) -> str:
        lines = [
            "style_only = one.generator.synthesis(one.latent)",
            f"relevance = one.editor.relevance(one.state, one.generator)[{self.controls['map'].value}]",
            "overlaid = ll.plots.overlay(image, relevance)",
        ]
        head = "import latentlab as ll\n\nedits = inv.editor.edits\n"
        return head + self.state.code(self.inv, shipped=False) + "\n".join([*lines, ""])


def refine(inv: Inversion, faces: FaceSet | None = None) -> Refiner:
    """Widget that edits the faces of an inversion by two branches, with a slider for the target of each attribute.

    It shows the picture of the style branch alone, the refined picture, and the relevance map of a resolution over it:
    blue where the content of the given picture is taken, orange where the edit is. Sliders are targets in standard
    deviations of each attribute. faces: the rendered faces that were inverted, shown beside them.
    """
    if not isinstance(inv.editor, TwoBranchEditor):
        raise ValueError(f"inv: expected an inversion by two_branch, got one by {inv.method}; make one with "
                         "ll.invert(images, G, 'two_branch', base=...)")  # fmt: skip
    if not inv.editor.network.config.resolutions:
        raise ValueError("inv: expected two branches with a content branch, got directions alone; edit with "
                         "inv.edit(inv.editor.edits[name], strength)")  # fmt: skip
    if faces is not None and faces.images.shape != inv.image.shape:
        raise ValueError(f"faces: expected those of the inversion, {tuple(inv.image.shape)}, got "
                         f"{tuple(faces.images.shape)}")  # fmt: skip
    return Refiner(inv, faces)
