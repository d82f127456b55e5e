"""Widget for two dimensions of W, P or PN: the density of the generator's codes, and the faces at a clicked point."""

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
from latentlab.priors import pn_norm
from latentlab.seeds import stream
from latentlab.spaces import Statistics, p_to_w, statistics_for, w_to_p
from latentlab.widgets.parts import Names, Panel, Picture, grid, quartet, row, slider

CODES = 10_000
REACH = 5.0  # distance from the mean to the edges of the map, in standard deviations
ORANGE = torch.tensor([1.0, 0.0, -0.9])[:, None, None]


@dataclass(frozen=True)
class Point:
    """A point in two dimensions of W, P or PN; ``at`` is its distance from the mean in standard deviations."""

    space: str = "PN"
    dims: tuple[int, int] = (0, 1)
    at: tuple[float, float] = (0.0, 0.0)

    def code(self, s: Statistics) -> Float[Tensor, "1 dim"]:
        """The point as a code of W; in all other dimensions of the space it is the mean."""
        if self.space not in SPACES or len({*self.dims} & {*range(len(s.mean))}) < 2:
            expected = f"two different dimensions below {len(s.mean)} of {' or '.join(SPACES)}"
            raise ValueError(f"dims, space: expected {expected}, got {self.dims} of {self.space}")
        mean, std, _, to_w = SPACES[self.space](s)
        code, dims = mean.clone(), list(self.dims)
        code[dims] += torch.tensor(self.at).to(std) * std[dims]
        return to_w(code)[None].float()


SPACES = {  # name -> mean, standard deviations, and the maps from W and to W
    "W": lambda s: (s.w_mean, s.w_covariance.diagonal().sqrt(), lambda w: w, lambda w: w),
    "P": lambda s: (s.mean, (s.eigenvectors.square() @ s.eigenvalues).sqrt(), w_to_p, p_to_w),
    "PN": lambda s: (torch.zeros_like(s.mean), torch.ones_like(s.mean), s.w_to_pn, s.pn_to_w),
}


class Pointer(anywidget.AnyWidget):
    """Reports clicks on the panel's first image, in fractions of its width and height from the top left."""

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

    def __init__(self, on_click: Callable[[float, float], Any]) -> None:
        super().__init__(layout=ipywidgets.Layout(height="0", margin="0", overflow="hidden"))
        self.on_msg(lambda _, content, buffers: on_click(*content["at"]))


class Spaces(Panel):
    """The widget that ``spaces`` returns. controls: space, first, second, x, y."""

    def __init__(self, G: nn.Module, start: Point) -> None:
        self.G, self.statistics, self._maps = G, statistics_for(G), {}
        start.code(self.statistics)  # raises for a bad point before anything is drawn
        z = torch.randn(CODES, G.z_dim, generator=stream(0, "latents")).to(G.w_avg)
        self.w, self.codes = G.mapping(z).detach().cpu(), {}
        for name, space in SPACES.items():
            mean, std, from_w, _ = space(self.statistics)
            self.codes[name] = (from_w(self.w) - mean.float()) / std.float()
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
        """The state of the controls."""
        space, *dims, x, y = (control.value for control in self.controls.values())
        return Point(space, tuple(dims), (round(x, 3), round(y, 3)))

    def click(self, across: float, down: float) -> None:
        """Moves the point to a clicked position of the map, in fractions of the image from the top left."""
        fractions = [(position - FRAME[0]) / FRAME[1] for position in (across, 1 - down)]
        x, y = (round(REACH * (2 * min(max(fraction, 0.0), 1.0) - 1), 1) for fraction in fractions)
        self.set(x=x, y=y)

    def _jobs(self) -> list[tuple[Point, Callable[[], Tensor], str]]:
        point, w = self.state, self.state.code(self.statistics)
        labels = [f"{point.space}[{i}]" for i in point.dims]
        codes = self.codes[point.space][:, list(point.dims)]
        near = (codes - torch.tensor(point.at)).norm(dim=1).topk(4, largest=False)
        position = ", ".join(f"{label} {a:+.1f}" for label, a in zip(labels, point.at, strict=True))
        norm, gap = float(pn_norm(w[:, None], self.statistics)), float(near.values[-1])
        return [
            (point, lambda: self._map(point, codes, labels), f"{position} standard deviations"),
            (point, lambda: self._faces(w), f"the mean in all other dimensions; pn_norm {norm:.2f} (1 is typical)"),
            (point, lambda: self._faces(self.w[near.indices]), f"up to {gap:.2f} away in these two dimensions"),
        ]

    def _map(self, point: Point, codes: Float[Tensor, "n 2"], labels: list[str]) -> Float[Tensor, "1 3 h w"]:
        """The density, drawn once for each pair of dimensions, with a cross at the point."""
        if (axes := (point.space, point.dims)) not in self._maps:
            self._maps = {axes: density(codes, labels, reach=REACH)}
        image, side = self._maps[axes].clone(), self._maps[axes].shape[-1]
        x, y = (round(side * (FRAME[0] + FRAME[1] * (a / REACH + 1) / 2)) for a in point.at)
        low, high = round(side * FRAME[0]), round(side * sum(FRAME))
        image[0, :, side - high : side - low, x - 1 : x + 1] = ORANGE
        image[0, :, side - y - 1 : side - y + 1, low:high] = ORANGE
        return image

    @torch.no_grad()
    def _faces(self, w: Float[Tensor, "n dim"]) -> Float[Tensor, "1 3 512 512"]:
        """One face, or four in two rows, at the size of the map."""
        images = self.G.synthesis(self.G.broadcast(w.to(self.G.w_avg))).cpu()
        sheet = quartet(images) if len(images) == 4 else images
        return F.interpolate(sheet, 512, mode="bicubic", antialias=True)

    def _code(self) -> str:
        lines = ["import latentlab as ll", "from latentlab.widgets.spaces import Point", "", f"point = {self.state}"]
        lines += ["w = point.code(ll.statistics_for(G)).to(G.w_avg)", "image = G.synthesis(G.broadcast(w))", ""]
        return "\n".join(lines)


def spaces(G: nn.Module, *, space: str = "PN", dims: tuple[int, int] = (0, 1)) -> Spaces:
    """Widget for two dimensions of a latent space: the density of the generator's codes, the face at a point of the
    map, and the faces of the four codes nearest to it in these dimensions. Click on the map or move the sliders.

    space: "W", "P" or "PN"; those of PN are sorted, dimension 0 has the largest variance in P. dims: two dimensions.
    """
    return Spaces(G, Point(space, dims))
