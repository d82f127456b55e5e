"""Widget that finds an edit from faces that are liked and disliked, and shows what it does to other faces."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import State, apply_edit
from latentlab.editing.files import save_edit
from latentlab.editing.lab import Finding, edit_from_choices, samples_for_effects
from latentlab.editing.samples import Samples
from latentlab.seeds import stream
from latentlab.widgets.parts import LABEL, Names, Panel, Picture, quartet, row
from latentlab.widgets.selections import free_paths

FACES, PAGE = 240, 12  # faces to choose from, and on a page
SHOWN_ON = 4  # of these faces, the last ones, the edit is shown on
STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
LARGEST = 6  # attributes in the table of effects
MARKS = {"no": -1, "–": 0, "yes": 1}
MEANINGS = ("is disliked", "counts neither way", "is liked")
WORDS = {-1: ", disliked", 0: "", 1: ", liked"}


@dataclass(frozen=True)
class Choice:
    """Liked and disliked faces, by their numbers among the ``FACES`` of a seed, and a name for their edit."""

    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()
    name: str = "my edit"
    seed: int = 0

    def codes(self, G: nn.Module) -> Float[Tensor, "n dim"]:
        """The codes of all faces to choose from."""
        z = torch.randn(FACES, G.z_dim, generator=stream(self.seed, "choices"))
        with torch.no_grad():
            return G.mapping(z.to(G.w_avg))

    def find(self, G: nn.Module, **knobs: Any) -> Finding:
        """The edit from disliked to liked faces. knobs: of ``edit_from_choices``."""
        return edit_from_choices(G, self.codes(G), self.liked, self.disliked, self.name, **knobs)

    def code(self, knobs: Sequence[str]) -> str:
        """Code that finds the edit as ``found`` and draws the last face with it, given a generator ``G``.

        knobs: names of the arguments of ``edit_from_choices`` that are passed on under the same names.
        """
        given = "".join(f", {knob}={knob}" for knob in knobs)
        return f"""\
import torch
import latentlab as ll
from latentlab.editing.lab import edit_from_choices
from latentlab.seeds import stream

w = G.mapping(torch.randn({FACES}, G.z_dim, generator=stream({self.seed}, "choices")).to(G.w_avg))
liked, disliked = {list(self.liked)}, {list(self.disliked)}
found = edit_from_choices(G, w, liked, disliked, {self.name!r}{given})
state = ll.State(G.broadcast(w[-{SHOWN_ON}:]))
images = ll.apply_edit(found.edit, state, torch.full(({SHOWN_ON},), {STRENGTHS[-1]}), G).draw(G)
"""


class Finder(Panel):
    """The widget that ``find`` returns. controls: page, name, and face_0 to face_11, the marks of the page's faces.

    marks: number of a face -> 1 (liked), -1 (disliked) or 0. finding: what was found last, None before.
    """

    columns = 6

    def __init__(self, G: nn.Module, start: Choice, knobs: dict[str, Any]) -> None:
        if outside := [i for i in (*start.liked, *start.disliked) if not 0 <= i < FACES]:
            raise ValueError(f"liked, disliked: expected numbers from 0 to {FACES - 1}, got {outside}")
        self.G, self.start, self.knobs, self.w = G, start, knobs, start.codes(G)
        self._samples: Samples | None = None
        self._drawn: dict[object, Tensor] = {}  # a page or the images of a strength
        page = ipywidgets.BoundedIntText(
            1, min=1, max=FACES // PAGE, description="page", style=LABEL, layout=ipywidgets.Layout(width="14em")
        )
        name = ipywidgets.Text(
            start.name, description="name", style=LABEL, continuous_update=False, layout=ipywidgets.Layout(width="20em")
        )
        self._buttons = [_mark_buttons() for _ in range(PAGE)]
        self._page, self._held = page, True
        self._begin()
        # Before the panel's own observers, so that marks and buttons agree when it redraws.
        page.observe(lambda _: self._turn(), "value")
        for k, buttons in enumerate(self._buttons):
            buttons.observe(partial(self._mark, k), "value")
        pictures = [*(Picture("Face") for _ in range(PAGE)), *(Picture(f"Strength {s:g}") for s in STRENGTHS)]
        controls = {"page": page, "name": name} | {f"face_{k}": b for k, b in enumerate(self._buttons)}
        super().__init__(controls, pictures, "find")
        self._lay_out()
        self.refresh()

    def _lay_out(self) -> None:
        cells = [ipywidgets.VBox(list(pair)) for pair in zip(self.pictures, self._buttons, strict=False)]
        for picture in self.pictures[:PAGE]:
            picture.layout = ipywidgets.Layout(max_width="140px", margin="0")
        columns = ipywidgets.Layout(grid_template_columns="repeat(auto-fill, minmax(150px, 1fr))", grid_gap="8px")
        next_button = self._button("Next faces", "the next page", "ll-next", self._next)
        self.find_button = self._button("Find", "an edit from disliked to liked faces", "ll-find-button", self.find)
        self.save_button = self._button("Save edit", "writes NAME.edit.safetensors", "ll-save", self._save)
        self.stem = ipywidgets.Text("my", description="file name", style=LABEL, layout=ipywidgets.Layout(width="20em"))
        self.stem.add_class("ll-stem")
        self.report = ipywidgets.HTML()
        self.report.add_class("ll-report")
        self.children = [
            ipywidgets.GridBox(cells, layout=columns),
            row([self.controls["page"], next_button, self.controls["name"], self.find_button, self.reset_button]),
            row(self.pictures[PAGE:], wrap=False),
            self.report,
            row([self.stem, self.save_button]),
            *(self.status, self.error, self.code, Names()),
        ]

    def _button(self, label: str, tip: str, name: str, action: Callable[[], object]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=label, tooltip=tip)
        button.add_class(name)
        button.on_click(lambda _: self.attempt(action))
        return button

    def _begin(self) -> None:
        """The state at the beginning: the marks that were given, and nothing found."""
        self.marks = dict.fromkeys(self.start.liked, 1) | dict.fromkeys(self.start.disliked, -1)
        self.finding: Finding | None = None
        self.found_from: Choice | None = None
        self._turn()

    @property
    def _first(self) -> int:
        """Number of the first face of the page."""
        return PAGE * (self._page.value - 1)

    def _mark(self, k: int, change: dict[str, Any]) -> None:
        self.marks[self._first + k] = change["new"]

    def _turn(self) -> None:
        """Shows the page's marks on the buttons."""
        held, self._held = self._held, True
        for i, buttons in enumerate(self._buttons, self._first):
            buttons.tooltips = [f"face {i} {meaning}" for meaning in MEANINGS]
            buttons.value = self.marks.get(i, 0)
        self._held = held

    def _next(self) -> None:
        self._page.value = self._page.value % self._page.max + 1

    @property
    def state(self) -> Choice:
        """The marks on all pages and the name."""
        liked, disliked = (tuple(sorted(i for i, mark in self.marks.items() if mark == m)) for m in (1, -1))
        return Choice(liked, disliked, self.controls["name"].value, self.start.seed)

    def find(self) -> Finding:
        """Finds the edit of the marked faces, shows what it does, and returns it."""
        choice, self.find_button.disabled = self.state, True
        self.say("finding the edit, and what it does to samples")
        try:
            self.finding = choice.find(self.G, **self.knobs | self._shared())
        finally:
            self.find_button.disabled = False
        self.found_from = choice
        self.refresh()
        return self.finding

    def _shared(self) -> dict[str, Samples | None]:
        """Samples for the effect, the same as ``edit_from_choices`` draws at each call, drawn once."""
        if "samples" in self.knobs:
            return {}
        self._samples = self._samples or samples_for_effects(self.G, self.knobs.get("read"), self.knobs.get("names"))
        return {"samples": self._samples}

    def reset(self) -> None:
        """Goes back to the marks at the beginning; what was found is forgotten."""
        self._begin()
        super().reset()

    def _jobs(self) -> list[tuple[Any, Callable[[], Tensor], str]]:
        jobs = []
        for k in range(PAGE):
            i, page = self._first + k, self._page.value
            mark = self.marks.get(i, 0)
            jobs.append(((i, mark), lambda k=k, page=page: self._faces(page)[k : k + 1], f"{i}{WORDS[mark]}"))
        for s in STRENGTHS:
            what = f"{self.found_from.name} on four faces" if self.finding else "nothing found yet"
            jobs.append(((self.found_from, s), partial(self._edited, s), what))
        return jobs

    def _draw(self) -> None:
        for picture in self.pictures[PAGE:]:
            picture.layout.display = None if self.finding else "none"
        self.report.value = "" if self.finding is None else _report(self.finding, self.found_from == self.state)
        super()._draw()

    @torch.no_grad()
    def _faces(self, page: int) -> Float[Tensor, "n 3 r r"]:
        """The faces of a page, drawn once and kept until the next."""
        if page not in self._drawn:
            w = self.w[PAGE * (page - 1) : PAGE * page]
            self._drawn = {page: self.G.synthesis(self.G.broadcast(w))}
        return self._drawn[page]

    @torch.no_grad()
    def _edited(self, strength: float) -> Float[Tensor, "1 3 s s"]:
        state = State(self.G.broadcast(self.w[-SHOWN_ON:]))
        if self.finding is not None:
            strengths = torch.full((SHOWN_ON,), strength).to(self.w)
            state = apply_edit(self.finding.edit, state, strengths, self.G)
        return quartet(state.draw(self.G))

    def _save(self) -> None:
        if self.finding is None:
            raise ValueError("edit: expected one to save, got none; mark faces with yes and no and press Find")
        (path,) = free_paths(self.stem.value.strip(), ".edit.safetensors")
        save_edit(path, self.finding.edit, self.G)
        self.say(f"wrote {path}; load_edit of latentlab.editing.files reads it")

    def _code(self) -> str:
        return (self.found_from or self.state).code(tuple(self.knobs))


def _mark_buttons() -> ipywidgets.ToggleButtons:
    return ipywidgets.ToggleButtons(
        options=list(MARKS.items()),
        value=0,
        style={"button_width": "46px"},
        layout=ipywidgets.Layout(margin="0"),
    )


def _report(finding: Finding, current: bool) -> str:
    """What speaks for an edit, in HTML: agreement, and its largest effects."""
    agreement = "too few to leave some out" if math.isnan(finding.agreement) else f"{finding.agreement:.2f}"
    parts = [f"agreement with marks left out: {agreement} (1: the others predict them, 0: they do not)"]
    parts += [] if current else ["marks or name have changed since: press Find again"]
    table = ""
    if finding.effect is None:
        parts += ["nothing reads pictures of this size: no effect measured"]
    else:
        parts += ["largest effects of strength 1 on samples, in standard deviations:"]
        rows = finding.effect.table().head(LARGEST)
        table = rows.to_html(formatters={"mean": "{:+.2f}".format, "scatter": "{:.2f}".format}, border=0, col_space=70)
    lines = "".join(f"<div>{html.escape(part)}</div>" for part in parts) + table
    return f'<div style="color: var(--jp-ui-font-color1); line-height: 1.4">{lines}</div>'


def find(
    G: nn.Module,
    *,
    liked: Sequence[int] = (),
    disliked: Sequence[int] = (),
    name: str = "my edit",
    seed: int = 0,
    **knobs: Any,
) -> Finder:
    """Widget that finds an edit: mark faces with yes and no, page by page, give the edit a name and press Find.

    It then shows the edit at strengths from -2 to 2 on four faces that are on the last page, how well it predicts marks
    that were left out, and the attributes that strength 1 moves most, in standard deviations; and saves it.

    liked, disliked: faces marked at the beginning, by their numbers. seed: of the faces. knobs: of
    ``edit_from_choices``: statistics, lambda_ridge, and read, names and samples for the effect.
    """
    return Finder(G, Choice(tuple(liked), tuple(disliked), name, seed), knobs)
