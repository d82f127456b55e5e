"""Benchmark tables: distribution of samples, quality of inversions, accuracy of the shipped networks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from latentlab.evaluation.intervals import confidence_interval
from latentlab.evaluation.inversions import Judges, grade_inversion, load_judges
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
)
from latentlab.inversion_methods import find_method, invert, methods_for
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import kolmogorov_smirnov, mse, verification
from latentlab.networks.attributes import read_factors
from latentlab.networks.augmentation import augment
from latentlab.seeds import stream
from latentlab.spaces import statistics_for
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas


@torch.no_grad()
def measure_samples(name: str = "faces-64", n: int = 5_000, device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """Distributions of the factors in samples of a generator and in renders, one row for each factor.

    ks: Kolmogorov-Smirnov distance (0 to 1) between the judge's readings of ``n`` samples (psi 1) and of ``n``
    renders. sample_mean, render_mean, sample_std, render_std: of these readings. agreement: correlation over the
    samples of the judge's reading and that of the losses' network, which was trained independently.
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
    samples, renders, other = (torch.cat(readings[k]).cpu() for k in ("samples", "renders", "other"))
    rows = []
    for factor, a, b, c in zip(NAMES, samples.T, renders.T, other.T, strict=True):
        row = {"factor": factor, "ks": kolmogorov_smirnov(a, b)}
        row |= {"sample_mean": a.mean(), "render_mean": b.mean(), "sample_std": a.std(), "render_std": b.std()}
        row |= {"agreement": torch.stack([a, c]).corrcoef()[0, 1]}
        rows.append({key: value if isinstance(value, str) else float(value) for key, value in row.items()})
    return pandas.DataFrame(rows)


def accepted(method: str, **wanted: Any) -> dict[str, Any]:
    """Those of the ``wanted`` keywords that a method accepts (an encoder has no steps)."""
    keywords = find_method(method).keywords
    return {name: value for name, value in wanted.items() if name in keywords}


def measure_inversions(
    methods: Sequence[str] = (), steps: int = 500, device: torch.device | str = "cpu"
) -> "pandas.DataFrame":
    """Grades of these methods (default: ``methods_for``) on the 40 clean and the 80 strange faces of the real set.

    One row for each method and kind of faces: the means of all columns of ``grade_inversion``, and the standard
    error of the mean of psnr_db. steps: of the methods that take steps, NaN for the others.
    """
    import pandas

    G, real, judges, rows = load("faces-64", device=device), real_set(), load_judges(device=device), []
    for method in methods or methods_for(G):
        keywords = accepted(method, steps=steps)
        for label, faces in (("clean", real.clean), ("strange", real.strange)):
            grades = grade_all(faces, G, method, judges, keywords)
            psnr_db = grades["psnr_db"]
            rows.append(
                {"method": method, "faces": label, "n": len(faces), "steps": keywords.get("steps", float("nan"))}
                | {name: float(values.mean()) for name, values in grades.items()}
                | {"psnr_db_standard_error": float(psnr_db.std() / len(psnr_db) ** 0.5)}
            )
    return pandas.DataFrame(rows)


LEARNING_RATES = (0.01, 0.03, 0.1)  # the papers' rate of I2S and II2S first


def measure_learning_rates(
    methods: Sequence[str] = ("ii2s", "z_plus"), steps: int = 300, n: int = 20, device: torch.device | str = "cpu"
) -> "pandas.DataFrame":
    """How much the likeness after a few steps depends on the learning rate, on the first clean faces of the real set.

    One row for each method and rate: the mean of psnr_db and pn_norm over the n faces, and by how many dB the face is
    nearer than at the first rate: its mean, and the ends of its 95 % interval (Student's, of the paired differences).
    """
    G, faces = load("faces-64", device=device), real_set().clean[:n]
    return _compare(G, faces, methods, [{"steps": steps, "learning_rate": rate} for rate in LEARNING_RATES])


FLOORS = (1e-4, 1e-2, 1e-3, 1e-5, 1e-8)  # of the eigenvalues of P, relative to the largest; the library's first


def measure_floors(steps: int = 300, n: int = 20, device: torch.device | str = "cpu") -> "pandas.DataFrame":
    """How much the likeness of II2S depends on the floor of P's eigenvalues, on the first clean faces of the real set.

    One row for each floor: the number of axes that it raises, own_pn_norm, the mean of |v|^2 / D of codes of the
    generator, and what ``measure_learning_rates`` has, in comparison with the library's floor.
    """
    G, faces = load("faces-64", device=device), real_set().clean[:n]
    all_statistics = [replace(statistics_for(G), floor=floor) for floor in FLOORS]
    table = _compare(G, faces, ["ii2s"], [{"steps": steps, "statistics": each} for each in all_statistics])
    own = G.mapping(torch.randn(10_000, G.z_dim, generator=stream(0, "measured floors")).to(device))
    table["floor"] = FLOORS
    table["raised_axes"] = [int((each.floored > each.eigenvalues).sum()) for each in all_statistics]
    table["own_pn_norm"] = [float(each.w_to_pn(own).square().mean()) for each in all_statistics]
    return table


def _compare(
    G: nn.Module, faces: FaceSet, methods: Sequence[str], settings: Sequence[dict[str, Any]]
) -> "pandas.DataFrame":
    """One row for each method and setting: settings that are numbers, means of psnr_db and pn_norm over the faces, and
    by how many dB a face is nearer than with the first setting: the mean, and the ends of its 95 % interval."""
    import pandas

    judges, rows = load_judges(device=G.w_avg.device), []
    for method in methods:
        first = None
        for keywords in settings:
            grades = grade_all(faces, G, method, judges, keywords)
            first = grades["psnr_db"] if first is None else first
            gained = (grades["psnr_db"] - first).cpu().double().numpy()
            low, high = confidence_interval(gained, method="t")
            rows.append(
                {"method": method, "n": len(faces)}
                | {name: value for name, value in keywords.items() if isinstance(value, int | float)}
                | {name: float(grades[name].mean()) for name in ("psnr_db", "pn_norm")}
                | {"gained_db": float(gained.mean()), "gained_low": low, "gained_high": high}
            )
    return pandas.DataFrame(rows)


def grade_all(
    faces: FaceSet, G: nn.Module, method: str, judges: Judges, keywords: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """What inversions of these faces by a method are worth, see ``grade_inversion``, twenty at a time: (N,) each."""
    parts = []
    for images in faces.images.to(G.w_avg.device).split(20):
        inversion = invert(images, G, method, **keywords)
        if inversion.interrupted:
            raise KeyboardInterrupt
        parts.append(grade_inversion(inversion, images, judges))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.inference_mode()
def measure_networks(
    people: int = 200, renders: int = 1_000, choices: int = 30, device: torch.device | str = "cpu"
) -> "pandas.DataFrame":
    """Accuracy of the networks in ``losses`` and in ``judges`` on held-out faces, side by side.

    One row for each measure and set of faces. "R2": share of a factor's variance that the reading explains, median
    over the factors. "AUC": area under the ROC curve of identity distance as a test for pairs of one person
    against pairs of two; a look-alike shares half of every identity factor. "2AFC": share of triplets in which
    the perceptual distance is smaller for the smaller of two changes of one factor, all images with noise added;
    0.5 is chance. pixels: the same for the mean squared error, for comparison.

    people: pairs for the AUC. renders: held-out faces for R2. choices: triplets for each factor.
    """
    import pandas

    families = {
        "losses": (load_attributes(device=device), load_identity(device=device), load_perceptual(device=device)),
        "judges": (
            load_attribute_judge(device=device),
            load_identity_judge(device=device),
            load_perceptual_judge(device=device),
        ),
    }
    readers, identities, perceptual = ({k: v[i] for k, v in families.items()} for i in range(3))
    rows = [
        *_readings(readers, renders, device),
        *_verifications(identities | {"pixels": mse}, people, device),
        *_choices(perceptual | {"pixels": mse}, choices, device),
    ]
    return pandas.DataFrame(rows, columns=["measure", "faces", *families, "pixels"])


def _readings(readers: dict, renders: int, device: torch.device | str) -> list[tuple]:
    held_out, real = sample_factors(renders, seed=999_999), real_set()
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


def _choices(distances: dict, choices: int, device: torch.device | str) -> list[tuple]:
    base, right = sample_factors(choices, seed=33), {name: [] for name in distances}
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
