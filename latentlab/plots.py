"""Figures. Each function returns the Figure, Axes or image that it has drawn."""

import re
from collections.abc import Mapping, Sequence
from math import tau
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latentlab.images import to_uint8

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Positions of axes as (start, length), in fractions of the image from the left and from the bottom:
FRAME = 0.18, 0.79  # of ``density``, in both directions
ACROSS, PANELS = (0.18, 0.74), ((0.58, 0.33), (0.15, 0.31))  # of ``descent``, horizontally and of its two panels
OVERLAY = (1.0, 0.1, -0.8), (-0.8, -0.2, 0.6)  # of ``overlay``: colours in [-1, 1] for 0, orange, and for 1, blue


def show(
    images: Float[Tensor, "n 3 h w"], *, columns: int = 6, titles: Sequence[str] = (), size: float = 1.4
) -> "Figure":
    """A grid of images in [-1, 1], filled row by row; ``size`` is the side of an image in inches."""
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    captions = [list(titles[i : i + columns]) for i in range(0, len(images), columns)]
    return _sheet(rows, captions, [""] * len(rows), size)


def compare(rows: Mapping[str, Float[Tensor, "n 3 h w"]], *, titles: Sequence[str] = (), size: float = 1.4) -> "Figure":
    """One labelled row for each entry of ``rows``, with the same faces in the same columns; ``titles`` of columns."""
    captions = [list(titles)] + [[]] * (len(rows) - 1)
    return _sheet(list(rows.values()), captions, list(rows), size)


def _sheet(rows: Sequence[Tensor], captions: Sequence[Sequence[str]], labels: Sequence[str], size: float) -> "Figure":
    import matplotlib.pyplot as plt

    columns = max(len(row) for row in rows)
    heights = [size + 0.2 * max((title.count("\n") + 1.25 for title in c), default=0) for c in captions]
    lines = [line for label in labels for line in label.split("\n")]
    letters = (len(re.sub(r"\\\w+", "x", line).replace("$", "")) for line in lines)  # \lambda is one
    left = (0.15 + 0.07 * max(letters, default=0)) * any(labels)  # inches for the labels of the rows
    figsize = columns * size + left, sum(heights)
    figure, axes = plt.subplots(len(rows), columns, figsize=figsize, squeeze=False, layout="constrained")
    edge = 0.04 / figsize[0]  # inches: the layout is up to two pixels off the left end of a label
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0, rect=(edge, 0, 1 - edge, 1))
    for cells, row, titles, label in zip(axes, rows, captions, labels, strict=True):
        for ax in cells:
            ax.set(xticks=[], yticks=[], anchor="S")  # anchored at the bottom, so that titles get the free height
            ax.spines[:].set_visible(False)
        for ax, pixels in zip(cells, to_uint8(row), strict=False):
            ax.imshow(pixels, interpolation="lanczos")
        for ax, title in zip(cells, titles, strict=False):
            ax.set_title(title, fontsize=9)
        cells[0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
    return figure


def overlay(images: Float[Tensor, "n 3 r r"], maps: Float[Tensor, "n 1 p p"]) -> Float[Tensor, "n 3 r r"]:
    """Grey pictures with a map from 0 to 1 over each: orange where it is 0, blue where it is 1. The cells of a coarser
    map stay visible."""
    grey = images.clamp(-1, 1).mean(1, keepdim=True)
    m = F.interpolate(maps.to(images), images.shape[2:], mode="nearest-exact")
    zero, one = (images.new_tensor(colour).view(1, 3, 1, 1) for colour in OVERLAY)
    return 0.5 * grey + 0.5 * ((1 - m) * zero + m * one)


def close(figure: "Figure") -> None:
    """Closes a figure that was saved and will not be shown."""
    import matplotlib.pyplot as plt

    plt.close(figure)


def trace(values: Mapping[str, Float[Tensor, "steps n"]], *, ax: "Axes | None" = None, log: bool = True) -> "Axes":
    """Terms of a descent over its steps: mean and range over images."""
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


def training_curves(logs: Mapping[str, "pandas.DataFrame"], columns: Sequence[str]) -> "Figure":
    """Columns of training logs over the images seen, a panel each and a line for each run.

    The axis of "variation" is logarithmic from 10 on: runs differ in it by orders of magnitude, and e4e's begins at 0.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(columns), figsize=(3 * len(columns), 2.8), squeeze=False, layout="constrained"
    )  # fmt: skip
    colours = plt.get_cmap("tab10" if len(logs) <= 10 else "tab20")
    for ax, column in zip(axes[0], columns, strict=True):
        for i, (name, log) in enumerate(logs.items()):
            ax.plot(log["images"] / 1000, log[column], label=name, color=colours(i))
        ax.set(title={"identity": "1 - identity"}.get(column, column), xlabel="thousand images")
        if column == "variation":
            ax.set_yscale("symlog", linthresh=10)
        ax.set_ylim(0, None)
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, loc="outside right center", fontsize=8)
    return figure


def ellipses(
    mean: Float[Tensor, " 2"], covariance: Float[Tensor, "2 2"], *, radii: Sequence[float], ax: "Axes", **style: Any
) -> "Axes":
    """Contours of a normal distribution in the plane, at the Mahalanobis distances ``radii``.

    A fraction 1 - exp(-r^2 / 2) of the distribution lies within radius r. ``style`` is passed to the lines.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    angle = torch.linspace(0, tau, 100).to(eigenvalues)
    circle = eigenvectors @ (eigenvalues.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()]))
    for radius in radii:
        ax.plot(*(mean[:, None] + radius * circle), **style)
    return ax


def density(points: Float[Tensor, "n 2"], labels: Sequence[str], *, reach: float = 5.0) -> Float[Tensor, "1 3 512 512"]:
    """Two-dimensional histogram of points up to ``reach`` from 0, on a logarithmic scale, dark for dense.

    An image in [-1, 1]. Its axes are at ``FRAME``, so that clicks can be located and marks drawn into it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2, 3.2), dpi=160)
    ax = figure.add_axes((FRAME[0], FRAME[0], FRAME[1], FRAME[1]))
    ax.hist2d(*points.T.numpy(), bins=61, range=[(-reach, reach)] * 2, cmap="Blues", norm="log")
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return _pixels(figure)


def descent(
    terms: Mapping[str, Float[Tensor, " steps"]],
    at: Sequence[int],
    distance: Float[Tensor, " k"],
    along: str = "step",
    *,
    name: str = "pn_norm |v|²/D",
    typical: float = 1.0,
) -> Float[Tensor, "1 3 512 512"]:
    """Descent of one face: terms of its loss at every step (logarithmic), and below them its distance from W.

    distance: after the numbers of steps ``at``. along: name of the horizontal axis. name, typical: of the distance, and
    its typical value above 0, which a dashed line marks (default: those of pn_norm). Returns an image in [-1, 1]. Its
    axes span ``ACROSS``, from 0 to the last step, and ``PANELS``, so that marks can be drawn into it.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    figure = Figure(figsize=(3.2, 3.2), dpi=160)
    upper, lower = (figure.add_axes((ACROSS[0], bottom, ACROSS[1], height)) for bottom, height in PANELS)
    for i, (name, value) in enumerate(terms.items()):
        upper.plot(range(len(value)), value.cpu(), label=name, color=f"C{2 * i}")
    upper.set(yscale="log", xticklabels=[])
    low, high = upper.get_ylim()
    ticks = LogLocator(subs=(1, 3), numticks=3) if high > 5 * low else MaxNLocator(4, steps=[1, 2, 5, 10])
    upper.yaxis.set(major_locator=ticks, minor_locator=NullLocator())
    upper.set_visible(bool(terms))
    if terms:  # the legend is above the axes, where no mark is drawn
        spacing = {"borderpad": 0, "borderaxespad": 0.4, "handlelength": 1, "columnspacing": 1}
        upper.legend(frameon=False, ncols=len(terms), loc="lower left", bbox_to_anchor=(0, 1), **spacing)
    lower.axhline(typical, color="k", lw=0.8, ls="--")
    lower.plot(at, distance.cpu(), color="C4")
    least, most = (float(x) for x in distance.aminmax())
    if far := most > 10 * typical:  # the dashed line would lie on a linear axis
        lower.set(yscale="log", ylim=(0.8 * min(typical, least), 1.3 * most))
    else:
        lower.set_ylim(0, 1.1 * max(typical, most))
    lower.set_title(name, loc="left", fontsize=10)
    lower.set_xlabel(along, labelpad=0)
    places = LogLocator(subs=(1, 3), numticks=4) if far else MaxNLocator(4, steps=[1, 2, 5, 10])
    lower.yaxis.set(major_locator=places, minor_locator=NullLocator())
    for ax in (upper, lower):
        ax.set_xlim(0, at[-1])
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.tick_params(labelsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    return _pixels(figure)


def _pixels(figure: "Figure") -> Float[Tensor, "1 3 h w"]:
    """The pixels of a figure, in [-1, 1]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    (canvas := FigureCanvasAgg(figure)).draw()
    width, height = canvas.get_width_height()
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8).view(height, width, 4)
    return pixels[None, :, :, :3].permute(0, 3, 1, 2) / 127.5 - 1


def bars(summary: "pandas.DataFrame", measures: Sequence[str], *, size: float = 2.6) -> "Figure":
    """Means of ``summarize`` with their intervals: one panel per measure, one bar per method.

    Bars of measures with missing values are labelled with the fraction of NaN.
    """
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(summary["method"]))
    height = 0.8 + 0.3 * len(methods)
    figure, axes = plt.subplots(
        1, len(measures), figsize=(size * len(measures), height), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, measure in zip(axes[0], measures, strict=True):
        rows = _of(summary, measure).reindex(methods)
        errors = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.barh(methods, rows["mean"], xerr=errors, color="lightsteelblue", error_kw={"capsize": 3, "lw": 1})
        for y, missing in enumerate(rows["missing"]):
            if missing > 0:
                ax.text(0, y, f" {missing:.0%} NaN", fontsize=7, va="center")
        ax.axvline(0, color="k", lw=0.6)
        ax.set_title(measure.replace(" (", "\n("), fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    return figure


def plane(
    summary: "pandas.DataFrame", distortion: str, editability: str, *, oracle: str = "", ax: "Axes | None" = None
) -> "Axes":
    """The distortion-editability plane: one point per method with its intervals, and a line at 0 for no edit.

    oracle: a measure in the unit of ``editability``, drawn as a hollow mark above or below the point; its distance
    from the point is what the edit could still gain at that distortion.
    """
    import matplotlib.pyplot as plt

    ax = ax or plt.subplots(figsize=(4.6, 3.6), layout="constrained")[1]
    across, up = _of(summary, distortion), _of(summary, editability)
    for i, method in enumerate(up.index):
        x, y, style = across.loc[method], up.loc[method], {"color": f"C{i}", "lw": 1}
        mark = "osD^vP"[i % 6]  # methods that do nearly the same lie on top of one another
        ax.plot(x["mean"], y["mean"], mark, label=method, **style)
        ax.plot([x["low"], x["high"]], [y["mean"]] * 2, **style)
        ax.plot([x["mean"]] * 2, [y["low"], y["high"]], **style)
        if oracle:
            best = _of(summary, oracle)["mean"][method]
            ax.plot([x["mean"]] * 2, [y["mean"], best], ":", **style)
            ax.plot(x["mean"], best, mark, mfc="white", **style)
    if oracle:
        ax.scatter([], [], facecolors="white", edgecolors="0.4", label="hollow: oracle")
    ax.axhline(0, color="k", lw=0.6, ls="--", label="no edit")
    ax.set(xlabel=distortion, ylabel=editability)
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _of(summary: "pandas.DataFrame", measure: str) -> "pandas.DataFrame":
    rows = summary[summary["measure"] == measure].set_index("method")
    if not len(rows):
        known = ", ".join(dict.fromkeys(summary["measure"]))
        raise ValueError(f"measure: expected one of {known}; got {measure!r}")
    return rows
