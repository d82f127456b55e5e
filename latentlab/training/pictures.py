"""A folder of pictures as training data."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.images import SUFFIXES, read_image
from latentlab.seeds import stream


class PictureFolder:
    """The pictures of a folder in an endless random order, each half of the time mirrored, as ``train`` takes them.

    Every epoch has an order of its own, which depends on the seed only. A file that cannot be read is named once in a
    warning and left out, and the next one of the epoch takes its place; ``broken`` holds them. Pictures are cropped to
    their central square and resized, see ``read_image``: faces should be aligned before (``latentlab align``).
    """

    def __init__(self, folder: str | Path, resolution: int, seed: int = 0) -> None:
        self.folder, self.resolution, self.seed = Path(folder), resolution, seed
        if not self.folder.is_dir():
            raise ValueError(f"data: expected a folder of pictures, got {folder}, which is none")
        self.files = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise ValueError(f"data: expected pictures ({', '.join(SUFFIXES)}) in {folder}, got a folder without any")
        self.broken: dict[Path, str] = {}

    def __call__(self, start: int, n: int, device: torch.device) -> Float[Tensor, "n 3 r r"]:
        """The pictures start .. start + n - 1 of the sequence, (N, 3, R, R) in [-1, 1]."""
        return torch.cat([self._picture(i) for i in range(start, start + n)]).to(device)

    def _picture(self, i: int) -> Float[Tensor, "1 3 r r"]:
        for file in self._candidates(i):
            try:
                image, _ = read_image(file, self.resolution)
            except (ValueError, OSError) as error:
                if file not in self.broken:
                    self.broken[file] = str(error)
                    warnings.warn(f"{error}; left out, {len(self.broken)} of {len(self.files)} so far", stacklevel=4)
                continue
            mirrored = torch.rand(1, generator=stream(self.seed, "mirrored", i)) < 0.5
            return image.flip(3) if mirrored else image
        raise ValueError(f"data: expected pictures in {self.folder}, got {len(self.files)} files that cannot be read")

    def _candidates(self, i: int) -> Iterator[Path]:
        """The file of place i, and those that may take its place."""
        epoch, place = divmod(i, len(self.files))
        order = torch.randperm(len(self.files), generator=stream(self.seed, "order of files", epoch)).tolist()
        yield from (self.files[order[(place + k) % len(order)]] for k in range(len(order)))
