"""The command ``edits``: an edit of one's own from scores of samples."""

import argparse
from pathlib import Path

from latentlab.cli.arguments import device_of


def add_edits(commands: argparse._SubParsersAction) -> None:
    edits = commands.add_parser("edits", help="find an edit of one's own from scores of a generator's samples")
    what = edits.add_subparsers(dest="what", required=True, metavar="what")
    sample = what.add_parser(
        "sample",
        help="write samples to be scored, and a table for the scores",
        epilog="example: latentlab edits sample --n 200 --out out/samples",
    )
    sample.add_argument("--n", type=int, default=200, help="number of samples (%(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="random seed of the samples (%(default)s)")
    sample.add_argument("--out", type=Path, default=Path("out/samples"), help="output folder (%(default)s)")
    sample.set_defaults(run=_run_edits_sample)
    find = what.add_parser(
        "find",
        help="find the edit along which scores rise",
        epilog="example: latentlab edits find --samples out/samples --scores scores.csv --column smiling --name smile "
        "--out smile.edit.safetensors",
    )
    table = "table with a row for each sample; two values are labels, other numbers are scores"
    find.add_argument("--scores", type=Path, required=True, metavar="CSV", help=table)
    find.add_argument("--column", required=True, help="its column of scores")
    which = find.add_mutually_exclusive_group(required=True)
    which.add_argument("--samples", type=Path, help="folder of `latentlab edits sample`")
    which.add_argument("--n", type=int, help="without the folder: how many samples of --seed it has")
    find.add_argument("--seed", type=int, default=0, help="random seed of the samples, for --n (%(default)s)")
    find.add_argument("--name", required=True, help="name of the edit")
    find.add_argument("--out", type=Path, required=True, help="file of the edit, e.g. smile.edit.safetensors")
    find.set_defaults(run=_run_edits_find)
    for parser in (sample, find):
        source = "name of a shipped or official generator, or a file (%(default)s)"
        parser.add_argument("--generator", default="faces-64", help=source)
        parser.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")


def _run_edits_sample(options: argparse.Namespace) -> None:
    from latentlab.jobs import write_samples

    write_samples(
        options.out, generator=options.generator, n=options.n, seed=options.seed, device=device_of(options.device)
    )
    print(f"{options.n} samples, scores.csv for their scores and codes.safetensors written to {options.out}/")


def _run_edits_find(options: argparse.Namespace) -> None:
    from latentlab.jobs import find_edit_of_scores

    found = find_edit_of_scores(
        options.scores, options.column, options.name, options.out, generator=options.generator, samples=options.samples,
        n=options.n, seed=options.seed, device=device_of(options.device),
    )  # fmt: skip
    print(f"{found.edit.name}: {found.edit.source}")
    print(f"agreement with samples that it was not found from: {found.agreement:.2f} (1 is perfect, 0 is chance)")
    if found.effect is None:
        print("effect: not measured, since no attribute network reads pictures of this generator")
    else:
        print("effect of strength 1, in standard deviations of what the losses' network reads in samples; the largest:")
        print(found.effect.table().head(6).to_string(float_format="%+.2f"))
    print(f"written to {options.out}; use it with: latentlab invert PICTURE --edit {options.out}=+1")
