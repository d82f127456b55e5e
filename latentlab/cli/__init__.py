"""The command line: ``latentlab invert | edits | faces | demo | course | methods | train | claims | ..``."""

import argparse
import sys
from collections.abc import Sequence

import latentlab
from latentlab.cli import course, editing, evaluation, inversion, training


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Errors in the input are printed as one line, without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, MemoryError) as error:
        print(f"latentlab {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("latentlab", description="StyleGAN inversion and editing with measured results.")
    parser.add_argument("--version", action="version", version=f"latentlab {latentlab.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in (
        inversion.add_invert, editing.add_edits, inversion.add_align, inversion.add_convert, course.add_demo,
        course.add_faces, training.add_train, training.add_publish, inversion.add_methods, evaluation.add_claims,
        training.add_weights, course.add_course, evaluation.add_benchmark,
    ):  # fmt: skip
        add(commands)
    return parser
