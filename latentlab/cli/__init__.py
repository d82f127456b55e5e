"""The command line: ``latentlab demo | faces | invert | edits | methods | train | claims | ..``."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence

import latentlab
from latentlab.cli import course, editing, evaluation, inversion, training

CLOSED = 128 + 13  # exit code of a program that SIGPIPE ends, as a shell reports it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Errors in the input are printed as one line, without a traceback. A command whose output is closed, as by
    ``| head``, ends without a message.
    """
    try:
        try:
            return _run(arguments)
        finally:
            _flush()  # here, since at exit a closed output could not be caught
    except OSError as error:
        if not _is_closed_output(error):
            raise
        _discard_output()
        return CLOSED


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, MemoryError) as error:
        if _is_closed_output(error):
            raise
        print(f"latentlab {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _is_closed_output(error: BaseException) -> bool:
    """Whether nobody reads the output any more. Windows says EINVAL for it, as for a bad file name."""
    if isinstance(error, BrokenPipeError):
        return True
    return os.name == "nt" and isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None


def _flush() -> None:
    for output in (sys.stdout, sys.stderr):
        if output is not None:
            output.flush()


def _discard_output() -> None:
    """Sends what is still to be written nowhere, so that Python's own flush at exit does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (sys.stdout, sys.stderr):
        if output is not None:
            os.dup2(nowhere, output.fileno())
    os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "latentlab",
        description="StyleGAN inversion and editing with measured results.",
        epilog="`latentlab COMMAND --help` explains a command. To begin: latentlab demo",
    )
    parser.add_argument("--version", action="version", version=f"latentlab {latentlab.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in (
        course.add_demo, course.add_faces, inversion.add_invert, editing.add_edits, inversion.add_methods,
        inversion.add_align, inversion.add_convert, evaluation.add_claims, evaluation.add_benchmark, course.add_course,
        training.add_train, training.add_publish, training.add_weights,
    ):  # fmt: skip
        add(commands)
    return parser
