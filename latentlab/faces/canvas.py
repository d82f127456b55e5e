"""A canvas that is painted from back to front, with an optional record of the part that each pixel shows."""

from __future__ import annotations

from torch import Tensor

from latentlab.faces.geometry import Grid


class Canvas:
    """RGB images (N, 3, R, R) in [0, 1] to paint on and, with ``masks``, the fraction of each pixel by part."""

    def __init__(self, name: str, colour: Tensor, grid: Grid, masks: bool) -> None:
        shape = (colour.shape[0], 3, grid.resolution, grid.resolution)
        self.image = colour.expand(shape).contiguous()
        self.last: Tensor | None = None  # coverage of what was painted last
        self.parts: dict[str, Tensor] | None = None
        if masks:
            self.parts = {name: colour.new_ones(shape[0], 1, *shape[2:])}

    def paint(self, name: str, colour: Tensor, cover: Tensor) -> None:
        """Blends a colour over the image with the opacity ``cover`` (N, 1, R, R), recorded as the part ``name``."""
        self.image.lerp_(colour, cover)
        self.last = cover
        if self.parts is not None:
            self._hide(cover)
            self.parts[name] = self.parts.get(name, 0) + cover

    def tint(self, colour: Tensor, amount: Tensor) -> None:
        """Blends a colour over the image without recording a part: blush, creases, tinted glass."""
        self.image.lerp_(colour, amount)

    def darken(self, amount: Tensor) -> None:
        """Multiplies the image by ``1 - amount``."""
        self.image.mul_(1 - amount)

    def paste(self, other: Canvas, cover: Tensor) -> None:
        """Blends another canvas with its parts over this one, with the opacity ``cover``."""
        self.image.lerp_(other.image, cover)
        if self.parts is not None and other.parts is not None:
            self._hide(cover)
            for name, part in other.parts.items():
                self.parts[name] = self.parts.get(name, 0) + part * cover

    def _hide(self, cover: Tensor) -> None:
        self.parts = {name: part * (1 - cover) for name, part in self.parts.items()}
