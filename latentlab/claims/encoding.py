"""Claims about encoders: e4e (arXiv 2102.02766), and what all papers say of their speed and of their codes.

A is the shipped pSp, D the shipped e4e. They are compared face by face, on clean and on strange faces apart.
"""

import math
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.encoder_runs import column, consistencies, edit_errors, require_one, rows_of_runs
from latentlab.claims.finding import Claim, Finding
from latentlab.claims.inversion import PAPER_STEPS, collect, faces_text, floors_of, ii2s, kinds_of
from latentlab.claims.rules import ALL, FAST, FORTY, LEC_LINES, LINE, RULES, SLOW
from latentlab.claims.runs import FLOORS, Bench, Planned
from latentlab.editing.edit import State
from latentlab.editing.mixing import interpolate
from latentlab.editing.shipped import directions_for
from latentlab.encoders.shipped import encoder_for
from latentlab.evaluation.encoders import FACTORS, STRENGTH, Encoded, grade_encoder, measure_deviation, shipped_encoders
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS, Method
from latentlab.metrics import lec, psnr
from latentlab.stylegan import Generator

if TYPE_CHECKING:
    import pandas

A, D = "psp", "e4e"
CODES = {True: 1_000, False: 40}  # of W, of E4E-3
QUICK_FACES = 6
TIMED_STEPS, TIMED_FACES = 50, {True: 40, False: 4}
OPTIMISER_STEPS = {"ii2s": PAPER_STEPS, "sg2_w": 1000}

Columns = dict[str, Float[Tensor, " n"]]


def _pair(bench: Bench) -> dict[str, Encoded]:
    """The shipped A and D; ``ValueError`` where the generator has none."""
    for name in (A, D):
        encoder_for(bench.G, name, device=bench.G.w_avg.device)
    return {encoder.name: encoder for encoder in shipped_encoders(bench.G)}


def _settings(kinds: dict[str, int]) -> dict[str, str]:
    return {"faces": faces_text(kinds)}


def _graded(bench: Bench, kind: str, n: int) -> dict[str, "pandas.DataFrame"]:
    faces, judges = _faces(bench, kind, n), load_judges(device=bench.G.w_avg.device)
    return {name: grade_encoder(_pair(bench)[name], bench.G, faces, judges, factors=()) for name in (A, D)}


def _faces(bench: Bench, kind: str, n: int) -> FaceSet:
    faces, device = bench.faces_of(kind, n), bench.G.w_avg.device
    return FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))


def _distortion(bench: Bench) -> Finding:
    """Squared error and perceptual distance (judge) of D less those of A."""
    kinds, means = kinds_of(bench, ALL, QUICK_FACES), {}
    for kind, n in kinds.items():
        tables = _graded(bench, kind, n)
        for what in ("mse", "perceptual", "psnr_db"):
            a, d = (column(tables[name], what) for name in (A, D))
            means |= {f"{kind}_{what}": d - a, f"a_{kind}_{what}": a, f"d_{kind}_{what}": d}
    return _collect(means, {}, kinds)


def _collect(means: Columns, ratios: Columns, kinds: dict[str, int]) -> Finding:
    return collect(means, ratios, _settings(kinds), ("a_", "d_"), learning_rate=None)


def _variation(bench: Bench) -> Finding:
    """Variation of A's codes by that of D's."""
    kinds, means, ratios = kinds_of(bench, ALL, QUICK_FACES), {}, {}
    for kind, n in kinds.items():
        tables = _graded(bench, kind, n)
        for what in ("variation", "visible_variation"):
            a, d = (column(tables[name], what) for name in (A, D))
            ratios[f"{kind}_{what}"] = a / d
            means |= {f"a_{kind}_{what}": a, f"d_{kind}_{what}": d}
    return _collect(means, ratios, kinds)


def _deviation(bench: Bench) -> Finding:
    """|E(G(w)) - w| of A by that of D, code by code, and of an encoder that always returns the mean of W."""
    pair, mean = _pair(bench), bench.G.broadcast(bench.G.w_avg[None])
    encoders = {"a": pair[A].encode, "d": pair[D].encode, "constant": lambda x: mean.expand(len(x), -1, -1)}
    found = {f"{name}_deviation": measure_deviation(encode, bench.G, CODES[bench.full])
             for name, encode in encoders.items()}  # fmt: skip
    ratios = {"deviation": found["a_deviation"] / found["d_deviation"]}
    return collect(found, ratios, {"codes": CODES[bench.full]}, tuple(found), learning_rate=None)


def _remark_deviation(f: Finding) -> str:
    d = f.controls["d_deviation"]
    constant = f.controls.get("constant_deviation", math.inf)  # records of earlier versions have none
    return (
        f"An encoder that always returns the mean of W deviates less than D ({constant:.1f} against {d:.1f}): by this "
        "measure a code is near to those of W also where it tells nothing of the picture"
    ) * (constant < d)


def _consistency(bench: Bench) -> Finding:
    """LEC of A by that of D, and that of a constant code by D's."""
    kinds, means, ratios = kinds_of(bench, ALL, QUICK_FACES), {}, {}
    pair, lines = _pair(bench), directions_for(bench.G)
    for kind, n in kinds.items():
        images = _faces(bench, kind, n).images
        for name in LEC_LINES:
            step = STRENGTH * lines[name].vector.to(images)
            a, d = (lec(pair[e].encode, bench.G.synthesis, images, step) for e in (A, D))
            constant = step.expand(bench.G.num_ws, bench.G.w_dim).norm()
            ratios |= {f"{kind}_{name}": a / d, f"{kind}_{name}_constant": constant / d}
            means |= {f"a_{kind}_{name}": a, f"d_{kind}_{name}": d}
    return _collect(means, ratios, kinds)


@torch.no_grad()
def _line(bench: Bench) -> Finding:
    """PSNR and mean total error of edits along the line from D's codes to A's."""
    kinds, means, pair = kinds_of(bench, ALL, QUICK_FACES), {}, _pair(bench)
    for kind, n in kinds.items():
        faces, judges = _faces(bench, kind, n), load_judges(device=bench.G.w_avg.device)
        near, far = (pair[name].encode(faces.images) for name in (D, A))
        points = {t: interpolate(near, far, t) for t in LINE}
        drawn = {t: torch.cat([bench.G.synthesis(part) for part in w.split(40)]) for t, w in points.items()}
        made = {f"{t:g}": Inversion(State(w), drawn[t], bench.G, f"{t:g}") for t, w in points.items()}
        table = evaluate(made, faces, judges, edits=[(f, STRENGTH) for f in FACTORS], matched=True)
        errors = {t: edit_errors(table[table["method"] == f"{t:g}"], FACTORS) for t in LINE}
        distortion = {t: psnr(drawn[t].clamp(-1, 1), faces.images) for t in LINE}
        for a, b in pairwise(LINE):
            means |= {f"{kind}_psnr_{a:g}_to_{b:g}": distortion[b] - distortion[a],
                      f"{kind}_error_{a:g}_to_{b:g}": (errors[b] - errors[a]).nanmean(1)}  # fmt: skip
        means |= {f"at_{kind}_psnr_{t:g}": distortion[t] for t in LINE}
        means |= {f"at_{kind}_error_{t:g}": errors[t].nanmean(1) for t in LINE}
    return collect(means, {}, _settings(kinds), ("at_",), learning_rate=None)


def _configurations(bench: Bench) -> Finding:
    """Errors of edits and LEC of A, B and C against those of D, from the table of ``latentlab benchmark --only encoders
    --runs``, since B and C are not shipped."""
    means, ratios, kinds = {}, {}, kinds_of(bench, ALL, 40)
    for kind, n in kinds.items():
        rows = rows_of_runs("ABCD", kind, n, bench)
        for name in ("images_seen", "seed"):
            require_one(rows, name)
        consistent = {name: consistencies(part, FACTORS) for name, part in rows.items()}
        errors = {name: edit_errors(part, FACTORS) for name, part in rows.items()}
        for other in "ABC":
            means[f"{kind}_error_{other}"] = (errors[other] - errors["D"]).nanmean(1)
            ratios[f"{kind}_lec_{other}"] = (consistent[other] / consistent["D"]).log().mean(1).exp()
    return collect(means, ratios, _settings(kinds), learning_rate=None)


def _speed(bench: Bench) -> Finding:
    """Seconds an image of optimisers by those of encoders, batch by batch."""
    n, seconds = bench.count(TIMED_FACES[bench.full]), {}
    batches = _faces(bench, "clean", n).images.split(max(1, n // 4))
    for name in (*FAST, *SLOW):
        knobs = {"steps": TIMED_STEPS} if name in SLOW else {}
        METHODS[name](batches[0], bench.G, **knobs | ({"steps": 2} if knobs else {}))  # warm up
        scale = OPTIMISER_STEPS[name] / TIMED_STEPS if name in SLOW else 1
        seconds[name] = torch.tensor([scale * _time(METHODS[name], x, bench.G, **knobs) for x in batches])
    ratios = {f"{slow}_by_{fast}": seconds[slow] / seconds[fast] for slow in SLOW for fast in FAST}
    timed = {f"seconds_{name}": values for name, values in seconds.items()}
    settings = {"faces": f"{n} clean", "threads": torch.get_num_threads(), "device": bench.G.w_avg.device.type}
    return collect(timed, ratios, settings, ("seconds_",), learning_rate=None)


def _time(method: Method, images: Tensor, G: Generator, **knobs: int) -> float:
    """Seconds an image, the fastest of two calls."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        method(images, G, **knobs)
        taken.append(time.perf_counter() - began)
    return min(taken) / len(images)


def _steps(bench: Bench) -> int:
    return PAPER_STEPS if bench.full else 60


@torch.no_grad()
def _spread(bench: Bench) -> Finding:
    """Variance of the coordinates of PN+ of I2S's codes by that of others."""
    kinds, means, ratios, pair = kinds_of(bench, FORTY, QUICK_FACES), {}, {}, _pair(bench)
    for kind, n in kinds.items():
        images = bench.images(kind, range(n))
        codes = {name: pair[name].encode(images) for name in (A, D)}
        codes["i2s"] = bench.find(ii2s(0.0, _steps(bench)), kind, n).latent
        for floor in floors_of(bench):
            codes["ii2s"] = bench.find(ii2s(0.005, _steps(bench), floor), kind, n).latent
            statistics = bench.statistics(FLOORS[floor])
            spread = {name: statistics.w_to_pn(w).flatten(1).var(1) for name, w in codes.items()}
            ratios |= {f"{kind}_{floor}i2s_by_{other}": spread["i2s"] / spread[other] for other in (D, A, "ii2s")}
            means |= {f"variance_{kind}_{floor}{name}": values for name, values in spread.items()}
    return collect(means, ratios, _settings(kinds) | {"steps": _steps(bench)}, ("variance_",))


def _plan_spread(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY, QUICK_FACES).items():
        yield Planned(ii2s(0.0, _steps(bench)), kind, n)
        yield from (Planned(ii2s(0.005, _steps(bench), floor), kind, n) for floor in floors_of(bench))


CLAIMS = (
    Claim("II2S-8", "II2S, section 5.2", "Overfitted methods have wide histograms in PN+, encoders narrow ones.",
          "Fig. 9: histograms", _spread, RULES["II2S-8"], plan=_plan_spread),
    Claim("E4E-1", "e4e, Table 3", "A (pSp) reconstructs better than D (e4e).", "L2 .03 and .05, LPIPS .17 and .23",
          _distortion, RULES["E4E-1"]),
    Claim("E4E-2", "e4e, section 8.2", "D's codes vary far less between layers than A's.", "324.76 and 20.18",
          _variation, RULES["E4E-2"]),
    Claim("E4E-3", "e4e, section 8.2", "D's codes lie nearer to W than A's.", "364.51 and 57.67",
          _deviation, RULES["E4E-3"], _remark_deviation),
    Claim("E4E-4", "e4e, Table 5", "D edits more consistently than A (LEC).", "faces: 54.67 and 22.32",
          _consistency, RULES["E4E-4"]),
    Claim("E4E-5", "e4e, Fig. 10", "The tradeoff of distortion and editability is continuous.",
          "pictures along the line between both codes",
          _line, RULES["E4E-5"]),
    Claim("E4E-6", "e4e, Fig. 9", "Both principles are needed: D beats A, B and C.",
          "pictures; FID and SWD of its Table 6 disagree",
          _configurations, RULES["E4E-6"]),
    Claim("ALL-1", "CLCAE, Table 1", "Encoders are orders of magnitude faster than optimisation.",
          ".03 to .08 s against 193 to 355 s", _speed, RULES["ALL-1"]),
)  # fmt: skip
