"""Claims about edits that none of the five papers could measure: where straight lines lead, and what an edit is worth.

Edits are found with the losses' networks and read by the judges. Strengths are such that 1 moves the attribute by one
standard deviation of the generator's samples, or are matched: the judge reads the same in the edit as in the truth.
"""

from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import gmean
from torch import Tensor

from latentlab.claims.finding import Claim, Finding, spread_of
from latentlab.claims.inversion import PAPER_STEPS, ii2s
from latentlab.claims.rules import ENTANGLED, FACTORS, LINES, RULES
from latentlab.claims.runs import Bench, Planned
from latentlab.editing.calibration import Calibrated, calibrate
from latentlab.editing.coordinates import Coordinates, coordinates_of
from latentlab.editing.edit import Edit, State, apply_edit
from latentlab.editing.interfacegan import find_boundaries
from latentlab.editing.shipped import edits_for
from latentlab.editing.ways import LIMIT, Evidence
from latentlab.evaluation import load_judges, true_edit
from latentlab.evaluation.intervals import confidence_interval
from latentlab.inversion.result import Inversion
from latentlab.judges.attributes import load_attribute_judge
from latentlab.metrics import edit_error, matched_strength
from latentlab.networks.attributes import read_factors
from latentlab.priors import pn_norm
from latentlab.seeds import stream
from latentlab.spaces import statistics_for
from latentlab.stylegan.generator import Generator

SAMPLES = {True: 10_000, False: 1_000}  # at full and at quick size
PROBES = {True: 64, False: 12}  # samples that strengths are calibrated on
FACES = {True: 256, False: 24}  # of the generator, on which edits are measured
JACOBIANS = {True: (64, 64), False: (12, 8)}  # faces that a line is fitted to and tested on
JUDGED = {True: (40, PAPER_STEPS), False: (4, 60)}  # clean faces, and steps of their inversion
STRENGTH = 1.5  # of the true edits of EDIT-4, in standard deviations
RIDGE = 0.03


@lru_cache(maxsize=2)
def _evidence(G: Generator, n: int) -> Evidence:
    return Evidence(G, n=n)


def _codes(G: Generator, n: int) -> Float[Tensor, "n layers dim"]:
    z = torch.randn(n, G.z_dim, generator=stream(0, "claims", "edits")).to(G.w_avg)
    return G.broadcast(G.mapping(z))


def _finding(values: Mapping[str, tuple], controls: Mapping[str, tuple], settings: Mapping[str, int]) -> Finding:
    """Statistics of the faces and their intervals. values, controls: name -> numbers (N,) and their statistic."""
    found, intervals, samples = {}, {}, {}
    for name, (x, statistic) in (*values.items(), *controls.items()):
        x = np.asarray(x, float)
        found[name], intervals[name] = float(statistic(x, axis=0)), confidence_interval(x, statistic)
        samples[name] = spread_of(x, statistic)
    measured, others = ({name: found[name] for name in part} for part in (values, controls))
    return Finding(measured, intervals, others, {**settings}, samples=samples)


def _calibrated(edit: Edit, evidence: Evidence, full: bool) -> Calibrated:
    known = {"samples": evidence.samples, "n": PROBES[full], "limit": LIMIT}
    return calibrate(edit, evidence.G, evidence.reader, **known)


@torch.no_grad()
def _leaving(bench: Bench) -> Finding:
    """Distance from the generator's codes after edits by two standard deviations, in W and in PN."""
    G, full = bench.G, bench.full
    evidence, w_plus, s = _evidence(G, SAMPLES[full]), _codes(G, FACES[full]), statistics_for(G)
    norms = {}
    for space, found in {"W": evidence.w_regression, "PN": evidence.pn_regression}.items():
        edits = [_calibrated(found[name], evidence, full) for name in FACTORS]
        states = [apply_edit(edit, State(w_plus), torch.full((len(w_plus),), 2.0).to(w_plus), G) for edit in edits]
        # the geometric mean over the factors, for each face
        norms[space] = torch.stack([pn_norm(state.w_plus, s) for state in states]).log().mean(0).exp().cpu()
    before = pn_norm(w_plus, s).cpu()
    values = {"w": norms["W"] / before, "pn": norms["PN"] / before, "w_by_pn": norms["W"] / norms["PN"]}
    controls = {"unedited_pn_norm": (before, np.mean)}
    settings = {"samples": SAMPLES[full], "faces": FACES[full]}
    return _finding({name: (x, gmean) for name, x in values.items()}, controls, settings)


@torch.no_grad()
def _changes(G: Generator, edit: Edit, w_plus: Tensor, strength: float = 1.0) -> Float[Tensor, "n k"]:
    """How far the judge's readings move, in their standard deviations over these faces."""
    judge = load_attribute_judge(device=w_plus.device)
    before = _read(judge, State(w_plus), G)
    after = [
        _read(judge, apply_edit(edit, State(part), torch.full((len(part),), strength).to(part), G), G)
        for part in w_plus.split(32)
    ]
    return (torch.cat(after) - before) / before.std(0)


def _read(judge: torch.nn.Module, state: State, G: Generator) -> Tensor:
    return torch.cat([read_factors(judge, state[i : i + 32].draw(G)) for i in range(0, len(state), 32)])


@torch.no_grad()
def _entanglement(bench: Bench) -> Finding:
    """What plain and conditional boundaries do to the attribute that the world ties to theirs."""
    G, full = bench.G, bench.full
    evidence, w_plus = _evidence(G, SAMPLES[full]), _codes(G, FACES[full])
    names, samples, values, controls = load_attribute_judge().names, evidence.samples, {}, {}
    for name, tied, sign in ENTANGLED:
        held = {"plain": (), "conditional": (tied,)}
        found = {kind: find_boundaries(samples, [name], held=others) for kind, others in held.items()}
        edits = {kind: _calibrated(edits[name], evidence, full) for kind, edits in found.items()}
        moved = {kind: _changes(G, edit, w_plus).cpu() for kind, edit in edits.items()}
        tie = {kind: sign * x[:, names.index(tied)] for kind, x in moved.items()}
        values |= {f"{kind}_{name}_{tied}": (x, np.mean) for kind, x in tie.items()}
        values[f"shrinks_{name}_{tied}"] = (tie["plain"] - tie["conditional"], np.mean)
        controls |= {f"{kind}_{name}": (x[:, names.index(name)], np.mean) for kind, x in moved.items()}
        lengths = {kind: edit.scale * float(edit.edit.vector.norm()) for kind, edit in edits.items()}
        controls[f"longer_{name}"] = ([lengths["conditional"] / lengths["plain"]], np.mean)
    return _finding(values, controls, {"samples": len(samples), "faces": len(w_plus)})


def _scatter(bench: Bench) -> Finding:
    """The best straight line of S for many faces, and for each face by itself, by the derivatives of the readings."""
    G, (fitted, tested) = bench.G, JACOBIANS[bench.full]
    judge, coordinates = load_attribute_judge(device=G.w_avg.device), coordinates_of(G)
    J = _jacobians(G, judge, coordinates, fitted + tested)
    values = {}
    for name in LINES:
        k = judge.names.index(name)
        others = torch.arange(J.shape[1]) != k
        shared = J[fitted:] @ best_line(J[:fitted], k)  # (N, K)
        own = torch.stack([j @ best_line(j[None], k) for j in J[fitted:]])
        size = {kind: x[:, others].square().mean(1).sqrt() for kind, x in (("shared", shared), ("own", own))}
        values |= {f"{kind}_{name}": (x, np.mean) for kind, x in size.items()}
        values |= {f"shared_by_own_{name}": (size["shared"] / size["own"], gmean),
                   f"scatter_share_{name}": (np.arange(tested), partial(_scatter_share, shared[:, others].numpy()))}
    return _finding(values, {}, {"faces fitted": fitted, "faces tested": tested})


def _scatter_share(leaks: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray | np.floating:
    """Share of the mean square of leaks (N, K) that is their variance over the faces ``rows``, the rest being their
    mean over the faces."""
    x = leaks[rows.astype(int)]  # (.., N, K)
    return x.var(axis).sum(-1) / np.square(x).mean(axis).sum(-1)


def best_line(J: Tensor, k: int, lambda_ridge: float = RIDGE) -> Tensor:
    """argmin over x of E|J x - e_k|^2 + lambda |x|^2, (C,), at a length where the mean J predicts 1 for reading k."""
    rows, mean = J.flatten(0, 1) / len(J) ** 0.5, J[:, k].mean(0)
    gram = rows @ rows.T + lambda_ridge * torch.eye(len(rows)).to(rows)
    x = mean - rows.T @ torch.linalg.solve(gram, rows @ mean)
    return x / (mean @ x)


def _jacobians(G: Generator, judge: torch.nn.Module, coordinates: Coordinates, n: int) -> Tensor:
    """Derivatives of standardised readings with respect to S, (N, K, C), float64."""
    w_plus = _codes(G, n)
    with torch.no_grad():
        spread = torch.cat([judge(State(part).draw(G)) for part in _codes(G, 256).split(32)]).std(0)

    def read(images: Tensor) -> Tensor:  # binary factors as logits, which have gradients
        return judge(images) / spread

    return torch.cat([coordinates.jacobian(read, State(part), G)[1] for part in w_plus.split(8)]).double().cpu()


def _remark_scatter(f: Finding) -> str:
    return "By derivatives: long steps are not straight in the readings either"


@torch.no_grad()
def _worth(bench: Bench) -> Finding:
    """Total error at matched strength of the shipped edits and of regression in W, on rendered faces."""
    (run, kind, n), G, full = _inversions(bench), bench.G, bench.full
    faces, judges, evidence = bench.faces_of(kind, n), load_judges(), _evidence(G, SAMPLES[full])
    found = bench.find(run, kind, n)
    inversion = Inversion(State(found.latent), found.image, G, run.method)
    known, values = edits_for(G), {}
    for name in FACTORS:
        k = judges.attributes.names.index(name)
        truth = true_edit(faces, known[name], STRENGTH).images
        rows = (truth != faces.images).flatten(1).any(1)
        some, x, y = inversion[rows.nonzero()[:, 0]], faces.images[rows], truth[rows]
        read = partial(_reading, judges.attributes, k)
        errors = {}
        ways = {"default": known[name], "w": _calibrated(evidence.w_regression[name], evidence, full)}
        for way, edit in ways.items():
            move = partial(some.edit, edit)
            strengths = matched_strength(move, read, read(y), limit=3 * STRENGTH, steps=6)
            error = edit_error(some.image, move(strengths.nan_to_num()), x, y)
            errors[way] = error.where(strengths.isfinite(), torch.ones_like(error))  # where none matches: no edit
            values[f"{way}_{name}"] = (errors[way], np.mean)
        values[f"w_minus_default_{name}"] = (errors["w"] - errors["default"], np.mean)
    return _finding(values, {}, {"faces": n, "steps": run.steps, "samples": SAMPLES[full]})


def _inversions(bench: Bench) -> Planned:
    n, steps = JUDGED[bench.full]
    return Planned(ii2s(0.005, steps, open=bench.full), "clean", bench.count(n))


def _reading(judge: torch.nn.Module, k: int, images: Tensor) -> Float[Tensor, " n"]:
    return read_factors(judge, images.clamp(-1, 1))[:, k]


CLAIMS = (
    Claim("EDIT-1", "latentlab",
          "A straight line of W leaves the region of the generator's codes, a short one of PN does not.",
          "no paper has it", _leaving, RULES["EDIT-1"]),
    Claim("EDIT-2", "latentlab",
          "The world's entanglement is in the plain directions and shrinks in the conditional ones.",
          "no paper has it", _entanglement, RULES["EDIT-2"]),
    Claim("EDIT-3", "latentlab",
          "One step does different things to different faces, which no straight line can avoid.",
          "no paper has it", _scatter, RULES["EDIT-3"], _remark_scatter),
    Claim("EDIT-4", "latentlab", "The shipped edits are nearer to the truth than regression in W, and than no edit.",
          "no paper has it", _worth, RULES["EDIT-4"], plan=lambda bench: [_inversions(bench)]),
)  # fmt: skip
