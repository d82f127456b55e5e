"""What is there, in numbers: how samples are distributed, how near inversions come, how well networks read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from latentlab.faces import (
    IDENTITY,
    NAMES,
    TABLE,
    FaceSet,
    Factors,
    in_other_states,
    real_set,
    render,
    sample_factors,
)  # fmt: skip
from latentlab.inversion_methods import METHODS, invert
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import kolmogorov_smirnov, mse, psnr, verification
from latentlab.networks.attributes import read_factors
from latentlab.networks.augmentation import augment
from latentlab.priors import pn_norm
from latentlab.seeds import stream
from latentlab.spaces import statistics_for
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas


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
    return psnr(found, images), pn_norm(torch.cat([i.latent for i in inversions]), statistics_for(G))


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
