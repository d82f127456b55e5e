"""Widget that replays the descent of an inversion: the face at every recorded step, its target, the loss and the
distance from W."""

from collections.abc import Callable
from typing import NamedTuple

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.inversion.objective import check_images
from latentlab.inversion.result import Inversion
from latentlab.metrics import psnr
from latentlab.plots import ACROSS, PANELS, descent
from latentlab.priors import pn_norm
from latentlab.spaces import statistics_for
from latentlab.widgets.parts import SHOWN, Names, Panel, Picture, face_choice, row
from latentlab.widgets.selections import StepSelection

RECONSTRUCTION = ("mse", "perceptual")  # terms of a trace that compare images
ORANGE = torch.tensor([1.0, 0.0, -0.9])[:, None, None]
DURATION = 10_000  # ms that a replay takes, within these limits of a frame in ms:
SHORTEST, LONGEST = 100, 500
NARROWEST = 150  # least side of an image in CSS pixels


class Distance(NamedTuple):
    """A distance of recorded codes from W. values[k, n]: of face n after path_steps[k]. typical: of the generator's own
    codes, above 0."""

    name: str
    values: Float[Tensor, "k n"]
    typical: float = 1.0


class Scrubber(Panel):
    """The widget that ``scrub`` returns. controls: step and face."""

    def __init__(
        self,
        inv: Inversion,
        truth: Float[Tensor, "n 3 r r"] | None,
        along: str = "step",
        distance: Distance | None = None,
    ) -> None:
        if inv.path is None:
            raise ValueError(
                "inversion: expected one with a path, got none; invert with record=10 to keep every 10th step"
            )
        if truth is not None:
            check_images(truth, inv.generator)
            if len(truth) != len(inv):
                raise ValueError(f"truth: expected one image for each of {len(inv)} faces, got {len(truth)}")
        self.inv, self.truth, self.along, self._curves = inv, truth, along, {}
        self.distance = distance or _pn_norm(inv)
        given, expected = tuple(self.distance.values.shape), tuple(inv.path.shape[:2])
        if given != expected:
            raise ValueError(f"distance: expected values of shape {expected}, (steps, faces) of the path, got {given}")
        self._plot(0)  # so that the time of the first frame does not include the import of matplotlib
        self.play, steps, self.link = _player(inv.path_steps, along)
        face = face_choice(len(inv))
        face.style.description_width = "3em"
        target = [] if truth is None else [Picture("Target")]
        plot = Picture("Descent" if along == "step" else "Distance")
        super().__init__({"step": steps, "face": face}, [*target, Picture("Found"), plot], "scrub")
        for picture in self.pictures:  # below this width the plot is not readable, so the row wraps instead
            picture.layout.flex, picture.layout.max_width = f"1 1 {NARROWEST}px", f"{SHOWN}px"
        self.reset_button.layout.width = "6em"
        self.children = [
            row(self.pictures),
            row([self.play, steps, face, self.reset_button]),
            *(self.status, self.error, self.code, Names()),
        ]
        self.refresh()

    @property
    def state(self) -> StepSelection:
        """The state of the controls."""
        return StepSelection(self.controls["step"].value, self.controls["face"].value)

    def _jobs(self) -> list[tuple[StepSelection | int, Callable[[], Tensor], str]]:
        moment, face = self.state, self.state.face
        image, words = moment.image(self.inv), self._describe(moment)
        jobs = []
        if self.truth is not None:
            target = self.truth[face : face + 1].to(image)
            jobs = [(face, lambda: target, f"face {face}")]
            words += f", PSNR {float(psnr(image, target)):.1f} dB"
        name, values, typical = self.distance
        at_step = f"{self._moment(moment)}, {name} {values[moment.row(self.inv), face]:.3g} ({typical:.3g} is typical)"
        return [*jobs, (moment, lambda: image, words), (moment, lambda: self._descent(moment), at_step)]

    def _describe(self, moment: StepSelection) -> str:
        is_step = self.along == "step"
        return moment.describe(self.inv) if is_step else f"face {moment.face} {self._moment(moment)}"

    def _moment(self, moment: StepSelection) -> str:
        return f"after {moment.step} steps" if self.along == "step" else f"at {self.along} {moment.step}"

    def _descent(self, moment: StepSelection) -> Float[Tensor, "1 3 h w"]:
        """The curves with a vertical mark at the step."""
        image = self._plot(moment.face).clone()
        side = image.shape[-1]
        x = round(side * (ACROSS[0] + ACROSS[1] * moment.step / self.inv.path_steps[-1]))
        for bottom, height in PANELS if self._terms else PANELS[1:]:  # without terms the upper panel is not drawn
            image[0, :, side - round(side * (bottom + height)) : side - round(side * bottom), x - 1 : x + 2] = ORANGE
        return image

    def _plot(self, face: int) -> Float[Tensor, "1 3 h w"]:
        """The curves of a face, drawn once and cached."""
        if face not in self._curves:
            terms = {name: self.inv.trace[name][:, face] for name in self._terms}
            name, values, typical = self.distance
            curves = descent(terms, self.inv.path_steps, values[:, face], self.along, name=name, typical=typical)
            self._curves = {face: curves}
        return self._curves[face]

    @property
    def _terms(self) -> list[str]:
        """Names of the terms of the loss that are drawn."""
        trace = self.inv.trace
        return [name for name in RECONSTRUCTION if name in trace] or ["loss"] * ("loss" in trace)

    def _code(self) -> str:
        return self.state.code(self.inv)


def _pn_norm(inv: Inversion) -> Distance:
    """The pn_norm of the recorded codes; that of the inversion's trace may use other statistics."""
    norms = pn_norm(inv.path.flatten(0, 1), statistics_for(inv.generator))
    return Distance("pn_norm |v|²/D", norms.unflatten(0, inv.path.shape[:2]).cpu())


def _player(path_steps: list[int], along: str) -> tuple[ipywidgets.Play, ipywidgets.SelectionSlider, ipywidgets.Widget]:
    """A play control, a slider over the recorded steps, and the link between them in the browser."""
    last = len(path_steps) - 1
    interval = min(max(DURATION // (last + 1), SHORTEST), LONGEST)
    play = ipywidgets.Play(
        last, min=0, max=last, interval=interval, show_repeat=False, layout=ipywidgets.Layout(width="6em")
    )
    play.add_class("ll-play")
    steps = ipywidgets.SelectionSlider(
        options=path_steps,
        value=path_steps[-1],
        description=along,
        style={"description_width": "3em"},
        tooltip="recorded steps of the descent" if along == "step" else along,
        layout=ipywidgets.Layout(flex="1 1 200px"),
    )
    return play, steps, ipywidgets.jslink((play, "value"), (steps, "index"))


def scrub(
    inversion: Inversion,
    truth: Float[Tensor, "n 3 r r"] | None = None,
    *,
    along: str = "step",
    distance: tuple[str, Float[Tensor, "k n"], float] | None = None,
) -> Scrubber:
    """Widget that replays an inversion: each face at every recorded step, with curves of its loss and its distance from
    W.

    It has a play button and a slider, which also responds to the arrow keys.

    inversion: with a path, as from ``ll.invert(..., record=10)``; without one this raises ``ValueError``.
    truth: the target images, (N, 3, R, R) in [-1, 1], shown beside it together with the PSNR.
    along: what ``path_steps`` are, if not steps: "λ" where the path holds the results for several weights.
    distance: name, values and typical value (above 0) of the distance that is drawn; values[k, n] is that of face n
    after path_steps[k], on the CPU. By default it is the pn_norm, of which 1 is typical.

    All steps are drawn with the final noise maps. The last step shows the result of the inversion, which for a method
    that keeps its best iterate is not the last one computed.
    """
    return Scrubber(inversion, truth, along, distance and Distance(*distance))
