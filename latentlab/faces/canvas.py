"""Painting from back to front, with an optional record of what is visible where."""

from __future__ import annotations

from torch import Tensor

from latentlab.faces.geometry import Grid


class Canvas:
    """An RGB picture (N, 3, R, R) in 0..1 to paint on, and the share of each pixel that every part takes."""

    def __init__(self, name: str, colour: Tensor, grid: Grid, masks: bool) -> None:
        shape = (colour.shape[0], 3, grid.resolution, grid.resolution)
        self.image = colour.expand(shape).contiguous()
        self.last: Tensor | None = None  # coverage of what was painted last
        self.parts: dict[str, Tensor] | None = None
        if masks:
            self.parts = {name: colour.new_ones(shape[0], 1, *shape[2:])}

    def paint(self, name: str, colour: Tensor, cover: Tensor) -> None:
        """Lay a colour over the picture where ``cover`` (N, 1, R, R) says, and record it as a part."""
        self.image.lerp_(colour, cover)
        self.last = cover
        if self.parts is not None:
            self._hide(cover)
            self.parts[name] = self.parts.get(name, 0) + cover

    def tint(self, colour: Tensor, amount: Tensor) -> None:
        """Change the colour without changing what is visible: shadows, blush, wrinkles."""
        self.image.lerp_(colour, amount)

    def darken(self, amount: Tensor) -> None:
        """Multiply the picture by ``1 - amount``."""
        self.image.mul_(1 - amount)

    def paste(self, other: Canvas, cover: Tensor) -> None:
        """Lay another canvas over this one, with all its parts."""
        self.image.lerp_(other.image, cover)
        if self.parts is not None and other.parts is not None:
            self._hide(cover)
            for name, part in other.parts.items():
                self.parts[name] = self.parts.get(name, 0) + part * cover

    def _hide(self, cover: Tensor) -> None:
        self.parts = {name: part * (1 - cover) for name, part in self.parts.items()}
