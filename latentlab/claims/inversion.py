"""Claims about inversion by optimisation: II2S (arXiv 2012.09036), sections 3 and 5.1 and its appendix.

Methods are compared face by face, on clean and on strange faces of the real set apart. Names of numbers begin with the
kind of the faces; "coarse_" numbers belong to the floor 1e-2 of the eigenvalues of P.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.finding import Claim, Finding, over_samples
from latentlab.claims.rules import FORTY, LAMBDAS, RULES
from latentlab.claims.runs import FLOORS, KINDS, OWN, Bench, Planned, Run
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.metrics import psnr, rmse
from latentlab.priors import pn_norm

PAPER_STEPS = 1300  # of II2S and I2S; its author later found 800 to be enough
MOST_STEPS = 4 * PAPER_STEPS  # of a search that goes on until it has settled
SETTLED = 0.1  # dB: a face has settled when the last doubling of the steps gained less
QUICK_STEPS = {"II2S-6": 60, "II2S-7": 60, "II2S-12": 120, "II2S-13": 40}
PULSE_STEPS = {True: 100, False: 60}
STARTS = {True: 10, False: 2}  # random starts of each face of II2S-13
COARSE_STARTS = 3
Z_STARTS = {True: 3, False: 1}
SIZES = (32, 8)  # px, at which PULSE compares
PEOPLE = 12  # number of people whose mean distance is the unit of II2S-13
OWN_IMAGES = 10

PerFace = Float[Tensor, " n"]
Columns = dict[str, PerFace]


def ii2s(lambda_: float, steps: int, floor: str = "", **more: object) -> Run:
    """The run of II2S (lambda 0: I2S) that claims share. floor: a name of ``FLOORS``; where nothing is regularised no
    floor plays a part."""
    floor = FLOORS[floor if lambda_ else ""]
    return Run("ii2s", (steps // 2, steps), (("lambda_", lambda_),), floor, **more)


def steps_of(bench: Bench, id: str) -> int:
    """Number of steps of a claim."""
    return PAPER_STEPS if bench.full else QUICK_STEPS[id]


def kinds_of(bench: Bench, wanted: Mapping[str, int], quick: int = 3) -> dict[str, int]:
    """Numbers of faces: so many of each kind as are wanted or allowed, or a few clean ones on a quick subset."""
    if not bench.full:
        return {"clean": quick}
    return {kind: bench.count(n) for kind, n in wanted.items() if kind in bench.kinds}


def floors_of(bench: Bench) -> Sequence[str]:
    """Both floors, or one on a quick subset."""
    return tuple(FLOORS) if bench.full else ("",)


def targets(bench: Bench, kind: str, n: int) -> Float[Tensor, "n 3 r r"]:
    """The first faces of a kind."""
    return bench.images(kind, range(n))


def collect(
    means: Columns, ratios: Columns, settings: dict, controls: tuple[str, ...] = (), *,
    learning_rate: float | None = 0.01,
) -> Finding:  # fmt: skip
    """Arithmetic means over faces, and geometric means of ratios, with their intervals. controls: beginnings of the
    names of controls. learning_rate: of the descents, None where there are none."""
    parts = [over_samples(means), over_samples(ratios, log=True)]
    found, intervals, samples = (parts[0][k] | parts[1][k] for k in ("measured", "intervals", "samples"))
    apart = {name: value for name, value in found.items() if name.startswith(controls)} if controls else {}
    measured = {name: value for name, value in found.items() if name not in apart}
    settings = settings | ({} if learning_rate is None else {"learning rate": learning_rate})
    return Finding(measured, intervals, apart, settings, samples=samples)


def faces_text(kinds: dict[str, int]) -> str:
    """For settings: "40 clean, 40 strange"."""
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items())


def _settled(bench: Bench, kind: str, n: int, lambda_: float, floor: str) -> dict[str, Tensor]:
    """Codes of each face after half and after all of its own number of steps, which is doubled from the paper's until
    the last doubling gained less than ``SETTLED`` dB."""
    images, steps = targets(bench, kind, n), steps_of(bench, "II2S-6")
    first = bench.find(ii2s(lambda_, steps, floor, open=bench.full), kind, n)
    half, end, at = first.codes[steps // 2].clone(), first.latent.clone(), torch.full((n,), float(steps))
    while bench.full and 2 * steps <= MOST_STEPS:
        gained = psnr(draw(bench, end), images) - psnr(draw(bench, half), images)
        rows = ((gained >= SETTLED).cpu() & (at == steps)).nonzero()[:, 0].tolist()
        if not rows:
            break
        steps *= 2
        found = bench.find(ii2s(lambda_, steps, floor, open=True), kind, rows)
        half[rows], end[rows], at[rows] = found.codes[steps // 2], found.latent, float(steps)
    return {"half": half, "end": end, "steps": at}


@torch.no_grad()
def draw(bench: Bench, codes: Tensor) -> Tensor:
    """Images of codes, as a file would hold them."""
    return torch.cat([bench.G.synthesis(part).clamp(-1, 1) for part in codes.split(40)])


def _grade_drift(bench: Bench, kind: str, n: int, lambda_: float, floor: str) -> Columns:
    """Of each face, once it has settled: PSNR and perceptual distance, what the last half of the steps gained, the
    norm and its growth in that half."""
    judge, images = load_perceptual_judge(device=bench.G.w_avg.device), targets(bench, kind, n)
    codes = _settled(bench, kind, n, lambda_, floor if bench.full else "")
    seen, before = draw(bench, codes["end"]), draw(bench, codes["half"])
    half, end = (pn_norm(codes[k], bench.statistics(FLOORS[floor])) for k in ("half", "end"))
    return {"psnr": psnr(seen, images), "perceptual": judge(seen, images), "pn_norm": end, "growth": end / half,
            "steps": codes["steps"], "late_gain": psnr(seen, images) - psnr(before, images)}  # fmt: skip


@torch.no_grad()
def _drift(bench: Bench) -> Finding:
    """Searches that have settled, without (lambda 0) and with regulariser."""
    kinds = kinds_of(bench, FORTY)
    means, ratios = {}, {}
    for kind, n in kinds.items():
        for floor in FLOORS:
            name, free = f"{kind}_{floor}", _grade_drift(bench, kind, n, 0.0, floor)
            means |= {f"{name}{k}_free": free[k] for k in ("pn_norm", "psnr", "steps", "late_gain")}
            ratios[f"{name}growth_free"] = free["growth"]
            for lambda_ in LAMBDAS[1:3]:
                held = _grade_drift(bench, kind, n, lambda_, floor)
                means |= {f"{name}{k}_{lambda_:g}": held[k] for k in ("pn_norm", "psnr", "steps", "late_gain")}
                means |= {f"{name}psnr_gain_{lambda_:g}": free["psnr"] - held["psnr"],
                          f"{name}perceptual_gain_{lambda_:g}": held["perceptual"] - free["perceptual"]}  # fmt: skip
                ratios |= {f"{name}pn_norm_ratio_{lambda_:g}": free["pn_norm"] / held["pn_norm"],
                           f"{name}growth_{lambda_:g}": held["growth"]}  # fmt: skip
    if bench.full:
        n, s = bench.count(OWN_IMAGES), bench.statistics(FLOORS[""])
        own = bench.find(ii2s(0.0, PAPER_STEPS), OWN, n)
        means["own_psnr_free"] = psnr(own.image.clamp(-1, 1), targets(bench, OWN, n))
        ratios["own_growth_free"] = pn_norm(own.latent, s) / pn_norm(own.codes[PAPER_STEPS // 2], s)
    return collect(means, ratios, {"faces": faces_text(kinds), "steps": steps_of(bench, "II2S-6")}, ("own_",))


def _remark_drift(f: Finding) -> str:
    told = []
    for kind in KINDS:
        gain, late, steps = (f.measured.get(f"{kind}_{k}") for k in ("psnr_gain_0.005", "late_gain_free", "steps_free"))
        if gain is not None:
            told.append(f"On {kind} faces it gains {gain:.1f} dB over lambda 0.005, which the paper recommends, after "
                        f"{steps:.0f} steps, the last half of which gave {late:.2f} dB")  # fmt: skip
    if "own_growth_free" in f.controls:
        told.append(f"On the generator's own pictures the norm grows {f.controls['own_growth_free']:.2f}-fold")
    return ". ".join(told)


def _plan_drift(bench: Bench) -> Iterator[Planned]:
    """The searches of the paper's length; how many go on is not known before."""
    steps = steps_of(bench, "II2S-6")
    for kind, n in kinds_of(bench, FORTY).items():
        for floor in floors_of(bench):
            for lambda_ in LAMBDAS[:3]:
                yield Planned(ii2s(lambda_, steps, floor, open=bench.full), kind, n)
    if bench.full:
        yield Planned(ii2s(0.0, steps), OWN, bench.count(OWN_IMAGES))


@torch.no_grad()
def _sweep(bench: Bench) -> Finding:
    """Change of PSNR and pn_norm from each lambda to the next, face by face."""
    steps, kinds = steps_of(bench, "II2S-7"), kinds_of(bench, FORTY)
    means, ratios = {}, {}
    for kind, n in kinds.items():
        images = targets(bench, kind, n)
        for floor in floors_of(bench):
            s, name = bench.statistics(FLOORS[floor]), f"{kind}_{floor}"
            runs = {x: bench.find(ii2s(x, steps, floor), kind, n) for x in LAMBDAS}
            likeness = {x: psnr(run.image.clamp(-1, 1), images) for x, run in runs.items()}
            norms = {x: pn_norm(run.latent, s) for x, run in runs.items()}
            for x in LAMBDAS:
                means |= {f"{name}psnr_{x:g}": likeness[x], f"{name}pn_norm_{x:g}": norms[x]}
            for a, b in pairwise(LAMBDAS):
                means[f"{name}psnr_{a:g}_to_{b:g}"] = likeness[b] - likeness[a]
                ratios[f"{name}pn_norm_{a:g}_to_{b:g}"] = norms[b] / norms[a]
    return collect(means, ratios, {"faces": faces_text(kinds), "steps": steps})


def _plan_sweep(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY).items():
        for floor in floors_of(bench):
            for x in LAMBDAS:
                yield Planned(ii2s(x, steps_of(bench, "II2S-7"), floor), kind, n)


def _z_runs(bench: Bench) -> dict[str, list[Run]]:
    """Runs of II2S-12: Z+ from random starts, the first with twice the steps; the same for the other floor, once; W+
    from its own start and from random ones."""
    steps, same = steps_of(bench, "II2S-12"), (("lambda_", 0.001),)
    starts = range(Z_STARTS[bench.full])
    z = [Run("z_plus", (steps, 2 * steps) if bench.full and i == 0 else (steps,), same, start=i) for i in starts]
    runs = {"z": z, "w": [ii2s(0.001, steps)]}
    if bench.full:
        runs["random"] = [ii2s(0.001, steps, start=i) for i in starts]
        runs["coarse_z"] = [Run("z_plus", (steps,), same, FLOORS["coarse_"], start=0)]
        runs["coarse_w"] = [ii2s(0.001, steps, "coarse_")]
    return runs


def _likeness(bench: Bench, kind: str, n: int, runs: Sequence[Run], at: int) -> PerFace:
    """PSNR of each face after so many steps, mean over runs."""
    images, found = targets(bench, kind, n), [(bench.find(run, kind, n), run.steps == at) for run in runs]
    seen = [run.image.clamp(-1, 1) if whole else draw(bench, run.codes[at]) for run, whole in found]
    return torch.stack([psnr(x, images) for x in seen]).mean(0)


@torch.no_grad()
def _z_plus(bench: Bench) -> Finding:
    """PSNR in W+ minus PSNR in Z+, paired, with lambda 0.001 as in Table 7."""
    steps, kinds, runs, means = steps_of(bench, "II2S-12"), kinds_of(bench, FORTY), _z_runs(bench), {}
    for kind, n in kinds.items():
        psnrs = {name: _likeness(bench, kind, n, same, steps) for name, same in runs.items()}
        w, z = psnrs["w"], psnrs["z"]
        means |= {f"{kind}_psnr_w": w, f"{kind}_psnr_z": z, f"{kind}_gain": w - z}
        if bench.full:
            long = _likeness(bench, kind, n, runs["z"][:1], 2 * steps)
            means |= {f"{kind}_coarse_gain": psnrs["coarse_w"] - psnrs["coarse_z"],
                      f"{kind}_gain_twice_the_steps": w - long,
                      f"{kind}_gain_random_start": psnrs["random"] - z}  # fmt: skip
    settings = {"faces": faces_text(kinds), "steps": steps, "lambda": 0.001, "starts a face": Z_STARTS[bench.full]}
    return collect(means, {}, settings)


def _plan_z_plus(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY).items():
        for runs in _z_runs(bench).values():
            yield from (Planned(run, kind, n) for run in runs)


def _spread_runs(bench: Bench) -> dict[str, list[Run]]:
    """Runs of II2S-13 by name: PULSE at both sizes and II2S, each from random starts of every face."""
    starts, steps = range(STARTS[bench.full]), steps_of(bench, "II2S-13")
    runs = {f"pulse_{size}": [Run("pulse", (PULSE_STEPS[bench.full],), (("size", size),), start=i) for i in starts]
            for size in SIZES}  # fmt: skip
    runs["ii2s"] = [ii2s(0.005, steps, start=i) for i in starts]
    if bench.full:
        runs["coarse_ii2s"] = [ii2s(0.005, steps, "coarse_", start=i) for i in range(COARSE_STARTS)]
    return runs


@torch.no_grad()
def _spread(bench: Bench) -> Finding:
    """Mean distance between two runs on the same face, relative to that between two people, and its ratio of PULSE to
    II2S. PULSE runs at 32 px, its own size, and at 8, since it was made for an eighth of the resolution or less."""
    device, kinds, runs = bench.G.w_avg.device, kinds_of(bench, FORTY), _spread_runs(bench)
    distances: dict[str, Callable] = {"perceptual": load_perceptual_judge(device=device),
                                      "identity": load_identity_judge(device=device), "pixels": rmse}  # fmt: skip
    others = targets(bench, "clean", PEOPLE)
    people = {what: torch.stack([d(others, others.roll(i, 0)) for i in range(1, PEOPLE)]).mean()
              for what, d in distances.items()}  # fmt: skip
    means, ratios = {}, {}
    for kind, n in kinds.items():
        images = targets(bench, kind, n)
        for name, same in runs.items():
            seen = [bench.find(run, kind, n).image.clamp(-1, 1) for run in same]
            means[f"{kind}_{name}_psnr"] = torch.stack([psnr(x, images) for x in seen]).mean(0)
            for what, distance in distances.items():
                apart = torch.stack([distance(a, b) for a, b in combinations(seen, 2)]).mean(0)
                means[f"{kind}_{name}_{what}"] = apart / people[what]
        for what in distances:
            for floor in floors_of(bench):
                ratios |= {f"{kind}_{floor}pulse_{size}_by_ii2s_{what}":
                           means[f"{kind}_pulse_{size}_{what}"] / means[f"{kind}_{floor}ii2s_{what}"]
                           for size in SIZES}  # fmt: skip
    settings = {"faces": faces_text(kinds), "steps": steps_of(bench, "II2S-13"), "starts a face": STARTS[bench.full],
                "steps of PULSE": PULSE_STEPS[bench.full]}  # fmt: skip
    return collect(means, ratios, settings)


def _remark_spread(f: Finding) -> str:
    told = []
    for kind in KINDS:
        if f"{kind}_ii2s_identity" in f.measured:
            pulse, ours = (f.measured[f"{kind}_{name}_identity"] for name in ("pulse_32", "ii2s"))
            told.append(f"{pulse:.2f} (PULSE, 32 px) and {ours:.2f} (II2S) of the distance of two people, {kind} faces")
    own = "From its own start, the mean of W, II2S always gives the same"
    return ". ".join([f"By identity two runs are apart by {text}" for text in told] + [own])


def _plan_spread(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY).items():
        for runs in _spread_runs(bench).values():
            yield from (Planned(run, kind, n) for run in runs)


CLAIMS = (
    Claim("II2S-6", "II2S, section 3",
          "Unregularised inversion drifts to arbitrarily low density for almost no gain.", "Fig. 5",
          _drift, RULES["II2S-6"], _remark_drift, _plan_drift),
    Claim("II2S-7", "II2S, section 5.1", "Lambda trades reconstruction for density, monotonically.",
          "Table 1: PSNR 23.45, 23.00, 21.45, 20.64 for lambda 0, 0.001, 0.005, 0.01",
          _sweep, RULES["II2S-7"], plan=_plan_sweep),
    Claim("II2S-12", "II2S, appendix B", "Z+ is a worse space to optimise than W+.",
          "Table 7: PSNR 19.99 against 23.00", _z_plus, RULES["II2S-12"], plan=_plan_z_plus),
    Claim("II2S-13", "II2S, appendix D", "PULSE gives a different answer each run, II2S does not.", "Fig. 13",
          _spread, RULES["II2S-13"], _remark_spread, _plan_spread),
)  # fmt: skip
