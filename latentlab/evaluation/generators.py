"""What a generator's latent space is worth: how roomy and how linear W is, and what a straight step in it does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.checkpoints import load_checkpoint
from latentlab.editing.regression import fit_directions
from latentlab.faces import MAIN_NAMES, NAMES, render, sample_factors
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.losses.attributes import load_attributes
from latentlab.metrics import fid, kolmogorov_smirnov
from latentlab.networks.attributes import read_factors
from latentlab.seeds import stream
from latentlab.spaces import Statistics, measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights import read_manifest
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

GOAL = 1.0  # standard deviations by which the judge should see a factor move, on average over faces
LIMIT = 4.0  # the largest strength that is tried


@dataclass(frozen=True)
class Samples:
    """Samples of one generator. w: (N, D). readings: (N, K), the judge's, of their pictures. std: (K,) of these."""

    w: Float[Tensor, "n dim"]
    readings: Float[Tensor, "n k"]
    embeddings: Float[Tensor, "n e"]

    @property
    def std(self) -> Float[Tensor, " k"]:
        return self.readings.std(0)


@torch.no_grad()
def draw_judged(G: Generator, n: int, *, seed: int = 0, batch_size: int = 250) -> Samples:
    """``n`` samples without truncation, read by the attribute judge and embedded by the identity judge."""
    judge, identity = load_attribute_judge(), load_identity_judge()
    draw, parts = stream(seed, "judged samples"), []
    for start in range(0, n, batch_size):
        w = G.mapping(torch.randn(min(batch_size, n - start), G.z_dim, generator=draw))
        x = G.synthesis(G.broadcast(w)).clamp(-1, 1)
        parts.append((w, read_factors(judge, x), identity.features(x)))
    return Samples(*(torch.cat(part) for part in zip(*parts, strict=True)))


def measure_latent_space(G: Generator, statistics: Statistics, samples: Samples) -> dict[str, float]:
    """Effective dimension of P, axes below the floor, and held-out R2 of the factors on W and on PN.

    effective_dimension: the participation ratio (sum of eigenvalues)^2 / sum of their squares of P's covariance.
    r2_w, r2_pn: of a linear regression of the judge's readings on two thirds of the samples, tested on the others:
    the median over all factors, and each main factor's, e.g. "r2_w smile".
    """
    eigenvalues = statistics.eigenvalues
    found = {
        "effective_dimension": float(eigenvalues.sum().square() / eigenvalues.square().sum()),
        "axes_below_floor": float((eigenvalues < statistics.floor * eigenvalues.max()).sum()),
    }
    for space, x in {"w": samples.w, "pn": statistics.w_to_pn(samples.w)}.items():
        r2 = held_out_r2(x, samples.readings)
        found[f"r2_{space}"] = float(r2.median())
        found |= {f"r2_{space} {name}": float(r2[NAMES.index(name)]) for name in MAIN_NAMES}
    return found


def held_out_r2(x: Float[Tensor, "n dim"], y: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """R2 of a linear regression of each column of y on x, fitted to two thirds of the rows, on the last third, (K,)."""
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1).double()
    fitted, tested = slice(None, 2 * len(x) // 3), slice(2 * len(x) // 3, None)
    guess = x[tested] @ torch.linalg.lstsq(x[fitted], y[fitted].double()).solution
    return (1 - (guess - y[tested]).square().mean(0) / y[tested].double().var(0, correction=0)).float()


@torch.no_grad()
def measure_directions(G: Generator, samples: Samples, *, faces: int = 100, seed: int = 1) -> dict[str, float]:
    """What one and the same simple direction, found by regression on the samples, does to other samples.

    For each main factor the strength is set so that the judge sees the factor move by one standard deviation on
    average over the faces. leakage: mean over the other factors of the mean absolute change, in standard
    deviations; systematic: of the absolute mean change; scatter: of the standard deviation of the change over faces.
    reached: the mean change at the strength used; below 1 where no strength up to ``LIMIT`` moves the factor so far,
    and then the other numbers are those of the strength that moves it farthest.
    """
    directions = fit_directions(samples.w, samples.readings, list(NAMES))
    judge = load_attribute_judge()
    w = draw_judged(G, faces, seed=seed).w
    before = read_factors(judge, G.synthesis(G.broadcast(w)).clamp(-1, 1))
    found: dict[str, float] = {}
    for name in MAIN_NAMES:
        k, d = NAMES.index(name), directions[name].vector

        def change(strength: float, d: Tensor = d) -> Float[Tensor, "n k"]:
            after = read_factors(judge, G.synthesis(G.broadcast(w + strength * d)).clamp(-1, 1))
            return (after - before) / samples.std

        # The reading need not rise all the way: scan in eighths, then bisect the first that crosses the goal.
        reached = {s: float(change(s)[:, k].mean()) for s in (LIMIT * i / 8 for i in range(1, 9))}
        high = next((s for s, mean in reached.items() if mean >= GOAL), max(reached, key=reached.get))
        low = high - LIMIT / 8
        for _ in range(4 * (reached[high] >= GOAL)):
            middle = (low + high) / 2
            low, high = (middle, high) if float(change(middle)[:, k].mean()) < GOAL else (low, middle)
        moved = change(high)
        others = torch.arange(len(NAMES)) != k
        found |= {
            f"reached {name}": float(moved[:, k].mean()),
            f"leakage {name}": float(moved[:, others].abs().mean()),
            f"systematic {name}": float(moved[:, others].mean(0).abs().mean()),
            f"scatter {name}": float(moved[:, others].std(0).mean()),
        }
    for what in ("reached", "leakage", "systematic", "scatter"):
        found[what] = sum(found[f"{what} {name}"] for name in MAIN_NAMES) / len(MAIN_NAMES)
    return found


def measure_path_length(G: Generator, n: int = 96, *, seed: int = 2) -> dict[str, float]:
    """Mean and coefficient of variation over codes of the path length |J_w^T y|, y ~ N(0, I) over the pixels
    (StyleGAN2, Eq. 4)."""
    draw = stream(seed, "path length")
    w = G.mapping(torch.randn(n, G.z_dim, generator=draw)).detach()
    lengths = []
    for part in w.split(16):
        w_plus = G.broadcast(part).clone().requires_grad_()
        image = G.synthesis(w_plus)
        y = torch.randn(image.shape, generator=draw) / image[0, 0].numel() ** 0.5
        (jacobian_y,) = torch.autograd.grad((image * y).sum(), w_plus)
        lengths.append(jacobian_y.square().sum(2).mean(1).sqrt())
    lengths = torch.cat(lengths)
    return {"path_length": float(lengths.mean()), "path_length_variation": float(lengths.std() / lengths.mean())}


@torch.no_grad()
def measure_distribution(G: Generator, samples: Samples, *, seed: int = 555_555) -> dict[str, float]:
    """How the samples are distributed beside as many renders: KS distance of each main factor, the mean over all, and
    FID-like distances of the identity judge's embeddings and of the losses' attribute readings."""
    n = len(samples.w)
    judge, identity, other = load_attribute_judge(), load_identity_judge(), load_attributes()
    parts = []
    for start in range(0, n, 250):
        x = render(sample_factors(250, seed=seed, start=start), G.resolution)
        parts.append((read_factors(judge, x), identity.features(x), other(x)))
    readings, embeddings, losses = (torch.cat(part)[:n] for part in zip(*parts, strict=True))
    own = torch.cat([other(G.synthesis(G.broadcast(w)).clamp(-1, 1)) for w in samples.w.split(250)])
    ks = {name: kolmogorov_smirnov(samples.readings[:, k], readings[:, k]) for k, name in enumerate(NAMES)}
    return {
        "ks": sum(ks.values()) / len(ks),
        **{f"ks {name}": ks[name] for name in MAIN_NAMES},
        "fid_judges": fid(samples.embeddings, embeddings),
        "fid_losses": fid(own, losses),
    }


@torch.no_grad()
def measure_mapping(G: Generator, seed: int) -> dict[str, float]:
    """How far training has moved the mapping network from where a training of this seed starts: the mean over its
    layers of |W - W_0| / |W_0|. Of the two starts that there are, with all of the generator and behind the synthesis
    of another one (``replace_mapping``), the nearer; NaN if it is neither."""
    moved = []
    for name in ("weights of G", "weights of a mapping"):
        initial = Generator(G.config, seed=stream(seed, name).initial_seed())
        pairs = zip(G.mapping.layers, initial.mapping.layers, strict=True)
        layers = [float((a.weight - b.weight).norm() / b.weight.norm()) for a, b in pairs]
        moved.append(sum(layers) / len(layers))
    return {"mapping_moved": min(moved) if min(moved) < 1 else float("nan")}


def measure_generators(sources: Sequence[str] = ("faces-64",), *, n: int = 6_000) -> "pandas.DataFrame":
    """The latent spaces of generators beside each other, one row for each; minutes per generator on a CPU.

    sources: names of shipped generators, .safetensors files, or folders of training runs, of which the moving average
    is measured. Columns: generator, images (seen in training, NaN where unknown), and the measures of this module.
    """
    import pandas

    rows = []
    for source in sources:
        G, seed, images = _open(source)
        statistics, samples = measure_statistics(G, 200_000), draw_judged(G, n)
        rows.append(
            {"generator": source, "images": images}
            | (measure_mapping(G, seed) if seed is not None else {})
            | measure_latent_space(G, statistics, samples)
            | measure_directions(G, samples)
            | measure_path_length(G)
            | measure_distribution(G, samples)
        )
    return pandas.DataFrame(rows)


def _open(source: str) -> tuple[Generator, int | None, float]:
    """A generator with the seed and the number of images of its training."""
    if (checkpoint := Path(source) / "checkpoint.pt").is_file():
        state = load_checkpoint(checkpoint)
        G = Generator(GeneratorConfig.from_dict(state["config"]["generator"]))
        G.load_state_dict(state["G_ema"])
        G = G.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        return G, state["config"]["seed"], state["progress"][1]
    told = read_manifest().get(f"{source}.generator.safetensors", {})
    return load(source), told.get("seed"), told.get("images", float("nan"))
