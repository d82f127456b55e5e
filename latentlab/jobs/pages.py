"""Pages of measurements: encoders, two branches, regularizers, generators, generators of full size."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from latentlab import plots
from latentlab.evaluation import encoder_page, full_size, generator_page
from latentlab.evaluation.encoders import measure_encoders, shipped_encoders, trained_encoders
from latentlab.evaluation.generators import measure_generators
from latentlab.evaluation.two_branch import chosen_branches, describe_branches, measure_branches, strip_rows
from latentlab.jobs.inversions import Say
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

CURVES = ("l2", "perceptual", "identity", "variation")  # of the trainings of encoders


def write_encoders(
    out: Path, generator: str = "faces-64", runs: Path | None = None, say: Say = lambda text: None,
    page: Literal["encoders", "clcae"] = "encoders",
) -> "pandas.DataFrame":  # fmt: skip
    """Measures encoders on the real set and writes a page, e.g. ``encoders.md``, with its pictures; returns the table.

    runs: folder of training runs, whose curves are drawn as well; None: the encoders shipped for the generator. Rows of
    the page's table in ``out``, e.g. ``encoders.csv``, whose encoder has not changed since are kept; remove the file to
    measure all again. page: "clcae", of its ablation and what it is compared with, differs by its strip of pictures.
    """
    import pandas

    G = load(generator)
    shipped = shipped_encoders(G)
    if page == "clcae":
        shipped = [e for e in shipped if e.name.startswith(("clcae", "e4e"))]
    encoders = shipped if runs is None else trained_encoders(runs, G)
    if not encoders:
        raise ValueError(f"generator: expected one with shipped encoders, got {generator}; give --runs")
    kept = out / f"{page}.csv"
    marks = {"network": str, "generator": str}  # all of whose digits may be decimal
    table = measure_encoders(encoders, G, say, pandas.read_csv(kept, dtype=marks) if kept.is_file() else None)
    shown = [e for e in shipped if encoder_page.is_on_strip(e.name, page)]
    strip = encoder_page.strip_rows(shown or encoders, G)
    plots.compare(strip, size=1.0).savefig(out / f"{page}.png", dpi=100)
    if runs is not None:
        names = dict.fromkeys(encoder.provenance["run"] for encoder in encoders)
        logs = {name: pandas.read_csv(runs / name / "log.csv") for name in names}
        plots.training_curves(logs, CURVES).savefig(out / f"{page}_curves.png", dpi=100)
    (out / f"{page}.md").write_text(encoder_page.describe(table, encoders, curves=runs is not None, page=page))
    return table


def write_branches(
    out: Path, generator: str = "faces-64", runs: Path | None = None, say: Say = lambda text: None
) -> "pandas.DataFrame":
    """Measures two branches on the real set, the networks shipped for the generator and the runs in a folder, and
    writes the page ``two_branch.md`` with its picture; returns the table."""
    G = load(generator)
    several = chosen_branches(G, runs)
    table = measure_branches(several, G, say)
    whole = [b for b in several if b.network is not None and b.network.config.resolutions]
    plots.compare(strip_rows(whole[0], G), size=1.0).savefig(out / "two_branch.png", dpi=80)
    (out / "two_branch.md").write_text(describe_branches(table, several))
    return table


def write_regularizers(out: Path, *, faces: int = 40, say: Say = lambda text: None) -> "pandas.DataFrame":
    """Measures what keeps codes editable, see ``claims.regularizers``, and writes ``regularizers.md`` with its plot."""
    from latentlab.claims import regularizers
    from latentlab.claims.runs import Bench

    table = regularizers.measure_regularizers(Bench.kept(load("faces-64"), say=say), faces, say)
    regularizers.draw_regularizers(table).savefig(out / "regularizers.png", dpi=90)
    (out / "regularizers.md").write_text(regularizers.describe_regularizers(table))
    return table


def write_generators(
    out: Path, sources: Sequence[str] = ("faces-64",), say: Say = lambda text: None
) -> "pandas.DataFrame":
    """Measures generators and runs beside each other and writes ``generators.md`` with its picture; returns the table.

    Rows of ``generators.csv`` in ``out`` whose weights have not changed are kept, so that a measurement that was
    stopped goes on; remove the file to measure all again. Rows of runs that are not among ``sources`` stay on the page,
    below the others, but not in the picture: their weights may be gone.
    """
    import pandas

    path = out / "generators.csv"
    known = pandas.read_csv(path, dtype={"fingerprint": str}) if path.is_file() else None
    for i in range(len(sources)):
        table = measure_generators(sources[: i + 1], kept=known, say=say)
        known = pandas.concat([known, table]).drop_duplicates(["generator", "fingerprint"], keep="last")
        known.to_csv(path, index=False, float_format="%.6g")
    plots.compare(generator_page.rows_of_samples(list(sources)), size=0.9).savefig(out / "generators.png", dpi=80)
    earlier = known[~known["generator"].isin(table["generator"])].drop_duplicates("generator", keep="last")
    table = pandas.concat([table, earlier], ignore_index=True)
    (out / "generators.md").write_text(generator_page.describe_generators(table))
    return table


def write_full_size(
    out: Path, sources: Sequence[str] = (), device: str = "cpu", say: Say = lambda text: None
) -> "pandas.DataFrame":
    """Measures generators of official size and writes the page ``full_size.md``; returns the table."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    table = full_size.measure_full_size(sources, device=device, say=say)
    (out / "full_size.md").write_text(full_size.describe(table, busy))
    return table
