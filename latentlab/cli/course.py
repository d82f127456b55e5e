"""Commands to begin with: ``faces``, ``demo``, ``course``."""

import argparse
from pathlib import Path


def add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="invert and edit three faces, and write pictures and a table")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="output folder (%(default)s)")
    demo.add_argument("--steps", type=int, default=500, help="number of steps (%(default)s)")
    demo.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> None:
    from latentlab.jobs import demo

    table = demo(options.out, steps=options.steps)
    print(table.to_string(index=False, float_format="%.2f"))
    print("written to " + ", ".join(str(options.out / f) for f in ("demo.png", "samples.png", "faces.png", "demo.csv")))


def add_faces(commands: argparse._SubParsersAction) -> None:
    faces = commands.add_parser("faces", help="write faces of the real set as PNG files, and a table of their factors")
    faces.add_argument("-n", type=int, default=6, help="number of faces, at most 120 (%(default)s)")
    faces.add_argument("--resolution", type=int, default=64, help="side of the pictures in pixels (%(default)s)")
    faces.add_argument("--out", type=Path, default=Path("out/faces"), help="output folder (%(default)s)")
    faces.set_defaults(run=_run_faces)


def _run_faces(options: argparse.Namespace) -> None:
    from latentlab.jobs import write_faces

    write_faces(options.out, options.n, options.resolution)
    print(f"{options.n} faces and factors.csv written to {options.out}/")


def add_course(commands: argparse._SubParsersAction) -> None:
    course = commands.add_parser(
        "course",
        help="copy the notebooks into a folder, for a class",
        epilog="example: latentlab course --student handout/",
    )
    course.add_argument("folder", type=Path, help="a new folder, or an empty one")
    course.add_argument("--student", action="store_true", help="leave the solutions out")
    course.add_argument("--notebooks", type=Path, help="folder of the notebooks (default: that of this checkout)")
    course.set_defaults(run=_run_course)


def _run_course(options: argparse.Namespace) -> None:
    from latentlab.jobs import copy_course

    files = copy_course(options.folder, student=options.student, notebooks=options.notebooks)
    without = ", without solutions" if options.student else ""
    print(f"{len(files)} files written to {options.folder}/{without}")
