"""Commands to begin with: ``faces``, ``demo``, ``course``."""

import argparse
from pathlib import Path

from latentlab.cli.arguments import add_command, add_out


def add_demo(commands: argparse._SubParsersAction) -> None:
    demo = add_command(commands, "demo", "Invert and edit three rendered faces, and write pictures and a table.")
    steps = "Number of steps of each inversion, at least 1 (default: %(default)s)."
    demo.add_argument("--steps", type=int, default=500, metavar="N", help=steps)
    add_out(demo, "out/demo")
    demo.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> None:
    from latentlab.jobs.demonstration import demo

    table = demo(options.out, steps=options.steps)
    print(table.to_string(index=False, float_format="%.2f"))
    print("written to " + ", ".join(str(options.out / f) for f in ("demo.png", "samples.png", "faces.png", "demo.csv")))


def add_faces(commands: argparse._SubParsersAction) -> None:
    says = "Write rendered test faces as PNG files, and a table of the factors that they were drawn from."
    faces = add_command(commands, "faces", says)
    faces.add_argument("-n", type=int, default=6, metavar="N", help="Number of faces, 1 to 120 (default: %(default)s).")
    side = "Side of the pictures in pixels, at least 16 (default: %(default)s)."
    faces.add_argument("--resolution", type=int, default=64, metavar="PX", help=side)
    add_out(faces, "out/faces")
    faces.set_defaults(run=_run_faces)


def _run_faces(options: argparse.Namespace) -> None:
    from latentlab.jobs.samples import write_faces

    write_faces(options.out, options.n, options.resolution)
    print(f"{options.n} faces and factors.csv written to {options.out}/")


def add_course(commands: argparse._SubParsersAction) -> None:
    says = "Copy the notebooks, and the pages that they link to, into a folder for a class."
    course = add_command(commands, "course", says, example="latentlab course --student handout/")
    course.add_argument("folder", type=Path, help="Folder to write to: a new one, or an empty one.")
    course.add_argument("--student", action="store_true", help="Leave the solutions out.")
    notebooks = "Folder of the notebooks to copy (default: the one beside the package in this checkout)."
    course.add_argument("--notebooks", type=Path, metavar="FOLDER", help=notebooks)
    course.set_defaults(run=_run_course)


def _run_course(options: argparse.Namespace) -> None:
    from latentlab.jobs.course import copy_course

    files = copy_course(options.folder, student=options.student, notebooks=options.notebooks)
    without = ", without solutions" if options.student else ""
    print(f"{len(files)} files written to {options.folder}/{without}")
