"""Timing benchmarks: renderer, training, networks, statistics of W, inversions."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latentlab.evaluation.tables import accepted
from latentlab.faces import real_set, render, sample_factors
from latentlab.inversion.ii2s import invert_ii2s
from latentlab.inversion_methods import METHODS, methods_for
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.seeds import stream
from latentlab.spaces import measure_statistics, w_to_p
from latentlab.stylegan import Generator, GeneratorConfig, ops
from latentlab.training.generator import PRESETS, GeneratorTraining
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

STEPS = 1300  # of II2S in its paper
WARM_UP = 5  # steps that are not timed
FFHQ = GeneratorConfig(1024, 512, 512, 8, (512,) * 5 + (256, 128, 64, 32))
# Peak dense TFLOP/s according to the data sheets: (float32 with convolutions in TF32, torch's default; bfloat16)
PEAKS = {
    "H100 PCIe": (378, 756),
    "H100": (495, 989),
    "H200": (495, 989),
    "A100": (156, 312),
    "RTX 4090": (82.6, 165.2),
}


def measure_speed(device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """Speed in images/s of renderer, training and networks, and in seconds of the statistics and of each inversion."""
    import pandas

    rows = [_renderer(device), _training(), *_statistics(), *_networks(device), *_inversions(device)]
    table = pandas.DataFrame(rows, columns=["what", "value", "unit"])
    table["threads"], table["device"] = torch.get_num_threads(), str(device)
    return table


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time in seconds of ``repeats`` runs, after one run to warm up."""
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
    """Sixteen steps at a time, because every sixteenth step has the lazy R1 term."""
    from lightning_fabric import Fabric

    config = PRESETS["faces-64"]
    training = GeneratorTraining(config, Fabric(accelerator="auto", devices=1, precision="bf16-mixed"))

    def sixteen() -> None:
        for i in range(16):
            factors = sample_factors(config.batch_size, seed=0, start=i * config.batch_size)
            training.step(render(factors.to(training.fabric.device)))

    return "training faces-64", round(16 * config.batch_size / _seconds(sixteen), 1), "images/s"


def _statistics(n: int = 1_000_000) -> list[tuple[str, float, str]]:
    """Statistics of W by the streamed covariance and, where scikit-learn is installed, as the public II2S code does
    it. Each runs in its own process, so that the process's peak memory belongs to this work alone."""
    rows = []
    routes = {"statistics": _streamed} | ({"IncrementalPCA": _incremental} if find_spec("sklearn") else {})
    for name, route in routes.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            seconds, mib = alone.submit(route, n).result()
        rows += [(f"{name}, {n:,} codes", round(seconds, 1), "s"), (f"{name}, memory", round(mib), "MiB")]
    ratios = [(f"{a[0]} / ours", round(a[1] / b[1], 1), "times") for a, b in zip(rows[2:], rows, strict=False)]
    return rows + ratios


def _streamed(n: int) -> tuple[float, float]:
    G, before, began = load("faces-64"), memory("VmRSS"), time.perf_counter()
    measure_statistics(G, n)
    return time.perf_counter() - began, memory("VmHWM") - before


@torch.no_grad()
def _incremental(n: int) -> tuple[float, float]:
    """All codes in memory, then scikit-learn's IncrementalPCA with batches of 2560, as in ZPdesu/II2S."""
    from sklearn.decomposition import IncrementalPCA

    G, before, began = load("faces-64"), memory("VmRSS"), time.perf_counter()
    draw = stream(0, "statistics")
    sizes = [min(10_000, n - start) for start in range(0, n, 10_000)]
    codes = torch.cat([w_to_p(G.mapping(torch.randn(size, G.z_dim, generator=draw))) for size in sizes])
    IncrementalPCA(G.w_dim, batch_size=2560).fit(codes.numpy())
    return time.perf_counter() - began, memory("VmHWM") - before


def memory(mark: str) -> float:
    """Memory of this process in MiB, now ("VmRSS") or at its peak ("VmHWM"); NaN on systems without /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(mark)), float("nan"))


def _networks(device: torch.device | str) -> list[tuple[str, float, str]]:
    faces = render(sample_factors(256, seed=0)).to(device).split(32)
    networks = {
        "losses, attributes": load_attributes(device=device),
        "losses, identity": load_identity(device=device).features,
        "losses, perceptual": load_perceptual(device=device).features,
        "judges, attributes": load_attribute_judge(device=device),
        "judges, identity": load_identity_judge(device=device).features,
        "judges, perceptual": load_perceptual_judge(device=device).features,
    }
    with torch.inference_mode():
        seconds = {k: _seconds(lambda n=n: [n(part) for part in faces]) for k, n in networks.items()}
    return [(f"{k}, batches of 32", round(256 / s, 1), "images/s") for k, s in seconds.items()]


def _inversions(device: torch.device | str, steps: int = 500) -> list[tuple[str, float, str]]:
    G, image, rows = load("faces-64", device=device), real_set()[:1].images.to(device), []
    for name in methods_for(G):
        keywords = accepted(name, steps=steps)
        what = f"{name}, one face" + (f", {steps} steps" if "steps" in keywords else "")
        rows.append((what, float(f"{_seconds(partial(METHODS[name], image, G, **keywords), 1):.2g}"), "s"))
    return rows


def measure_optimisers(device: torch.device | str = "cpu", *, steps: int = 65) -> "pandas.DataFrame":
    """Time of II2S in several forms, one row for each.

    One face; the same with all 1300 steps timed; 16 faces together; one face through grouped convolutions, as the
    public code runs it. On a CUDA device also ``faces-64`` and an FFHQ generator of 1024 px with random weights
    (speed does not depend on them), in float32 and bfloat16, with 1 to 32 images as far as memory goes, and with
    the generator compiled into a CUDA graph.

    seconds: per image for 1300 steps, computed from the median of ``steps`` steps after a warm-up. relative: to the
    first row. tflops: matrix products and convolutions of a step over its time, in 10^12 operations a second;
    peak: their share of the card's peak according to its data sheet, NaN for an unknown card.
    """
    import pandas

    G, faces = load("faces-64", device=device), real_set()[:16].images.to(device)
    rows = [
        _descent("ii2s", faces[:1], G, steps),
        _whole(faces[:1], G),
        _descent("ii2s, 16 together", faces, G, steps),
        _descent("grouped convolutions", faces[:1], GroupedGenerator(G), steps),
    ]
    if torch.device(device).type == "cuda":
        large = Generator(FFHQ).requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
        for generator in (G, large):
            rows += list(_sweep(generator, (1, 2, 4, 8, 16, 32), steps))
    table = pandas.DataFrame(rows)
    table.insert(table.columns.get_loc("seconds") + 1, "relative", table["seconds"] / table["seconds"][0])
    table["threads"], table["device"] = torch.get_num_threads(), str(device)
    return table


def _whole(images: Tensor, G: Generator) -> dict:
    began = time.perf_counter()
    invert_ii2s(images, G, steps=STEPS)
    seconds = (time.perf_counter() - began) / len(images)
    return {
        "what": "ii2s, every step timed",
        "resolution": G.resolution,
        "precision": "float32",
        "batch": len(images),
        "seconds": seconds,
    }


def _sweep(G: Generator, batches: Sequence[int], steps: int) -> Iterator[dict]:
    """Growing batches until memory runs out, then one image through a compiled generator."""
    common = {"statistics": measure_statistics(G, 4 * G.w_dim)}
    with torch.no_grad():
        z = torch.randn(max(batches), G.z_dim, generator=stream(0, "sweep")).to(G.w_avg)
        images = torch.cat([G(part).clamp(-1, 1) for part in z.split(1)])
    for precision in (torch.float32, torch.bfloat16):
        try:
            for n in batches:
                yield _descent("sweep", images[:n], G, steps, precision, **common)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        yield _descent("sweep, compiled", images[:1], G, steps, precision, compiled=True, **common)


def _descent(
    what: str,
    images: Tensor,
    G: Generator,
    steps: int,
    precision: torch.dtype = torch.float32,
    *,
    compiled: bool = False,
    **common: Any,
) -> dict:
    """One row of the table. A step ends when the device has finished it, because the descent then tests for images
    that have diverged; so the clock needs no synchronisation of its own."""
    ends: list[float] = []

    def descend(count: int) -> None:
        with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
            invert_ii2s(images, G, steps=count, callback=lambda *_: ends.append(time.perf_counter()), **common)

    operations = []
    for count in (1, 2):
        with FlopCounterMode(display=False) as counter:
            descend(count)
        operations.append(counter.get_total_flops())
    if compiled:
        G = copy.deepcopy(G)
        G.synthesis = torch.compile(G.synthesis, mode="reduce-overhead")
    ends.clear()
    descend(WARM_UP + steps)
    step = median(after - before for before, after in pairwise(ends[WARM_UP - 1 :]))
    speed = (operations[1] - operations[0]) / step / 1e12
    return {
        "what": what,
        "resolution": G.resolution,
        "precision": str(precision).removeprefix("torch."),
        "batch": len(images),
        "seconds": STEPS * step / len(images),
        "tflops": speed,
        "peak": speed / _peak(images.device, precision),
    }


def _peak(device: torch.device, precision: torch.dtype) -> float:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = (peaks for card, peaks in PEAKS.items() if card in name)
    return next(known, (float("nan"),) * 2)[precision == torch.bfloat16]


class GroupedGenerator(Generator):
    """A generator computed as in the public code: kernels modulated for each sample and one grouped convolution over
    all samples (StyleGAN2, section 2.2 and appendix B), in NCHW, with noise drawn anew for every image."""

    def __init__(self, G: Generator) -> None:
        super().__init__(G.config)
        self.load_state_dict(G.state_dict())
        self.requires_grad_(False).eval().to(G.w_avg.device)
        self.draw = stream(0, "grouped noise", device=G.w_avg.device)

    def synthesis(self, w_plus: Float[Tensor, "n layers dim"], **_: Any) -> Float[Tensor, "n 3 r r"]:
        """Images (N, 3, R, R) of codes of W+."""
        styles, image = iter(self.styles(w_plus)), None
        x = self.blocks["4"].const.repeat(len(w_plus), 1, 1, 1)
        for block in self.blocks.values():
            for _, conv in block.convs:
                x = _grouped_conv(x, conv.weight, next(styles), up=conv.up)
                noise = torch.randn(len(x), 1, *x.shape[2:], generator=self.draw, device=x.device)
                x = ops.lrelu(x + conv.noise_strength * noise + conv.bias[:, None, None])
            torgb = block.torgb
            rgb = _grouped_conv(x, torgb.weight * torgb.gain, next(styles), demodulate=False)
            rgb = rgb + torgb.bias[:, None, None]
            image = rgb if image is None else ops.fir_up(image) + rgb
        return image


def _grouped_conv(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i k k"],
    style: Float[Tensor, "n i"],
    *,
    up: bool = False,
    demodulate: bool = True,
) -> Float[Tensor, "n o h2 w2"]:
    n = len(x)
    kernels = style[:, None, :, None, None] * weight  # StyleGAN2, Eq. 1: (N, O, I, k, k)
    if demodulate:  # Eq. 3
        kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.flatten(0, 1)[None]
    if up:
        x = F.conv_transpose2d(x, kernels.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    else:
        x = F.conv2d(x, kernels.flatten(0, 1), padding=weight.shape[-1] // 2, groups=n)
    x = x[0].unflatten(0, (n, -1))
    return ops.fir_blur(x) if up else x
