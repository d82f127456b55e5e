"""What is there, in numbers: speed on this machine, how samples are distributed, how near inversions come."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latentlab.faces import NAMES, TABLE, FaceSet, Factors, real_set, render, sample_factors
from latentlab.formats.models import load
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge, verification
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import kolmogorov_smirnov, mse, psnr
from latentlab.priors import mahalanobis
from latentlab.registry import METHODS, invert
from latentlab.regression import IDENTITY, augment, in_other_states, read_factors
from latentlab.seeds import stream
from latentlab.spaces import measure_statistics, statistics_for, w_to_p
from latentlab.stylegan.training import PRESETS, GeneratorTraining

if TYPE_CHECKING:
    import pandas


def measure_speed(device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """Images/s of renderer, training and networks, seconds of the statistics and of each inversion (500 steps)."""
    import pandas

    rows = [_renderer(device), _training(), *_statistics(), *_networks(device), *_inversions(device)]
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


def _statistics(n: int = 1_000_000) -> list[tuple[str, float, str]]:
    """Our streamed covariance and, where scikit-learn is installed, the route of the public II2S code. Each runs
    in a process of its own, whose peak of memory is this work's alone."""
    rows = []
    routes = {"statistics": _streamed} | ({"IncrementalPCA": _incremental} if find_spec("sklearn") else {})
    for name, route in routes.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            seconds, mib = alone.submit(route, n).result()
        rows += [(f"{name}, {n:,} codes", round(seconds, 1), "s"), (f"{name}, memory", round(mib), "MiB")]
    ratios = [(f"{a[0]} / ours", round(a[1] / b[1], 1), "times") for a, b in zip(rows[2:], rows, strict=False)]
    return rows + ratios


def _streamed(n: int) -> tuple[float, float]:
    G, before, began = load("faces-64"), _memory("VmRSS"), time.perf_counter()
    measure_statistics(G, n)
    return time.perf_counter() - began, _memory("VmHWM") - before


@torch.no_grad()
def _incremental(n: int) -> tuple[float, float]:
    """All codes in memory, then scikit-learn's IncrementalPCA with batches of 2560, as ZPdesu/II2S does."""
    from sklearn.decomposition import IncrementalPCA

    G, before, began = load("faces-64"), _memory("VmRSS"), time.perf_counter()
    draw = stream(0, "statistics")
    sizes = [min(10_000, n - start) for start in range(0, n, 10_000)]
    codes = torch.cat([w_to_p(G.mapping(torch.randn(size, G.z_dim, generator=draw))) for size in sizes])
    IncrementalPCA(G.w_dim, batch_size=2560).fit(codes.numpy())
    return time.perf_counter() - began, _memory("VmHWM") - before


def _memory(mark: str) -> float:
    """This process' memory in MiB, now ("VmRSS") or at its peak ("VmHWM"); NaN where there is no /proc."""
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


def _inversions(device: torch.device | str) -> list[tuple[str, float, str]]:
    G, image = load("faces-64", device=device), real_set()[:1].images.to(device)
    return [
        (f"{name}, one face, 500 steps", round(_seconds(lambda m=m: m.invert(image, G, steps=500), 1), 1), "s")
        for name, m in METHODS.items()
    ]


@torch.no_grad()
def measure_samples(name: str = "faces-64", n: int = 5_000, device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """How far the factors of samples are distributed from those of renders, a row a factor.

    ks: Kolmogorov-Smirnov distance between what the judge reads from ``n`` samples (psi 1) and from ``n``
    renders, 0 to 1. sample_mean, render_mean, sample_std, render_std: of these readings. agreement:
    correlation over the samples of the judge's reading with that of the losses' network, a stranger to it.
    """
    import pandas

    G = load(name, device=device)
    judge, other = load_attribute_judge(device=device), load_attributes(device=device)
    draw = stream(0, "measured samples")
    readings: dict[str, list[torch.Tensor]] = {"samples": [], "renders": [], "other": []}
    for start in range(0, n, 250):
        samples = G(torch.randn(250, G.z_dim, generator=draw).to(device))
        renders = render(sample_factors(250, seed=555_555, start=start).to(device), resolution=G.resolution)
        readings["samples"].append(read_factors(judge, samples))
        readings["other"].append(read_factors(other, samples))
        readings["renders"].append(read_factors(judge, renders))
    a, b, c = (torch.cat(readings[k]).cpu() for k in ("samples", "renders", "other"))
    rows = [
        (name, kolmogorov_smirnov(a[:, k], b[:, k]), *(float(v) for v in (a[:, k].mean(), b[:, k].mean(),
         a[:, k].std(), b[:, k].std(), torch.stack([a[:, k], c[:, k]]).corrcoef()[0, 1])))
        for k, name in enumerate(NAMES)
    ]  # fmt: skip
    columns = ["factor", "ks", "sample_mean", "render_mean", "sample_std", "render_std", "agreement"]
    return pandas.DataFrame(rows, columns=columns)


def measure_inversions(
    methods: Sequence[str] = (), steps: int = 500, device: torch.device | str = "cpu"
) -> "pandas.DataFrame":
    """PSNR and mean squared PN+ norm of these methods (none named: all) on the 40 clean and the 80 strange
    faces, mean and standard error of the mean."""
    import pandas

    G, real, rows = load("faces-64", device=device), real_set(), []
    for method in methods or METHODS:
        for label, faces in (("clean", real.clean), ("strange", real.strange)):
            likeness, typical = _invert_all(faces, G, method, steps, device)
            measured = (float(likeness.mean()), _error(likeness), float(typical.mean()))
            rows.append((method, label, len(faces), steps, *measured))
    columns = ["method", "faces", "n", "steps", "psnr_db", "standard_error", "pn_norm"]
    return pandas.DataFrame(rows, columns=columns)


def _invert_all(
    faces: FaceSet, G: torch.nn.Module, method: str, steps: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    images = faces.images.to(device)
    inversions = [invert(part, G, method, steps=steps) for part in images.split(20)]
    if any(i.interrupted for i in inversions):
        raise KeyboardInterrupt
    found = torch.cat([i.image for i in inversions])
    return psnr(found, images), mahalanobis(torch.cat([i.latent for i in inversions]), statistics_for(G))


def _error(values: torch.Tensor) -> float:
    return float(values.std() / len(values) ** 0.5)


@torch.inference_mode()
def measure_networks(people: int = 200, device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """How well the losses' and the judges' networks read held-out faces, a row a measure and a set of faces.

    "R2": median over the factors of how much of their variance a reading explains. "AUC": of telling pairs of
    one person from pairs of two by identity distance; a look-alike shares half of every identity factor.
    "2AFC": how often the smaller of two changes of one factor is nearer, all pictures noised; 0.5 is chance.
    pixels: the plain squared difference of pictures, for comparison.
    """
    import pandas

    families = {
        "losses": (load_attributes(device=device), load_identity(device=device), load_perceptual(device=device)),
        "judges": (
            load_attribute_judge(device=device), load_identity_judge(device=device),
            load_perceptual_judge(device=device),
        ),
    }  # fmt: skip
    readers, identities, perceptual = ({k: v[i] for k, v in families.items()} for i in range(3))
    rows = [*_readings(readers, device), *_verifications(identities | {"pixels": mse}, people, device),
            *_choices(perceptual | {"pixels": mse}, device)]  # fmt: skip
    return pandas.DataFrame(rows, columns=["measure", "faces", *families, "pixels"])


def _readings(readers: dict, device: torch.device | str) -> list[tuple]:
    held_out, real = sample_factors(1_000, seed=999_999), real_set()
    sets = {
        "held-out renders": (render(held_out), held_out.values),
        "real set, clean": (real.clean.images, real.clean.factors.values),
        "real set, strange": (real.strange.images, real.strange.factors.values),
    }
    rows = []
    for name, (images, truth) in sets.items():
        read = [read_factors(net, images.to(device)).cpu() for net in readers.values()]
        r2 = [1 - (r - truth).square().mean(0) / truth.var(0, correction=0) for r in read]
        rows.append(("R2", name, *(float(v.median()) for v in r2), float("nan")))
    return rows


def _verifications(distances: dict, people: int, device: torch.device | str) -> list[tuple]:
    who, others = sample_factors(people, seed=987_654), sample_factors(people, seed=987_777)
    a, b = in_other_states(who, 987_655), in_other_states(who, 987_656)
    alike = in_other_states(Factors(torch.where(IDENTITY, (who.values + others.values) / 2, who.values)), 987_656)
    sets = {
        "any state and light": (a, b),
        "glasses off, on": (a.replace(glasses=0), b.replace(glasses=1)),
        "young, old": (a.replace(age=0), b.replace(age=1)),
        "light from left, right": (a.replace(light_azimuth=-60), b.replace(light_azimuth=60)),
        "yaw -30, +30 degrees": (a.replace(yaw=-30), b.replace(yaw=30)),
    }
    rows = []
    for name, (x, y) in sets.items():
        x, y = render(x).to(device), render(y).to(device)
        areas = [verification(d(x, y).cpu(), d(x, y.roll(1, 0)).cpu())[0] for d in distances.values()]
        rows.append(("AUC", name, *areas))
    x, y, z = (render(f).to(device) for f in (a, b, alike))
    areas = [verification(d(x, y).cpu(), d(x, z).cpu())[0] for d in distances.values()]
    return [*rows, ("AUC", "look-alikes", *areas)]


def _choices(distances: dict, device: torch.device | str) -> list[tuple]:
    base, right = sample_factors(30, seed=33), {name: [] for name in distances}
    for factor in (f for f in TABLE if f.kind == "continuous"):
        value, reach = base[factor.name], 0.6 * (factor.high - factor.low)
        step = torch.where(value + reach <= factor.high, reach, -reach)
        steps = (0, step / 3, step)
        values = ((value + s).clamp(factor.low, factor.high) for s in steps)
        a, b, c = (
            augment(render(base.replace(**{factor.name: v})).to(device), stream(7, "choices", i, device=device))
            for i, v in enumerate(values)
        )
        for name, d in distances.items():
            right[name].append(float((d(a, b) < d(a, c)).float().mean()))
    return [("2AFC", "one factor moved, noise", *(sum(v) / len(v) for v in right.values()))]
