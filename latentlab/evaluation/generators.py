"""What a generator's latent space is worth: how roomy and how linear W is, and what a straight step in it does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.checkpoints import load_checkpoint
from latentlab.editing.edit import Edit, State, apply_edit
from latentlab.editing.learned import learn_edit
from latentlab.editing.regression import fit_directions
from latentlab.evaluation.intervals import jackknife
from latentlab.evaluation.inversions import load_judges
from latentlab.evaluation.tables import grade_all
from latentlab.faces import MAIN_NAMES, NAMES, real_set, render, sample_factors
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.losses.attributes import load_attributes
from latentlab.metrics import fid, kolmogorov_smirnov
from latentlab.networks.attributes import read_factors
from latentlab.seeds import stream
from latentlab.spaces import Statistics, fingerprint, measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights import read_manifest
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

GOAL = 1.0  # standard deviations by which the judge should see a factor move, on average over faces
LIMIT = 4.0  # the largest strength that is tried
LEARNED = "smile"  # the factor whose edit is learned in S
METHODS, STEPS = ("ii2s", "sg2_w"), 300  # of the inversions
Changes = dict[str, Float[Tensor, "n k"]]


@dataclass(frozen=True)
class Samples:
    """Samples of one generator, or renders. w: (N, D), empty for renders. readings: (N, K), the judge's.
    embeddings: (N, E), the identity judge's. losses: (N, C), what the losses' attribute network says."""

    w: Float[Tensor, "n dim"]
    readings: Float[Tensor, "n k"]
    embeddings: Float[Tensor, "n e"]
    losses: Float[Tensor, "n c"]

    def __len__(self) -> int:
        return len(self.w)

    def __getitem__(self, keep: Tensor | slice) -> "Samples":
        return Samples(*(x[keep] for x in astuple(self)))

    @property
    def std(self) -> Float[Tensor, " k"]:
        return self.readings.std(0)


@torch.no_grad()
def draw_judged(G: Generator, n: int, *, seed: int = 0, batch_size: int = 250) -> Samples:
    """``n`` samples without truncation, as the judges and the losses' network see them."""
    draw, parts = stream(seed, "judged samples"), []
    for start in range(0, n, batch_size):
        w = G.mapping(torch.randn(min(batch_size, n - start), G.z_dim, generator=draw))
        parts.append((w, *_seen(G.synthesis(G.broadcast(w)).clamp(-1, 1))))
    return Samples(*(torch.cat(part) for part in zip(*parts, strict=True)))


@lru_cache(maxsize=1)
@torch.no_grad()
def render_judged(n: int, resolution: int, *, seed: int = 555_555) -> Samples:
    """``n`` renders, seen in the same way."""
    starts = range(0, n, 250)
    parts = [_seen(render(sample_factors(min(250, n - i), seed=seed, start=i), resolution)) for i in starts]
    return Samples(torch.empty(n, 0), *(torch.cat(part) for part in zip(*parts, strict=True)))


def _seen(x: Float[Tensor, "n 3 r r"]) -> tuple[Tensor, Tensor, Tensor]:
    return read_factors(load_attribute_judge(), x), load_identity_judge().features(x), load_attributes()(x)


def measure_dimension(statistics: Statistics) -> dict[str, float]:
    """Effective dimension of P, the participation ratio (sum of the eigenvalues)^2 / sum of their squares of its
    covariance, and the number of axes below the floor."""
    eigenvalues = statistics.eigenvalues
    return {
        "effective_dimension": float(eigenvalues.sum().square() / eigenvalues.square().sum()),
        "axes_below_floor": float((eigenvalues < statistics.floor * eigenvalues.max()).sum()),
    }


def measure_linearity(statistics: Statistics, samples: Samples) -> dict[str, float]:
    """r2_w, r2_pn: held-out R2 of a linear regression of the judge's readings on W and on PN: the median over all
    factors, and each main factor's, e.g. "r2_w smile"."""
    found = {}
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
def change_samples(
    G: Generator, samples: Samples, edits: Mapping[str, Edit], *, faces: int = 100, seed: int = 1
) -> Changes:
    """What edits do to other samples: by how much each reading changes, in standard deviations of the samples, (N, K).

    The strength of an edit is set so that the judge sees its factor move by one standard deviation on average over the
    faces, or, where no strength up to ``LIMIT`` moves it so far, is the one that moves it farthest.
    """
    judge, draw = load_attribute_judge(), stream(seed, "judged samples")
    state = State(G.broadcast(G.mapping(torch.randn(faces, G.z_dim, generator=draw))))
    before, found = read_factors(judge, state.draw(G).clamp(-1, 1)), {}
    for name, edit in edits.items():
        k = NAMES.index(name)

        def change(strength: float, edit: Edit = edit) -> Float[Tensor, "n k"]:
            after = apply_edit(edit, state, torch.full((faces,), strength), G).draw(G)
            return (read_factors(judge, after.clamp(-1, 1)) - before) / samples.std

        # The reading need not rise all the way: scan in eighths, then bisect the first that crosses the goal.
        reached = {s: float(change(s)[:, k].mean()) for s in (LIMIT * i / 8 for i in range(1, 9))}
        high = next((s for s, mean in reached.items() if mean >= GOAL), max(reached, key=reached.get))
        low = high - LIMIT / 8
        for _ in range(4 * (reached[high] >= GOAL)):
            middle = (low + high) / 2
            low, high = (middle, high) if float(change(middle)[:, k].mean()) < GOAL else (low, middle)
        found[name] = change(high)
    return found


def summarize_changes(changes: Changes) -> dict[str, float]:
    """Of each edit, and as means over the edits: reached, the mean change of its own factor, and over the other factors
    the means of leakage, the mean absolute change; systematic, the absolute mean change; scatter, the standard
    deviation of the change over faces."""
    found: dict[str, float] = {}
    for name, moved in changes.items():
        others = torch.arange(len(NAMES)) != NAMES.index(name)
        found |= {
            f"reached {name}": float(moved[:, ~others].mean()),
            f"leakage {name}": float(moved[:, others].abs().mean()),
            f"systematic {name}": float(moved[:, others].mean(0).abs().mean()),
            f"scatter {name}": float(moved[:, others].std(0).mean()),
        }
    for what in ("reached", "leakage", "systematic", "scatter"):
        found[what] = sum(found[f"{what} {name}"] for name in changes) / len(changes)
    return found


def path_lengths(G: Generator, n: int = 100, *, seed: int = 2) -> Float[Tensor, " n"]:
    """The path length |J_w^T y| at n codes, y ~ N(0, I) over the pixels (StyleGAN2, Eq. 4)."""
    draw = stream(seed, "path length")
    w = G.mapping(torch.randn(n, G.z_dim, generator=draw)).detach()
    lengths = []
    for part in w.split(20):
        w_plus = G.broadcast(part).clone().requires_grad_()
        image = G.synthesis(w_plus)
        y = torch.randn(image.shape, generator=draw) / image[0, 0].numel() ** 0.5
        (jacobian_y,) = torch.autograd.grad((image * y).sum(), w_plus)
        lengths.append(jacobian_y.square().sum(2).mean(1).sqrt())
    return torch.cat(lengths)


def measure_path_length(lengths: Float[Tensor, " n"]) -> dict[str, float]:
    """Mean and coefficient of variation of path lengths."""
    return {"path_length": float(lengths.mean()), "path_length_variation": float(lengths.std() / lengths.mean())}


def measure_distribution(samples: Samples, renders: Samples) -> dict[str, float]:
    """How the samples are distributed beside as many renders: KS distance and ratio of the spreads of each main factor,
    the mean KS distance of all factors, and FID-like distances of the identity judge's embeddings and of the losses'
    attribute readings."""
    ks = {name: kolmogorov_smirnov(samples.readings[:, k], renders.readings[:, k]) for k, name in enumerate(NAMES)}
    spread = samples.std / renders.std
    return {
        "ks": sum(ks.values()) / len(ks),
        **{f"ks {name}": ks[name] for name in MAIN_NAMES},
        **{f"spread {name}": float(spread[NAMES.index(name)]) for name in MAIN_NAMES},
        "fid_judges": fid(samples.embeddings, renders.embeddings),
        "fid_losses": fid(samples.losses, renders.losses),
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


def measure_generators(
    sources: Sequence[str] = ("faces-64",), *, n: int = 6_000, kept: "pandas.DataFrame | None" = None,
    say: Callable[[str], object] = lambda text: None,
) -> "pandas.DataFrame":  # fmt: skip
    """The latent spaces of generators beside each other, one row for each; a quarter of an hour per generator on a CPU.

    sources: names of shipped generators, .safetensors files, or folders of training runs, of which the moving average
    is measured. kept: a table of before, whose rows of the same weights are taken over. Columns: generator, its
    settings (NaN where unknown), the measures of this module, and beside most of them the ends of their 95 % intervals,
    e.g. "r2_w low" and "r2_w high", by a jackknife of ten groups of samples, codes or faces.
    """
    import pandas

    before = {} if kept is None else {(row["generator"], row["fingerprint"]): row for row in kept.to_dict("records")}
    rows = []
    for source in sources:
        opened = open_generator(source)
        key = opened.name, fingerprint(opened.G, "generator")
        if key not in before:
            say(f"measuring {opened.name}")
            before[key] = {"generator": key[0], "fingerprint": key[1]} | opened.settings | _measure(opened, n)
        rows.append(before[key] | opened.settings)
    return pandas.DataFrame(rows)


@dataclass(frozen=True)
class Opened:
    """A generator, the settings of its training as columns of the table, and its seed, if known."""

    name: str
    G: Generator
    seed: int | None
    settings: dict[str, Any]


def open_generator(source: str) -> Opened:
    """A generator with what is known of its training. source: as for ``measure_generators``."""
    path, config = Path(source), {}
    if (checkpoint := path / "checkpoint.pt").is_file():
        state = load_checkpoint(checkpoint)
        config, images = state["config"], state["progress"][1]
        G = Generator(GeneratorConfig.from_dict(config["generator"]))
        G.load_state_dict(state["G_ema"])
        G = G.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    else:
        G, told = load(source), read_manifest().get(f"{source}.generator.safetensors", {})
        config, images = told.get("config", {}), told.get("images", float("nan"))
    config = {"mapping_learning_rate": 1.0} | config if config else config  # older trainings had no other
    settings = {"mapping_layers": len(G.mapping.layers)} | {
        name: config.get(name, float("nan")) for name in ("path_length_weight", "mapping_learning_rate", "seed")
    }
    return Opened(path.name, G, config.get("seed"), settings | {"images": images})


def _measure(opened: Opened, n: int) -> dict[str, float]:
    G, faces, judges = opened.G, real_set().clean, load_judges()
    statistics, samples, renders = measure_statistics(G, 200_000), draw_judged(G, n), render_judged(n, G.resolution)
    directions = fit_directions(samples.w, samples.readings, list(NAMES))
    straight = change_samples(G, samples, {name: directions[name] for name in MAIN_NAMES})
    learned = change_samples(G, samples, {LEARNED: learn_edit(G, LEARNED)})[LEARNED]
    lengths = path_lengths(G)
    grades = {method: grade_all(faces, G, method, judges, {"steps": STEPS}) for method in METHODS}

    def of_learned(keep: Tensor) -> dict[str, float]:
        found = summarize_changes({LEARNED: learned[keep]})
        return {f"learned {name}": found[name] for name in found if name.endswith(LEARNED)}

    def of_inversions(keep: Tensor) -> dict[str, float]:
        return {f"{m} {what}": float(grades[m][what][keep].mean()) for m in METHODS for what in ("psnr_db", "pn_norm")}

    measures: tuple[tuple[int, Callable[[Tensor], dict[str, float]]], ...] = (
        (n, lambda keep: measure_linearity(statistics, samples[keep])),
        (len(learned), lambda keep: summarize_changes({name: x[keep] for name, x in straight.items()})),
        (len(learned), of_learned),
        (len(lengths), lambda keep: measure_path_length(lengths[keep])),
        (n, lambda keep: measure_distribution(samples[keep], renders[keep])),
        (len(faces), of_inversions),
    )
    row = ({} if opened.seed is None else measure_mapping(G, opened.seed)) | measure_dimension(statistics)
    for size, statistic in measures:
        found, intervals = jackknife(statistic, size)
        for name, (low, high) in intervals.items():
            row |= {name: found[name], f"{name} low": low, f"{name} high": high}
    return row
