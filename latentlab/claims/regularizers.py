"""Three answers to one question, how to keep codes editable, side by side: II2S's Mahalanobis prior, e4e's two
principles and LSAP's SNCD, at every weight and configuration.

Optimisers are measured on descents that claims share; encoders are read from the table of their runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from latentlab.claims.alignment import lsap_o
from latentlab.claims.encoder_runs import is_measured, rows_of_runs
from latentlab.claims.inversion import PAPER_STEPS, ii2s
from latentlab.claims.rules import ALIGNED_EDITS, LAMBDAS, LAMBDAS_E, LAMBDAS_O
from latentlab.claims.runs import KINDS, Bench, Run
from latentlab.evaluation.intervals import confidence_interval
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRENGTH = 1.0  # of the edits: the truth changes by one standard deviation
FAMILIES = ("II2S", "LSAP_O", "e4e", "LSAP_E")
EDITED = ("error", "gain", "residual", "leakage")  # of edits at matched strength, means over the factors
MEASURES = {"psnr_db": "PSNR, dB", "error": "total error", "gain": "gain", "residual": "residual",
            "leakage": "leakage"}  # fmt: skip
_MEMBER = ["faces", "family", "setting"]
# Where a setting's name stands in the plot: encoders lie close together, one family's names left, the other's right.
_BESIDE = {"LSAP_E": {"xytext": (-4, 0), "ha": "right", "va": "center"}, "e4e": {"xytext": (3, -2), "va": "top"}}
_ABOVE: dict[str, Any] = {"xytext": (2, 4), "rotation": 50}


@dataclass(frozen=True)
class Member:
    """One weight or configuration of a family. run: the descent, None for an encoder; name: of the encoder's run."""

    family: str
    setting: str
    run: Run | None = None
    name: str = ""


def members(bench: Bench) -> Iterator[Member]:
    """What is compared: all weights of the optimisers, and the encoders whose runs are measured."""
    yield from (Member("II2S", f"{x:g}", ii2s(x, PAPER_STEPS if bench.full else 40)) for x in LAMBDAS)
    yield from (Member("LSAP_O", f"{x:g}", lsap_o(bench, x)) for x in LAMBDAS_O)
    encoders = [Member("e4e", x, name=x) for x in "ABCD"]
    encoders += [Member("LSAP_E", f"{x:g}", name=f"L{x:g}") for x in LAMBDAS_E]
    yield from (member for member in encoders if is_measured([member.name], bench))


@torch.no_grad()
def measure_regularizers(
    bench: Bench, n: int = 40, say: Callable[[str], object] = lambda text: None
) -> "pandas.DataFrame":
    """A row for each member, kind, face and one of LSAP's three factors: family, setting, PSNR, and ``EDITED``.

    n: faces of each kind. The edits are those of ``evaluation.evaluate`` at matched strength, NaN where there is none.
    """
    import pandas

    tables = []
    for kind in KINDS:
        faces, device = bench.faces_of(kind, n), bench.G.w_avg.device
        faces = FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))
        for member in members(bench):
            say(f"{kind} faces, {member.family} {member.setting}")
            if member.run is None:
                rows = rows_of_runs([member.name], kind, n, bench)[member.name]
            else:
                found = bench.find(member.run, kind, n)
                made = {member.family: Inversion(found.state, found.image, bench.G, member.family)}
                asked = [(factor, STRENGTH) for factor in ALIGNED_EDITS]
                rows = evaluate(made, faces, load_judges(device=device), edits=asked, matched=True)
            keys = {"family": member.family, "setting": member.setting, "faces": kind, "image": range(len(rows))}
            for factor in ALIGNED_EDITS:
                columns = {what: rows[f"{factor}{STRENGTH:+g} {what}"].to_numpy() for what in EDITED}
                columns = {"factor": factor, "psnr_db": rows["psnr_db"].to_numpy()} | columns
                tables.append(pandas.DataFrame(keys | columns))
    return pandas.concat(tables, ignore_index=True)


def compare_families(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Paired differences between families, each at the setting with the smallest total error on the *other* kind of
    faces, so that no setting is chosen on the faces that it is judged on: mean and 95 % interval (Student's t).

    The difference of a face is the mean over the factors for which both have a strength that matches. Edits that one
    of them cannot make are left out of both, for they are the difficult ones.
    """
    import pandas

    best = _over_factors(table).groupby(_MEMBER, sort=False)["error"].mean().reset_index()
    rows = []
    for kind, other in (KINDS, KINDS[::-1]):
        ranked = best[best["faces"] == other].sort_values("error", kind="stable").groupby("family").first()
        chosen = {f: ranked.loc[f, "setting"] for f in FAMILIES if f in ranked.index}
        own = {f: _part(table, kind, f, s) for f, s in chosen.items()}
        for a, b in combinations(chosen, 2):
            row = {"faces": kind, "first": f"{a} {chosen[a]}", "second": f"{b} {chosen[b]}"}
            for what in MEASURES:
                difference = (own[a][what] - own[b][what]).groupby("image").mean()
                low, high = confidence_interval(difference.to_numpy())
                row |= {what: float(difference.mean()), f"{what} low": low, f"{what} high": high}
            rows.append(row)
    return pandas.DataFrame(rows)


def _part(table: "pandas.DataFrame", kind: str, family: str, setting: str) -> "pandas.DataFrame":
    rows = table[(table["faces"] == kind) & (table["family"] == family) & (table["setting"] == setting)]
    return rows.set_index(["image", "factor"])


def _over_factors(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Means over the factors of each face, and the share of its edits for which a strength matches."""
    known = table.assign(matched=table["error"].notna().astype(float))
    return known.groupby([*_MEMBER, "image"], sort=False)[[*MEASURES, "matched"]].mean().reset_index()


def draw_regularizers(table: "pandas.DataFrame") -> "Figure":
    """Total error, gain and residual of edits against PSNR by kind: means with pale 95 % intervals, a line through the
    weights of each family."""
    import matplotlib.pyplot as plt

    shown = ("error", "gain", "residual")
    figure, axes = plt.subplots(2, len(shown), figsize=(13, 8), layout="constrained", sharex="row")
    faces = _over_factors(table)
    families = [family for family in FAMILIES if family in set(faces["family"])]
    for row, kind in zip(axes, KINDS, strict=True):
        for ax, what in zip(row, shown, strict=True):
            for color, family in enumerate(families):
                part = faces[(faces["faces"] == kind) & (faces["family"] == family)]
                line = "o" if family == "e4e" else "o-"  # its configurations are no weights
                _draw_family(ax, part, what, fmt=line, color=f"C{color}", label=family)
            ax.set(title=f"{MEASURES[what]} of edits, {kind} faces", xlabel="PSNR of the inversion, dB")
            ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].axhline(1, color="k", lw=0.8, ls=":")
    axes[1, 0].axhline(1, color="k", lw=0.8, ls=":")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(families), frameon=False)
    return figure


def _draw_family(ax: "Axes", part: "pandas.DataFrame", what: str, *, fmt: str, color: str, label: str) -> None:
    """One family of one kind of faces: each setting's mean, its interval and its name."""
    settings = [(name, rows) for name, rows in part.groupby("setting", sort=False)]
    x = [rows["psnr_db"].mean() for _, rows in settings]
    y = [rows[what].mean() for _, rows in settings]
    low, high = zip(*(confidence_interval(rows[what].dropna().to_numpy(float)) for _, rows in settings), strict=True)
    ax.vlines(x, low, high, color=color, alpha=0.25)
    ax.plot(x, y, fmt, color=color, label=label)
    for i, ((name, _), *place) in enumerate(zip(settings, x, y, strict=True)):
        if label == "LSAP_E" and 0 < i < len(settings) - 1:
            continue  # its weights lie close together: the ends of the line are enough
        ax.annotate(name, place, fontsize=8, color=color, textcoords="offset points", **_BESIDE.get(label, _ABOVE))


def describe_regularizers(table: "pandas.DataFrame") -> str:
    """The page of the comparison, in Markdown, beside ``regularizers.png``."""
    faces = _over_factors(table)
    n = faces.groupby(_MEMBER)["image"].count().min()
    factors = ", ".join(ALIGNED_EDITS)
    parts = [
        "# Regularisers of codes, compared",
        f"Written by `latentlab benchmark --only regularizers --faces {n}`. II2S's prior (lambda 0 is I2S), LSAP_O's "
        "SNCD (lambda 0 is the StyleGAN2 projector in W+), e4e's configurations A to D, and LSAP_E's SNCD, on "
        f"{n} faces of each kind. Edits of {factors} by one standard deviation, at the strength at which the judge "
        "reads the true edit; total error (no edit 1, truth 0), gain, residual and leakage are means over these "
        "factors. Matched: share of the edits for which there is such a strength; the others are in no mean, so that "
        "rows with a small share may look better than they are. The numbers of every face stand in "
        "[regularizers.csv](regularizers.csv). The pale intervals of the plot are those of each mean alone; "
        "whether two methods differ is decided by the paired intervals of the last table.\n\n"
        "![Edits against distortion, for each family of regularisers](regularizers.png)",
    ]  # fmt: skip
    for kind in KINDS:
        rows = [["family", "setting", *MEASURES.values(), "matched"], ["---"] * (3 + len(MEASURES))]
        for (family, setting), part in faces[faces["faces"] == kind].groupby(["family", "setting"], sort=False):
            told = [*(_with_interval(part[what]) for what in MEASURES), f"{part['matched'].mean():.0%}"]
            rows.append([family, setting, *told])
        parts.append(f"## {kind.capitalize()} faces\n\nMeans ± half of their 95 % intervals.\n\n{_lines(rows)}")
    rows = [["faces", "first", "second", *MEASURES.values()], ["---"] * (3 + len(MEASURES))]
    for row in compare_families(table).to_dict("records"):
        cells = [f"{row[what]:.3g} [{row[f'{what} low']:.3g}, {row[f'{what} high']:.3g}]" for what in MEASURES]
        rows.append([row["faces"], row["first"], row["second"], *cells])
    parts.append(
        "## Which wins where\n\nFirst minus second, face by face, over the edits that both can make, with 95 % "
        "intervals (not corrected for their number). "
        "Each family at the setting with the smallest total error on the other kind of faces.\n\n" + _lines(rows)
    )
    return "\n\n".join(parts) + "\n"


def _with_interval(values: "pandas.Series") -> str:
    low, high = confidence_interval(values.to_numpy(float))
    return f"{values.mean():.3g} ± {(high - low) / 2:.2g}"


def _lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
