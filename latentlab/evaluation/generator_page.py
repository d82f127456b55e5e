"""The page of the table of generators: the settings that were tried, and what each makes of W and of the pictures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentlab.evaluation.benchmark_page import markdown_table
from latentlab.evaluation.generators import LEARNED, STEPS, open_generator
from latentlab.faces import MAIN_NAMES
from latentlab.seeds import stream

if TYPE_CHECKING:
    import pandas

SHOWN = 12  # samples of each generator in the picture
SETTINGS = {
    "mapping_layers": "mapping layers", "path_length_weight": "path length",
    "mapping_learning_rate": "rate of the mapping", "seed": "seed", "images": "images",
}  # fmt: skip
SPACE = {
    "effective_dimension": "effective dimension", "axes_below_floor": "axes below the floor",
    "mapping_moved": "mapping moved by", "r2_w": "R2 on W", "r2_pn": "R2 on PN", "path_length_variation": "path length",
}  # fmt: skip
STEP = {
    "leakage": "leakage", "systematic": "systematic", "scatter": "scatter", f"leakage {LEARNED}": LEARNED,
    f"learned leakage {LEARNED}": f"{LEARNED}, learned in S", f"learned reached {LEARNED}": "which reaches",
}  # fmt: skip
PICTURES = {
    "ks": "KS distance", "fid_judges": "FID, judge", "fid_losses": "FID, losses", "ii2s psnr_db": "ii2s: PSNR, dB",
    "ii2s pn_norm": "ii2s: pn_norm", "sg2_w psnr_db": "sg2_w: PSNR, dB", "sg2_w pn_norm": "sg2_w: pn_norm",
}  # fmt: skip


def describe_generators(table: "pandas.DataFrame") -> str:
    """The table of ``measure_generators`` as a page of Markdown."""
    parts = (
        "# Generators, measured",
        "Written by `latentlab benchmark --only generators --generator NAME_OR_RUN ..`. The settings: number of layers "
        "of the mapping network; weight of path-length regularisation; learning rate of the mapping network relative "
        "to that of the rest; seed; images seen. `faces-64` began with the weights of `faces-64-deep`, except for a "
        "new mapping network.",
        _section(table, "Settings", SETTINGS),
        "![Samples that nobody has chosen](generators.png)\n\n*The first samples of each generator whose weights were "
        "at hand when this page was written, from the same random vectors, without truncation.*",
        "In the tables below, ± is half of the 95 % interval (jackknife of ten groups of samples, codes or faces; it "
        "says nothing of how a number varies with the seed of the training).",
        _section(table, "The space W", SPACE),
        "Effective dimension: participation ratio of the eigenvalues of P (notebook 02, Eq. 4). Mapping moved by: mean "
        "over its layers of the relative change of the weights since the beginning of its training. R2: of a linear "
        "regression of the judge's readings on codes, on samples that it has not seen, median over 36 factors. Path "
        "length: its coefficient of variation over codes.",
        _section(table, "A straight step in W", STEP),
        "The same simple direction for all, by linear regression on W, at the strength where the judge sees its factor "
        f"move by one standard deviation on average over 100 samples; means over {', '.join(MAIN_NAMES)}. Leakage: "
        "mean absolute change of the other factors, in standard deviations; systematic: of their mean changes; "
        f"scatter: the standard deviation of their changes over samples. Last: the leakage for {LEARNED} alone, of the "
        "direction in W and of an edit learned in S, and the change that the latter reaches (1 is asked for).",
        _section(table, "Pictures and inversions", PICTURES),
        "KS distance: between the judge's readings of samples and of renders, mean over 36 factors. FID: between the "
        "same by features of the identity judge and of the losses' attribute network, comparable within a column only. "
        f"Inversions of the 40 clean faces of the real set, {STEPS} steps: the search `ii2s` in W+, `sg2_w` in W; "
        "pn_norm is about 1 for the generator's own codes.",
        _section(table, "KS distance of the main factors", {f"ks {name}": name for name in MAIN_NAMES}),
        _section(table, "Spread of the main factors", {f"spread {name}": name for name in MAIN_NAMES}),
        "Standard deviation of the judge's readings of samples, divided by that of renders: 1 is right, below 1 the "
        "generator varies the factor too little.",
    )
    return "\n\n".join(parts) + "\n"


def _section(table: "pandas.DataFrame", title: str, columns: Mapping[str, str]) -> str:
    rows = [[f"`{row['generator']}`", *(_cell(row, name) for name in columns)] for row in table.to_dict("records")]
    return f"## {title}\n\n{markdown_table(['generator', *columns.values()], rows)}"


def _cell(row: Mapping[str, Any], name: str) -> str:
    """A value and half of its interval, if it has one; with two digits of the latter."""
    value = row.get(name, float("nan"))
    if value != value:
        return ""
    if f"{name} low" not in row:
        return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
    half = (row[f"{name} high"] - row[f"{name} low"]) / 2
    digits = max(0, 1 - int(f"{half:.0e}".split("e")[1])) if half > 0 else 2
    return f"{value:.{digits}f} ± {half:.{digits}f}"


@torch.no_grad()
def rows_of_samples(sources: list[str]) -> dict[str, Tensor]:
    """The first samples of each generator by name, from the same random vectors."""
    found = {}
    for source in sources:
        opened = open_generator(source)
        z = torch.randn(SHOWN, opened.G.z_dim, generator=stream(0, "samples of generators"))
        found[opened.name] = opened.G(z).clamp(-1, 1)
    return found
