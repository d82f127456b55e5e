"""See two dimensions of W, P or PN: where the generator's codes are dense, and which faces lie where one clicks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anywidget
import ipywidgets
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.plots import FRAME, density
from latentlab.seeds import stream
from latentlab.spaces import Statistics, p_to_w, statistics_for, w_to_p
from latentlab.widgets.parts import Names, Panel, Picture, grid, row, slider

CODES = 10_000
REACH = 5.0  # standard deviations from the mean to the edges of the map
ORANGE = torch.tensor([1.0, 0.0, -0.9])[:, None, None]


@dataclass(frozen=True)
class Point:
    """A point in two dimensions of W, P or PN, ``at`` in standard deviations from the mean."""

    space: str = "PN"
    dims: tuple[int, int] = (0, 1)
    at: tuple[float, float] = (0.0, 0.0)

    def code(self, s: Statistics) -> Float[Tensor, "1 dim"]:
        """The code of W there; all its other dimensions are the mean's."""
        if self.space not in SPACES or len({*self.dims} & {*range(len(s.mean))}) < 2:
            raise ValueError(f"two dimensions of {', '.join(SPACES)} are wanted, not {self.dims} of {self.space}")
        mean, std, _, leave = SPACES[self.space](s)
        code, dims = mean.clone(), list(self.dims)
        code[dims] += torch.tensor(self.at).to(std) * std[dims]
        return leave(code)[None].float()


SPACES = {  # mean, standard deviations, and the maps from W and back
    "W": lambda s: (s.w_mean, s.w_covariance.diagonal().sqrt(), lambda w: w, lambda w: w),
    "P": lambda s: (s.mean, (s.eigenvectors.square() @ s.eigenvalues).sqrt(), w_to_p, p_to_w),
    "PN": lambda s: (torch.zeros_like(s.mean), torch.ones_like(s.mean), s.w_to_pn, s.pn_to_w),
}


class Pointer(anywidget.AnyWidget):
    """Tells where in the panel's first picture one clicks, in shares of its width and height from the top left."""

    _esm = """
    export default { render({ model, el }) {
      const ends = new AbortController();
      const attach = () => {
        if (!el.isConnected) return ends.signal.aborted || requestAnimationFrame(attach);
        el.closest(".ll-panel").addEventListener("click", event => {
          const img = event.target.closest(".ll-picture:first-child .ll-image"), box = img?.getBoundingClientRect();
          if (img) model.send({ at: [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height] });
        }, { signal: ends.signal });
      };
      attach();
      return () => ends.abort();
    } };
    """

    def __init__(self, told: Callable[[float, float], Any]) -> None:
        super().__init__(layout=ipywidgets.Layout(height="0", margin="0", overflow="hidden"))
        self.on_msg(lambda _, content, buffers: told(*content["at"]))


class Spaces(Panel):
    """The widget that ``spaces`` returns. controls: space, first, second, x, y."""

    def __init__(self, G: nn.Module, start: Point) -> None:
        self.G, self.statistics, self._maps = G, statistics_for(G), {}
        start.code(self.statistics)  # a point that there is not is refused before anything is drawn
        z = torch.randn(CODES, G.z_dim, generator=stream(0, "latents")).to(G.w_avg)
        self.w, self.codes = G.mapping(z).detach().cpu(), {}
        for name, space in SPACES.items():
            mean, std, enter, _ = space(self.statistics)
            self.codes[name] = (enter(self.w) - mean.float()) / std.float()
        form = {"style": {"description_width": "6.5em"}, "layout": ipywidgets.Layout(width="12.5em")}
        controls = {"space": ipywidgets.Dropdown(options=[*SPACES], value=start.space, description="space", **form)}
        for key, label, i in zip(("first", "second"), ("across", "up"), start.dims, strict=True):
            controls[key] = ipywidgets.BoundedIntText(i, max=G.w_dim - 1, description=f"axis {label}", **form)
        for key, label in (("x", "point across"), ("y", "point up")):
            controls[key] = slider(label, 0.0, -REACH, REACH, 0.1, "in standard deviations from the mean")
        pictures = [Picture("Density of codes"), Picture("Face at the point"), Picture("Nearest codes")]
        super().__init__(controls, pictures, "spaces")
        *head, x, y = controls.values()
        tail = (self.status, self.error, self.code, Names(), Pointer(self.click))
        self.children = [row(self.pictures, wrap=False), row([*head, self.reset_button]), grid([x, y]), *tail]
        self.refresh()

    @property
    def state(self) -> Point:
        """What the controls say."""
        space, *dims, x, y = (control.value for control in self.controls.values())
        return Point(space, tuple(dims), (round(x, 3), round(y, 3)))

    def click(self, across: float, down: float) -> None:
        """Moves the point to where the map was clicked."""
        shares = [(share - FRAME[0]) / FRAME[1] for share in (across, 1 - down)]
        x, y = (round(REACH * (2 * min(max(share, 0.0), 1.0) - 1), 1) for share in shares)
        self.set(x=x, y=y)

    def _jobs(self) -> list[tuple[Point, Callable[[], Tensor], str]]:
        point, w = self.state, self.state.code(self.statistics)
        labels = [f"{point.space}[{i}]" for i in point.dims]
        places = self.codes[point.space][:, list(point.dims)]
        near = (places - torch.tensor(point.at)).norm(dim=1).topk(4, largest=False)
        there = ", ".join(f"{label} {a:+.1f}" for label, a in zip(labels, point.at, strict=True))
        far, gap = float(self.statistics.w_to_pn(w).square().mean()), float(near.values[-1])
        return [
            (point, lambda: self._map(point, places, labels), f"{there} standard deviations"),
            (point, lambda: self._faces(w), f"the rest is the mean's; |v|\u00b2 / D = {far:.2f}"),
            (point, lambda: self._faces(self.w[near.indices]), f"up to {gap:.2f} away; the rest is their own"),
        ]

    def _map(self, point: Point, places: Float[Tensor, "n 2"], labels: list[str]) -> Float[Tensor, "1 3 h w"]:
        """The density, drawn once for two dimensions, with the point as a cross."""
        if (axes := (point.space, point.dims)) not in self._maps:
            self._maps = {axes: density(places, labels, reach=REACH)}
        image, side = self._maps[axes].clone(), self._maps[axes].shape[-1]
        x, y = (round(side * (FRAME[0] + FRAME[1] * (a / REACH + 1) / 2)) for a in point.at)
        low, high = round(side * FRAME[0]), round(side * sum(FRAME))
        image[0, :, side - high : side - low, x - 1 : x + 1] = ORANGE
        image[0, :, side - y - 1 : side - y + 1, low:high] = ORANGE
        return image

    @torch.no_grad()
    def _faces(self, w: Float[Tensor, "n dim"]) -> Float[Tensor, "1 3 512 512"]:
        """One face, or four as two by two, at the size of the map."""
        images = self.G.synthesis(self.G.broadcast(w.to(self.G.w_avg))).cpu()
        sheet = torch.cat([torch.cat(list(line), 2) for line in images.split(2)], 1)
        return F.interpolate(sheet[None], 512, mode="bicubic", antialias=True)

    def _code(self) -> str:
        lines = ["import latentlab as ll", "from latentlab.widgets.spaces import Point", "", f"point = {self.state}"]
        lines += ["w = point.code(ll.statistics_for(G)).to(G.w_avg)", "image = G.synthesis(G.broadcast(w))", ""]
        return "\n".join(lines)


def spaces(G: nn.Module, *, space: str = "PN", dims: tuple[int, int] = (0, 1)) -> Spaces:
    """Two dimensions of a latent space, live: the density of the generator's codes, the face at a point that one
    clicks (or moves by two sliders), and the four codes nearest to it.

    space: "W", "P" or "PN", whose dimensions are sorted: number 0 has the largest variance in P.
    """
    return Spaces(G, Point(space, dims))
