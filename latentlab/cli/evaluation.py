"""Commands that measure: ``claims`` and ``benchmark``."""

import argparse
import sys
from functools import partial
from pathlib import Path

from latentlab.cli.arguments import device_of

HOURS = ("edits", "regularizers", "two_branch", "full-size")  # of `latentlab benchmark`, when asked for


def add_claims(commands: argparse._SubParsersAction) -> None:
    claims = commands.add_parser("claims", help="print the ledger of the papers' claims, or measure them again")
    claims.add_argument("--only", nargs="+", default=[], metavar="ID", help="only these claims, e.g. II2S-1 LSAP-1")
    claims.add_argument("--explain", nargs="+", default=[], metavar="ID", help="the whole record of these claims")
    claims.add_argument(
        "--full", action="store_true",
        help="measure at full size and record it: hours, in as many sessions as you like, since descents are kept in "
        "the user's cache folder and Ctrl-C loses nothing",
    )  # fmt: skip
    claims.add_argument("--left", action="store_true", help="print what is left to do at full size, and its time")
    claims.add_argument("--faces", type=int, metavar="N", help="at most so many faces of each kind; the record says so")
    claims.add_argument("--kinds", nargs="+", choices=("clean", "strange"), help="only these faces; the record says so")
    claims.add_argument("--batch", type=int, metavar="N", help="faces that descend together (10); more on a GPU")
    claims.add_argument("--generator", default="faces-64", help="another one is recorded beside faces-64 (%(default)s)")
    claims.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")
    claims.add_argument("--pages", action="store_true", help="write docs/claims.md")
    claims.add_argument("--coverage", action="store_true", help="simulate the coverage of the intervals, and --pages")
    claims.add_argument("--ledger", type=Path, help="file of the ledger (default: notebooks/claims.json)")
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
    asked = {"faces": options.faces, "kinds": options.kinds, "batch": options.batch}
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
    benchmark = commands.add_parser("benchmark", help="measure speed, networks, samples and inversions")
    tables = ("speed", "optimisers", "networks", "samples", "inversions", "learning-rates", "encoders", "generators")
    only = f"one table instead of all but {', '.join(HOURS)}, which take long"
    benchmark.add_argument("--only", choices=(*tables, *HOURS), help=only)
    benchmark.add_argument("--check", action="store_true", help="compare speed with its marks; exit code 1 if missed")
    several = "method of the inversions; can be repeated for --only inversions"
    benchmark.add_argument("--method", action="append", default=[], help=several)
    edits = benchmark.add_argument_group("for --only edits, which goes on with what is in --out")
    edits.add_argument("--way", action="append", default=[], help="way to find edits (default: all); can be repeated")
    edits.add_argument("--factor", action="append", default=[], help="(default: the main ones); can be repeated")
    edits.add_argument("--faces", type=int, default=40, metavar="N", help="faces, and samples (%(default)s)")
    edits.add_argument("--steps", type=int, default=300, help="of the inversions (%(default)s)")
    found = "folder of edits that are found, e.g. --out of `latentlab train edits` (default: edits in --out)"
    edits.add_argument("--found", type=Path, metavar="FOLDER", help=found)
    runs = "folder of training runs, for --only encoders (default: the shipped encoders) and two_branch"
    benchmark.add_argument("--runs", type=Path, metavar="FOLDER", help=runs)
    benchmark.add_argument(
        "--generator", action="append", default=[], metavar="SOURCE",
        help="generator of the table of generators: a name, a .safetensors file or a folder of a training run; of "
        "full-size: a file (default: faces-64; full-size: random weights at 256, 512, 1024 px); can be repeated",
    )  # fmt: skip
    benchmark.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")
    benchmark.add_argument("--out", type=Path, default=Path("out/benchmark"), help="output folder (%(default)s)")
    page = "page whose sections are replaced by the tables that are measured, e.g. docs/benchmarks.md"
    benchmark.add_argument("--page", type=Path, metavar="FILE", help=page)
    benchmark.set_defaults(run=_run_benchmark)


def _run_benchmark(options: argparse.Namespace) -> int:
    from latentlab import jobs
    from latentlab.evaluation import benchmark_page, edit_tables, encoder_page, generators, marks, timing
    from latentlab.evaluation import tables as measured

    device = device_of(options.device)
    measure = {
        "speed": lambda: timing.measure_speed(device),
        "optimisers": lambda: timing.measure_optimisers(device),
        "networks": lambda: measured.measure_networks(device=device),
        "samples": lambda: measured.measure_samples(device=device),
        "inversions": lambda: measured.measure_inversions(options.method, device=device),
        "learning-rates": lambda: measured.measure_learning_rates(device=device),
        "encoders": lambda: jobs.write_encoders(
            options.out, (options.generator or ["faces-64"])[0], options.runs, partial(print, flush=True)
        ),
        "generators": lambda: generators.measure_generators(options.generator or ["faces-64"]),
        "full-size": lambda: jobs.write_full_size(options.out, options.generator, device, partial(print, flush=True)),
        "edits": lambda: edit_tables.measure_edits(
            options.out, generator=(options.generator or ["faces-64"])[0], method=(options.method or ["ii2s"])[0],
            steps=options.steps, ways=options.way, factors=options.factor, n=options.faces, found=options.found,
            device=device, say=partial(print, flush=True),
        ),
        "regularizers": lambda: jobs.write_regularizers(
            options.out, faces=options.faces, say=partial(print, flush=True)
        ),
        "two_branch": lambda: jobs.write_branches(options.out, _runs(options), partial(print, flush=True)),
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
        table = encoder_page.summarize_encoders(table) if name == "encoders" else table
        print(f"\n{name}\n{table.to_string(index=False, float_format='%.3g')}", flush=True)
    if not options.check:
        return 0
    checked = marks.check_marks(tables, chosen)
    print(f"\nmarks\n{checked.to_string(index=False, float_format='%.3g')}")
    return int("missed" in set(checked["verdict"]))


def _runs(options: argparse.Namespace) -> Path:
    if options.runs is None:
        raise ValueError(f"--runs: expected a folder of training runs for --only {options.only}, got none")
    return options.runs
