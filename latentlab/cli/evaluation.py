"""Commands that measure: ``claims`` and ``benchmark``."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentlab.cli.arguments import add_command, add_device, add_out, device_of

if TYPE_CHECKING:
    import pandas

ENCODERS = ("encoders", "clcae")  # tables of `latentlab benchmark` that are of encoders
HOURS = ("edits", "regularizers", "clcae", "two_branch", "full-size")  # of `latentlab benchmark`, when asked for


def add_claims(commands: argparse._SubParsersAction) -> None:
    says = "Print the ledger, which records how the papers' claims came out here, or measure claims again."
    claims = add_command(commands, "claims", says, example="latentlab claims --explain II2S-7")
    only = "Claims to print or to measure, e.g. II2S-1 LSAP-1 (default: all)."
    claims.add_argument("--only", nargs="+", default=[], metavar="ID", help=only)
    explain = "Claims whose whole records are printed instead of the ledger, e.g. II2S-7 (default: none)."
    claims.add_argument("--explain", nargs="+", default=[], metavar="ID", help=explain)
    full = (
        "Measure the claims at full size and record them. This takes hours, in as many sessions as you like: finished "
        "searches are kept in the user's cache folder, and the same command goes on after Ctrl-C."
    )
    claims.add_argument("--full", action="store_true", help=full)
    left = "Print what --full would still have to do for each claim, and how long it would take."
    claims.add_argument("--left", action="store_true", help=left)
    faces = "Number of faces of each kind to measure on, at least 1; the record says so (default: all)."
    claims.add_argument("--faces", type=int, metavar="N", help=faces)
    kinds = "Kinds of faces to measure on; the record says so (default: both)."
    claims.add_argument("--kinds", nargs="+", choices=("clean", "strange"), help=kinds)
    batch = "Number of faces that are searched for together; a GPU can take more (default: 10)."
    claims.add_argument("--batch", type=int, metavar="N", help=batch)
    generator = "Generator to measure with; another one is recorded beside faces-64 (default: %(default)s)."
    claims.add_argument("--generator", default="faces-64", metavar="SOURCE", help=generator)
    tables = (
        "Folder of the tables of encoders that are trained for that generator but not shipped, written by `latentlab "
        "benchmark --runs` (default: docs, with those of faces-64)."
    )
    claims.add_argument("--tables", type=Path, metavar="FOLDER", help=tables)
    add_device(claims)
    claims.add_argument("--pages", action="store_true", help="Write the ledger to docs/claims.md.")
    coverage = "Simulate how often the intervals hold the true mean, and write docs/claims.md with it."
    claims.add_argument("--coverage", action="store_true", help=coverage)
    ledger = "File of the ledger (default: notebooks/claims.json)."
    claims.add_argument("--ledger", type=Path, metavar="FILE", help=ledger)
    claims.set_defaults(run=_run_claims)


def _run_claims(options: argparse.Namespace) -> None:
    from latentlab.claims import pages

    if options.pages or options.coverage:
        coverages = pages.coverage_table() if options.coverage else None
        print("\n".join(str(path) for path in pages.write_pages(options.ledger, coverages=coverages)))
    elif options.left or options.full:
        _measure_claims(options)
    elif options.explain:
        print("\n\n".join(pages.explanation(id, options.ledger) for id in options.explain))
    else:
        print(pages.listing(options.only, options.ledger))


def _measure_claims(options: argparse.Namespace) -> None:
    from latentlab import claims
    from latentlab.claims import pages
    from latentlab.claims.runs import Bench
    from latentlab.weights.generators import load

    G = load(options.generator, device=device_of(options.device))
    asked = {name: getattr(options, name) for name in ("faces", "kinds", "batch", "tables")}
    knobs = {name: value for name, value in asked.items() if value is not None}
    for id in options.only or claims.CLAIMS:
        if options.left:
            print(f"{id:8} {claims.remaining(id, Bench.kept(G, **knobs))}", flush=True)
            continue
        name = Path(options.generator).stem
        try:
            claims.write([id], options.ledger, G=G, name=name, say=lambda text: print(text, flush=True), **knobs)
        except KeyboardInterrupt:
            print(f"\n{id} is not finished; the same command goes on where this one stopped", file=sys.stderr)
            raise
        print(pages.line(id, options.ledger), flush=True)


def add_benchmark(commands: argparse._SubParsersAction) -> None:
    says = "Measure speed, networks, samples, encoders and inversions, and write the tables as CSV files."
    benchmark = add_command(commands, "benchmark", says, example="latentlab benchmark --only speed --check")
    tables = (
        "speed", "optimisers", "networks", "samples", "inversions", "learning-rates", "floors", "encoders",
        "generators",
    )  # fmt: skip
    only = (
        f"The one table to measure: {', '.join((*tables, *HOURS))} (default: all but {', '.join(HOURS)}, which take "
        "long)."
    )
    benchmark.add_argument("--only", choices=(*tables, *HOURS), metavar="TABLE", help=only)
    check = "Compare the speed with its marks; the exit code is 1 if one is missed."
    benchmark.add_argument("--check", action="store_true", help=check)
    several = "Method of the inversions; can be repeated with --only inversions (default: the table's own)."
    benchmark.add_argument("--method", action="append", default=[], metavar="NAME", help=several)
    runs = (
        "Folder of training runs to measure, with --only encoders or clcae (default: the shipped networks), or with "
        "two_branch, which adds them to the shipped ones (default: none)."
    )
    benchmark.add_argument("--runs", type=Path, metavar="FOLDER", help=runs)
    source = (
        "Generator: a name, a .safetensors file, or a folder of a training run; a file with --only full-size. Can be "
        "repeated for the tables of generators (default: faces-64; full-size: random weights at 256, 512 and 1024 px)."
    )
    benchmark.add_argument("--generator", action="append", default=[], metavar="SOURCE", help=source)
    add_device(benchmark)
    add_out(benchmark, "out/benchmark")
    page = "Page in which the sections of the measured tables are replaced, e.g. docs/benchmarks.md (default: none)."
    benchmark.add_argument("--page", type=Path, metavar="FILE", help=page)
    edits = benchmark.add_argument_group("with --only edits, which continues what is in --out")
    way = "Way to find edits; can be repeated (default: all)."
    edits.add_argument("--way", action="append", default=[], metavar="NAME", help=way)
    factor = "Factor to edit; can be repeated (default: the main ones)."
    edits.add_argument("--factor", action="append", default=[], metavar="NAME", help=factor)
    faces = "Number of faces, and of samples; also with --only regularizers (default: %(default)s)."
    edits.add_argument("--faces", type=int, default=40, metavar="N", help=faces)
    steps = "Number of steps of the inversions (default: %(default)s)."
    edits.add_argument("--steps", type=int, default=300, metavar="N", help=steps)
    found = "Folder of edits found before, e.g. by `latentlab train edits` (default: the folder edits in --out)."
    edits.add_argument("--found", type=Path, metavar="FOLDER", help=found)
    benchmark.set_defaults(run=_run_benchmark)


def _run_benchmark(options: argparse.Namespace) -> int:
    from latentlab.evaluation import benchmark_page, edit_tables, encoder_page, marks, timing
    from latentlab.evaluation import tables as measured
    from latentlab.jobs import pages

    device = device_of(options.device)
    measure = {
        "speed": lambda: timing.measure_speed(device),
        "optimisers": lambda: timing.measure_optimisers(device),
        "networks": lambda: measured.measure_networks(device=device),
        "samples": lambda: measured.measure_samples(device=device),
        "inversions": lambda: measured.measure_inversions(options.method, device=device),
        "learning-rates": lambda: measured.measure_learning_rates(device=device),
        "floors": lambda: measured.measure_floors(device=device),
        **{name: partial(_encoders, options, name) for name in ENCODERS},
        "generators": lambda: pages.write_generators(
            options.out, options.generator or ["faces-64"], partial(print, flush=True)
        ),
        "full-size": lambda: pages.write_full_size(options.out, options.generator, device, partial(print, flush=True)),
        "edits": lambda: edit_tables.measure_edits(
            options.out, generator=(options.generator or ["faces-64"])[0], method=(options.method or ["ii2s"])[0],
            steps=options.steps, ways=options.way, factors=options.factor, n=options.faces, found=options.found,
            device=device, say=partial(print, flush=True),
        ),
        "regularizers": lambda: pages.write_regularizers(
            options.out, faces=options.faces, say=partial(print, flush=True)
        ),
        "two_branch": lambda: pages.write_branches(
            options.out, (options.generator or ["faces-64"])[0], options.runs, partial(print, flush=True)
        ),
    }  # fmt: skip
    chosen = [mark for mark in marks.MARKS if options.only in (None, mark.table)]
    if options.check and not chosen:
        with_marks = " or ".join(dict.fromkeys(mark.table for mark in marks.MARKS))
        raise ValueError(f"--check: expected --only {with_marks}, or no --only, got --only {options.only}")
    names = dict.fromkeys(mark.table for mark in chosen) if options.check else [k for k in measure if k not in HOURS]
    options.out.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in [options.only] if options.only else names:
        tables[name] = table = measure[name]()
        table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.6g")
        if options.page and name in benchmark_page.COLUMNS:
            told = benchmark_page.provenance(name, device)
            benchmark_page.write_section(options.page, name, benchmark_page.section(name, table, told))
        table = encoder_page.summarize_encoders(table) if name in ENCODERS else table
        print(f"\n{name}\n{table.to_string(index=False, float_format='%.3g')}", flush=True)
    if not options.check:
        return 0
    checked = marks.check_marks(tables, chosen)
    print(f"\nmarks\n{checked.to_string(index=False, float_format='%.3g')}")
    return int("missed" in set(checked["verdict"]))


def _encoders(options: argparse.Namespace, page: str) -> "pandas.DataFrame":
    from latentlab.jobs import pages

    generator = (options.generator or ["faces-64"])[0]
    return pages.write_encoders(options.out, generator, options.runs, partial(print, flush=True), page)
