"""Figures: every function draws on what it is given and returns the Figure or Axes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from latentlab.images import to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def show(
    images: Float[Tensor, "n 3 h w"], *, columns: int = 6, titles: Sequence[str] = (), size: float = 1.4
) -> "Figure":
    """A sheet of images in [-1, 1], row by row; ``size`` is inches an image."""
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    captions = [list(titles[i : i + columns]) for i in range(0, len(images), columns)]
    return _sheet(rows, captions, [""] * len(rows), size)


def compare(rows: Mapping[str, Float[Tensor, "n 3 h w"]], *, titles: Sequence[str] = (), size: float = 1.4) -> "Figure":
    """One labelled row of images each, the same faces in the same columns; ``titles`` stand over them."""
    captions = [list(titles)] + [[]] * (len(rows) - 1)
    return _sheet(list(rows.values()), captions, list(rows), size)


def _sheet(rows: Sequence[Tensor], captions: Sequence[Sequence[str]], labels: Sequence[str], size: float) -> "Figure":
    import matplotlib.pyplot as plt

    columns = max(len(row) for row in rows)
    heights = [size + 0.25 * bool(c) for c in captions]
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(columns * size + 1.2 * any(labels), sum(heights)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    for cells, row, titles, label in zip(axes, rows, captions, labels, strict=True):
        for ax in cells:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, pixels in zip(cells, to_uint8(row), strict=False):
            ax.imshow(pixels, interpolation="lanczos")
        for ax, title in zip(cells, titles, strict=False):
            ax.set_title(title, fontsize=9)
        cells[0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
    return figure


def close(figure: "Figure") -> None:
    """Lets go of a figure that was saved and will not be shown."""
    import matplotlib.pyplot as plt

    plt.close(figure)


def trace(values: Mapping[str, Float[Tensor, "steps n"]], *, ax: "Axes | None" = None, log: bool = True) -> "Axes":
    """Terms of a descent over its steps: the mean over images, and the range between them."""
    import matplotlib.pyplot as plt

    ax = ax or plt.subplots(figsize=(6, 3), layout="constrained")[1]
    for name, value in values.items():
        steps = range(1, len(value) + 1)
        (line,) = ax.plot(steps, value.mean(1).cpu(), label=name)
        ax.fill_between(steps, value.amin(1).cpu(), value.amax(1).cpu(), alpha=0.15, color=line.get_color())
    ax.set(xlabel="step", yscale="log" if log else "linear")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
