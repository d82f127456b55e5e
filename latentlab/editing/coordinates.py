"""S or W+ as one vector a picture, in standard deviations, and how readings depend on it."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Direction, Edit, State
from latentlab.editing.samples import Read
from latentlab.editing.stylespace import StyleDirection, shift_styles, style_statistics
from latentlab.spaces import Statistics, statistics_for


@dataclass(frozen=True, eq=False)
class Coordinates:
    """A space of steps x, (C,) or (N, C): a step of 1 in a coordinate is one standard deviation of it over samples.

    space: "S", whose coordinates are all style channels, or "W+", all entries of all layers. scale: (C,) standard
    deviations, 0 for what is to stay. widths: how many coordinates each layer has.
    """

    space: Literal["S", "W+"]
    scale: Float[Tensor, " c"]
    widths: tuple[int, ...]

    def shift(self, state: State, x: Float[Tensor, "n c"], G: nn.Module) -> State:
        """The state moved by x, (N, C). Gradients pass."""
        steps = (x * self.scale.to(x)).split(self.widths, dim=-1)
        if self.space == "S":
            return shift_styles(state, steps, G)
        return replace(state, w_plus=state.w_plus + torch.stack(steps, 1))

    def edit(self, name: str, x: Float[Tensor, " c"], **about: str | float) -> Edit:
        """The straight line along x, (C,), as an edit. about: std, unit, source."""
        steps = (x.detach() * self.scale.to(x)).split(self.widths)
        if self.space == "S":
            return StyleDirection(name, tuple(steps), **about)
        return Direction(name, torch.stack(steps), **about)

    def jacobian(
        self, read: Read, state: State, G: nn.Module
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k c"]]:
        """What is read from the pictures of a state, (N, K), and its derivative with respect to x, (N, K, C)."""
        with torch.enable_grad():
            x = torch.zeros(len(state), len(self.scale)).to(state.w_plus).requires_grad_()
            readings = read(self.shift(state, x, G).draw(G))
            k = readings.shape[1]
            # pictures do not depend on one another's steps, so the gradient of a sum holds each one's own
            rows = [torch.autograd.grad(readings[:, i].sum(), x, retain_graph=i + 1 < k)[0] for i in range(k)]
        return readings.detach(), torch.stack(rows, 1)


@torch.no_grad()
def coordinates_of(
    G: nn.Module, space: str = "S", *, torgb: bool = False, statistics: Statistics | None = None
) -> Coordinates:
    """The coordinates of "S" (toRGB stays unless ``torgb``) or "W+" of a generator, by its ``statistics``."""
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    if space == "S":
        pairs = zip(G.style_layers, style_statistics(G, statistics).std, strict=True)
        scales = [std if torgb or layer.kind == "conv" else torch.zeros_like(std) for layer, std in pairs]
    elif space == "W+":
        scales = [statistics.w_covariance.diagonal().clamp(min=0).sqrt().to(G.w_avg)] * G.num_ws
    else:
        raise ValueError(f"space: expected 'S' or 'W+', got {space!r}")
    return Coordinates(space, torch.cat(scales), tuple(len(s) for s in scales))
