"""How fast everything is on this machine: images and seconds, one table."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from latentlab.faces import real_set, render, sample_factors
from latentlab.formats.models import load
from latentlab.registry import METHODS
from latentlab.spaces import measure_statistics
from latentlab.stylegan.training import PRESETS, GeneratorTraining

if TYPE_CHECKING:
    import pandas


def measure_speed(device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """Images/s of renderer and training, seconds of the statistics and of each inversion (500 steps)."""
    import pandas

    rows = [_renderer(device), _training(), _statistics(device), *_inversions(device)]
    table = pandas.DataFrame(rows, columns=["what", "value", "unit"])
    table["threads"], table["device"] = torch.get_num_threads(), str(device)
    return table


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The median of ``repeats`` runs after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


def _renderer(device: torch.device | str) -> tuple[str, float, str]:
    factors = sample_factors(512, seed=0).to(device)
    return "renderer, 64 px", round(512 / _seconds(lambda: render(factors)), 1), "images/s"


def _training() -> tuple[str, float, str]:
    """Sixteen steps hold one lazy R1 step, its true share."""
    from lightning_fabric import Fabric

    config = PRESETS["faces-64"]
    training = GeneratorTraining(config, Fabric(accelerator="auto", devices=1, precision="bf16-mixed"))

    def sixteen() -> None:
        for i in range(16):
            factors = sample_factors(config.batch_size, seed=0, start=i * config.batch_size)
            training.step(render(factors.to(training.fabric.device)))

    return "training faces-64", round(16 * config.batch_size / _seconds(sixteen), 1), "images/s"


def _statistics(device: torch.device | str) -> tuple[str, float, str]:
    G = load("faces-64", device=device)
    return "statistics, 1,000,000 codes", round(_seconds(lambda: measure_statistics(G), repeats=1), 1), "s"


def _inversions(device: torch.device | str) -> list[tuple[str, float, str]]:
    G, image = load("faces-64", device=device), real_set()[:1].images.to(device)
    return [
        (f"{name}, one face, 500 steps", round(_seconds(lambda m=m: m.invert(image, G, steps=500), 1), 1), "s")
        for name, m in METHODS.items()
    ]
