"""The log of a training run."""

import csv
import time
from pathlib import Path

import torch
from torch import Tensor


class Log:
    """A CSV with a row of means for every so many images.

    names: the columns after images, seconds and images_per_second; a value that a row does not have stays empty.
    images: seen so far. A resumed run drops the rows after its checkpoint, since it repeats them.
    active: whether this process writes the file.
    """

    def __init__(self, path: Path, names: list[str], images: int, active: bool) -> None:
        self.names, self.values, self.file = names, {}, None
        self.images, self.since = images, time.perf_counter()
        if active:
            columns = ["images", "seconds", "images_per_second", *names]
            kept = _read_rows(path, columns, up_to=images)
            self.file = open(path, "w", newline="")
            self.writer = csv.DictWriter(self.file, columns)
            self.writer.writeheader()
            self.writer.writerows(kept)
            self.file.flush()

    def add(self, logged: dict[str, Tensor]) -> None:
        """The scalars of one step."""
        for name, value in logged.items():
            self.values.setdefault(name, []).append(value)

    def write(self, images: int) -> dict[str, str]:
        """Writes and returns the means since the last row; none where nothing was added."""
        seconds = time.perf_counter() - self.since
        means = {name: f"{float(torch.stack(values).mean()):.5g}" for name, values in self.values.items()}
        if self.file is not None and means:
            speed = (images - self.images) / seconds
            self.writer.writerow(
                {"images": images, "seconds": f"{seconds:.5g}", "images_per_second": f"{speed:.5g}"} | means
            )
            self.file.flush()
        self.values, self.images, self.since = {}, images, time.perf_counter()
        return means

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file is not None:
            self.file.close()


def _read_rows(path: Path, columns: list[str], up_to: int) -> list[dict[str, str | None]]:
    if not path.exists() or not up_to:
        return []
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]  # a crash may cut the last one off
    return [{name: row.get(name) for name in columns} for row in rows if int(row["images"]) <= up_to]
