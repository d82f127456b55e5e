"""What several commands share: the form of their help, and arguments.

The help of a command or an argument is a sentence that says what it is, with its unit or range, and ends with the
default where there is one: "Number of samples, at least 2 (default: 200)."
"""

import argparse
from pathlib import Path


def add_command(
    commands: argparse._SubParsersAction, name: str, says: str, *, example: str = ""
) -> argparse.ArgumentParser:
    """Adds a command; what it ``says`` stands in the list of commands and at the head of its own help."""
    return commands.add_parser(name, help=says, description=says, epilog=f"example: {example}" if example else None)


def add_device(parser: argparse.ArgumentParser) -> None:
    says = "Device to compute on: cpu, cuda, or auto, which is cuda if there is one (default: %(default)s)."
    parser.add_argument("--device", default="cpu", metavar="NAME", help=says)


def add_out(parser: argparse.ArgumentParser, folder: str) -> None:
    says = "Output folder (default: %(default)s)."
    parser.add_argument("--out", type=Path, default=Path(folder), metavar="FOLDER", help=says)


def device_of(name: str) -> str:
    """The device that ``--device`` names; ``ValueError`` where there is none of that name."""
    import torch

    has_cuda = torch.cuda.is_available()
    device = {"gpu": "cuda", "auto": "cuda" if has_cuda else "cpu"}.get(name, name)
    if device != "cpu" and not (device.startswith("cuda") and has_cuda):
        available = "cpu, cuda or auto" if has_cuda else "cpu or auto, since there is no CUDA device"
        raise ValueError(f"--device: expected {available}, got {name!r}")
    return device


def loss_weights(given: list[str]) -> dict[str, float]:
    """NAME=WEIGHT of the command line, as a dict."""
    weights = {}
    for text in given:
        name, _, weight = text.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"--loss: expected NAME=WEIGHT, e.g. perceptual=0.8, got {text!r}") from None
    return weights
