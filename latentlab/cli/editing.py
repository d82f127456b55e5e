"""The command ``edits``: an edit of one's own from scores of samples."""

import argparse
from pathlib import Path

from latentlab.cli.arguments import add_command, add_device, add_out, device_of


def add_edits(commands: argparse._SubParsersAction) -> None:
    says = "Find an edit of your own from scores that you give to samples of a generator."
    what = add_command(commands, "edits", says).add_subparsers(dest="what", required=True, metavar="what")
    sample = add_command(
        what, "sample", "Write samples of a generator as PNG files, and a table for their scores.",
        example="latentlab edits sample --n 200 --out out/samples",
    )  # fmt: skip
    number = "Number of samples, at least 2 (default: %(default)s)."
    sample.add_argument("--n", type=int, default=200, metavar="N", help=number)
    seed = "Random seed of the samples (default: %(default)s)."
    sample.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    add_out(sample, "out/samples")
    sample.set_defaults(run=_run_edits_sample)
    find = add_command(
        what, "find", "Find the edit along which the scores of samples rise, and write it to a file.",
        example="latentlab edits find --samples out/samples --scores scores.csv --column smiling --name smile "
        "--out smile.edit.safetensors",
    )  # fmt: skip
    table = (
        "Table with a row for each sample. A column with two values is taken as labels, one with other numbers as "
        "scores."
    )
    find.add_argument("--scores", type=Path, required=True, metavar="CSV", help=table)
    find.add_argument("--column", required=True, metavar="NAME", help="Column of the table that has the scores.")
    which = find.add_mutually_exclusive_group(required=True)
    folder = "Folder that `latentlab edits sample` wrote and whose pictures were scored."
    which.add_argument("--samples", type=Path, metavar="FOLDER", help=folder)
    without = "Number of samples that were scored, if the folder is lost: they are drawn again from --seed."
    which.add_argument("--n", type=int, metavar="N", help=without)
    seed = "Random seed of the samples, for --n (default: %(default)s)."
    find.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    find.add_argument("--name", required=True, help="Name of the edit, e.g. smile.")
    out = "File to write the edit to, e.g. smile.edit.safetensors."
    find.add_argument("--out", type=Path, required=True, metavar="FILE", help=out)
    find.set_defaults(run=_run_edits_find)
    for parser in (sample, find):
        source = (
            "Generator that the samples are drawn from: the name of a shipped or official one, or a file "
            "(default: %(default)s)."
        )
        parser.add_argument("--generator", default="faces-64", metavar="SOURCE", help=source)
        add_device(parser)


def _run_edits_sample(options: argparse.Namespace) -> None:
    from latentlab.jobs.samples import write_samples

    write_samples(
        options.out, generator=options.generator, n=options.n, seed=options.seed, device=device_of(options.device)
    )
    print(f"{options.n} samples, scores.csv for their scores and codes.safetensors written to {options.out}/")


def _run_edits_find(options: argparse.Namespace) -> None:
    from latentlab.jobs.samples import find_edit_of_scores

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
