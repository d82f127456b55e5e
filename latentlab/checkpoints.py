"""Checkpoints that survive: written beside the old one, then swapped in a single step."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Writes a training state atomically: an interruption or a full disk leaves the old file whole.

    Raises ``OSError`` where the state cannot be written; the partial file is removed.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        partial.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({error}); the checkpoint before it is untouched") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a training state onto the CPU. It holds tensors and plain values only: no code is run."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no checkpoint to resume from")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file, and advises to run what it refuses
        raise ValueError(f"{path} is not a readable checkpoint of `latentlab train`: it is damaged or of another kind; "
                         "nothing of it was run") from error  # fmt: skip


def differing_settings(mine: dict[str, Any], saved: dict[str, Any]) -> list[str]:
    """What differs between the settings of a run and those in its checkpoint, readable; tuples equal lists."""
    mine, saved = _flatten(mine), _flatten(saved)
    names = [name for name in dict.fromkeys([*mine, *saved]) if mine.get(name) != saved.get(name)]
    return [f"{name} = {mine.get(name)} (the checkpoint has {saved.get(name)})" for name in names]


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"generator": {"w_dim": 128}} -> {"generator.w_dim": 128}."""
    flat = {}
    for name, value in settings.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{name}.") if nested else {prefix + name: json.loads(json.dumps(value))}
    return flat


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turns Ctrl-C and SIGTERM into an event that a loop looks at between two steps, so that what it
    saves stands at the end of a step. A second Ctrl-C interrupts at once. Outside of the main thread,
    where Python allows no handlers, the event simply never fires.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    for number in before:
        signal.signal(number, request)
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
