"""Memory and time of generators of official size: opening a file, drawing a picture, a step of an inversion."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from latentlab.evaluation.timing import memory
from latentlab.formats import rosinality
from latentlab.inversion.ii2s import invert_ii2s
from latentlab.seeds import stream
from latentlab.spaces import measure_statistics
from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.weights.generators import convert, load

if TYPE_CHECKING:
    import pandas

RESOLUTIONS = (256, 512, 1024)
STEPS = 2  # that are timed of each inversion, after one to warm up
INVERSIONS = ((1, "float32"), (2, "float32"), (1, "bfloat16"))  # images together, precision
COLUMNS = ["file", "resolution", "what", "seconds", "processor", "memory"]


def ffhq_config(resolution: int) -> GeneratorConfig:
    """The configuration of NVIDIA's official generators (config-f, channel base 32768) at a resolution."""
    widths = tuple(min(512, 32768 // (4 << k)) for k in range(resolution.bit_length() - 2))
    return GeneratorConfig(resolution, 512, 512, 8, widths)


def measure_full_size(
    sources: Sequence[str | Path] = (),
    *,
    device: torch.device | str = "cpu",
    steps: int = STEPS,
    say: Callable[[str], object] = lambda text: None,
) -> "pandas.DataFrame":
    """What it costs to open a generator, to draw a picture and to invert one with II2S: a row for each.

    sources: files of generators; by default generators of 256, 512 and 1024 px with random weights, in rosinality's
    layout, since what they cost does not depend on the weights. seconds: by the clock. processor: seconds of processor
    time of all threads, which on a busy machine say more. memory: peak of the process in MiB, Python and torch
    included, on a CUDA device that of torch's tensors there. Each row is measured in a process of its own.
    """
    import pandas

    rows: list[tuple] = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(source) for source in sources] or [write_random(Path(folder), r) for r in RESOLUTIONS]
        for file in files:
            converted = Path(folder) / f"{file.stem}.converted.safetensors"
            convert(file, converted)
            for what, work in _works(file, converted, str(device), steps):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                    resolution, *found = alone.submit(work).result()
                rows.append((file.name, resolution, what, *found))
                say(f"{file.name}: {what}: {found[0]:.2f} s, {found[2]:.0f} MiB")
    table = pandas.DataFrame(rows, columns=COLUMNS)
    table["device"] = str(device)
    return table


def write_random(folder: Path, resolution: int) -> Path:
    """A file of rosinality's layout with an official generator's shape and random weights; returns its path."""
    path = folder / f"random-{resolution}.pt"
    G = Generator(ffhq_config(resolution)).requires_grad_(False)
    for block in G.blocks.values():
        block.torgb.weight.mul_(0.1)  # so that the picture lies in [-1, 1], as that of a trained generator
    torch.save({"g_ema": rosinality.generator_to(G.state_dict()), "latent_avg": G.w_avg}, path)
    return path


def _works(file: Path, converted: Path, device: str, steps: int) -> list[tuple[str, Callable[[], tuple]]]:
    inversions = [
        (f"one step of II2S, {images} image{'s' * (images > 1)}, {precision}",
         partial(_invert, converted, device, images, precision, steps))
        for images, precision in INVERSIONS
    ]  # fmt: skip
    size = f"{file.stat().st_size / 1e6:.0f} MB"
    return [
        (f"open the file ({size}), with a check of its picture", partial(_open, file, device)),
        ("open it converted to .safetensors", partial(_open, converted, device)),
        ("draw one picture", partial(_draw, converted, device)),
        *inversions,
    ]


def _open(file: Path, device: str) -> tuple[int, float, float, float]:
    clock = _Clock(device)
    G = load(file, device=device)
    return G.resolution, *clock.read()


def _draw(file: Path, device: str) -> tuple[int, float, float, float]:
    G = load(file, device=device)
    w_plus = G.broadcast(G.w_avg[None])
    with torch.no_grad():
        G.synthesis(w_plus)
        clock = _Clock(device)
        G.synthesis(w_plus)
        return G.resolution, *clock.read()


def _invert(file: Path, device: str, images: int, precision: str, steps: int) -> tuple[int, float, float, float]:
    G = load(file, device=device)
    statistics = measure_statistics(G, 2 * G.w_dim)  # a descent costs the same with those of more codes
    z = torch.randn(images, G.z_dim, generator=stream(0, "full size")).to(G.w_avg)
    with torch.no_grad():
        targets = torch.cat([G(one).clamp(-1, 1) for one in z.split(1)])
    clock, ends = _Clock(device), []
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
        invert_ii2s(targets, G, steps=1 + steps, statistics=statistics, callback=lambda _: ends.append(clock.read()))
    seconds, processor = (median(b[i] - a[i] for a, b in pairwise(ends)) for i in (0, 1))
    return G.resolution, seconds, processor, clock.read()[2]


class _Clock:
    """Seconds by the clock and of the processor since it was made, and the peak of memory in MiB."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.began = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float, float]:
        seconds, processor = (now - then for now, then in zip(self._now(), self.began, strict=True))
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if on_gpu else memory("VmHWM")
        return seconds, processor, peak


def describe(table: "pandas.DataFrame", load_before: float | None = None) -> str:
    """The table of ``measure_full_size`` as a page of Markdown. load_before: how many processes ran before it began."""
    parts = ["# Full-size generators: memory and time", _introduction(table, load_before)]
    for name, title, form in (
        ("processor", "Processor time, s", "{:.1f}"),
        ("seconds", "Time by the clock, s", "{:.1f}"),
        ("memory", "Peak memory, GiB", "{:.1f}"),
    ):
        values = table[name] / 1024 if name == "memory" else table[name]
        parts.append(f"## {title}\n\n{_table(table, values, form)}")
    return "\n\n".join(parts) + "\n"


def _introduction(table: "pandas.DataFrame", load_before: float | None) -> str:
    busy = "" if load_before is None else (
        f" {load_before:.1f} other processes ran on its {os.cpu_count()} cores when the measurement began, so that the "
        "clock shows more than the work alone takes: read the processor time."
    )  # fmt: skip
    return (
        "Written by `latentlab benchmark --only full-size`; with `--generator ffhq.pkl` the same command measures a "
        f"file of yours. Files: {', '.join(table['file'].unique())}; `random` ones have the official shape (FFHQ's, "
        f"channel base 32768) and random weights. Device {table['device'][0]}, "
        f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}, processor: {_processor()}.{busy} "
        "II2S with the shipped perceptual network at 256 px; each row in a process of its own, so peak memory includes "
        "Python and torch. Precision bfloat16 is `--precision bf16` of `latentlab invert`: it needs less memory; "
        "whether it is faster depends on the processor's instructions for it."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _table(table: "pandas.DataFrame", values: Any, form: str) -> str:
    """Markdown: what is measured down, files across."""
    files = table.drop_duplicates("file")[["file", "resolution"]].itertuples(index=False)
    heads = [(file, f"{resolution} px") for file, resolution in files]
    lines = ["| |" + "|".join(f" {head} " for _, head in heads) + "|", "|---" * (1 + len(heads)) + "|"]
    whats = dict.fromkeys(what.partition(" (")[0] for what in table["what"])
    for what in whats:
        is_row = table["what"].str.partition(" (")[0] == what
        found = [values[is_row & (table["file"] == file)] for file, _ in heads]
        cells = [form.format(float(v.iloc[0])) if len(v) else "" for v in found]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
