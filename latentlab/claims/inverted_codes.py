"""Claims about what codes are worth once they are found: II2S (arXiv 2012.09036), section 5.2 and appendix A."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.finding import Claim, Finding
from latentlab.claims.inversion import PAPER_STEPS, collect, faces_text, floors_of, ii2s, kinds_of
from latentlab.claims.realism import RENDERS, judge_features, kid_differences, render_features
from latentlab.claims.rules import ALL, EDITS, FORTY, RULES
from latentlab.claims.runs import FLOORS, Bench, Found, Planned
from latentlab.editing.edit import State
from latentlab.editing.mixing import interpolate, mix
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion
from latentlab.metrics import kid

if TYPE_CHECKING:
    import pandas

QUICK_STEPS = 40
STRENGTH = 1.0  # of the edits: the truth changes by one standard deviation
COARSE_SHARE = 7 / 18  # of the layers, whose codes a mix takes from the first face
PROPORTIONS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of an interpolation
MIXES, LINES = 12, 5  # partners of each face
FEW_FACES, FEW_RENDERS = 5, 200  # of a quick subset

Codes = Float[Tensor, "n layers dim"]


def _steps(bench: Bench) -> int:
    return PAPER_STEPS if bench.full else QUICK_STEPS


def _found(bench: Bench, kind: str, n: int) -> dict[str, Found]:
    """Inversions by name: "i2s", and II2S at each floor under the floor's prefix."""
    steps = _steps(bench)
    ours = {floor: bench.find(ii2s(0.005, steps, floor), kind, n) for floor in floors_of(bench)}
    return {"i2s": bench.find(ii2s(0.0, steps), kind, n)} | ours


def _plan(bench: Bench, kinds: dict[str, int]) -> Iterator[Planned]:
    for kind, n in kinds.items():
        yield Planned(ii2s(0.0, _steps(bench)), kind, n)
        yield from (Planned(ii2s(0.005, _steps(bench), floor), kind, n) for floor in floors_of(bench))


@torch.no_grad()
def _edits(bench: Bench) -> Finding:
    """Edits of the paper's three factors by the shipped edits, at the strength at which the judge reads the true edit.

    error: total error against the rendered truth; identity: similarity to the target; gain, residual, leakage as in
    ``evaluation.evaluate``: differences of II2S and I2S, over faces for which both have such a strength. matched: share
    of the faces for which a method has one.
    """
    kinds, judges, means = kinds_of(bench, ALL), load_judges(device=bench.G.w_avg.device), {}
    for kind, n in kinds.items():
        faces, found = _on_device(bench, kind, n), _found(bench, kind, n)
        made = {name or "fine": Inversion(State(f.latent), f.image, bench.G, name) for name, f in found.items()}
        table = evaluate(made, faces, judges, edits=[(factor, STRENGTH) for factor in EDITS], matched=True)
        table = {name: rows.reset_index(drop=True) for name, rows in table.groupby("method", sort=False)}
        for factor in EDITS:
            theirs = _graded(table["i2s"], factor, judges.backbone)
            for floor in floors_of(bench):
                ours, name = _graded(table[floor or "fine"], factor, judges.backbone), f"{kind}_{floor}{factor}"
                means |= {f"{name}_{what}": ours[what] - theirs[what] for what in ours}
                means |= {f"matched_{name}": ours["error"].isfinite()}
            means |= {f"matched_{kind}_i2s_{factor}": theirs["error"].isfinite(),
                      f"i2s_{kind}_{factor}_error": theirs["error"]}  # fmt: skip
    settings = {"faces": faces_text(kinds), "steps": _steps(bench), "strength": STRENGTH}
    return collect(means, {}, settings, ("matched_", "i2s_"))


def _graded(rows: "pandas.DataFrame", factor: str, backbone: str) -> dict[str, Tensor]:
    names = {what: what for what in ("error", "gain", "residual", "leakage")} | {"identity": f"identity ({backbone})"}
    return {what: torch.tensor(rows[f"{factor}{STRENGTH:+g} {name}"].to_numpy()) for what, name in names.items()}


def _on_device(bench: Bench, kind: str, n: int) -> FaceSet:
    faces, device = bench.faces_of(kind, n), bench.G.w_avg.device
    return FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))


@torch.no_grad()
def _combinations(bench: Bench) -> Finding:
    """KID to renders of style mixes and of interpolations in W+ and PN+: difference of II2S and I2S, with pseudo-values
    over faces."""
    kinds = kinds_of(bench, FORTY, FEW_FACES)
    mixes, lines, renders = (MIXES, LINES, RENDERS) if bench.full else (2, 2, FEW_RENDERS)
    columns, kids = {}, {}
    for kind, n in kinds.items():
        shifts = {"mixing": mixes, "w_interpolation": lines, "pn_interpolation": lines}
        found, reference = _found(bench, kind, n), render_features(kind, bench.G.resolution, renders)
        for floor in floors_of(bench):
            for task, most in shifts.items():
                a, b = _pairs(n, most)
                members = list(zip(a, b, strict=True)) * (1 if task == "mixing" else len(PROPORTIONS))
                theirs, ours = (_features(bench, found[name].latent, a, b, task, floor) for name in ("i2s", floor))
                _, values = kid_differences(ours, theirs, reference, members)
                columns[f"{kind}_{floor}{task}"] = torch.tensor(values)
                kids |= {f"kid_{kind}_{floor}{task}_{name}": kid(x, reference)[0]
                         for name, x in (("i2s", theirs), ("ii2s", ours))}  # fmt: skip
    settings = {"faces": faces_text(kinds), "steps": _steps(bench), "renders": renders, "mixes a face": mixes,
                "lines a face": lines}  # fmt: skip
    found = collect(columns, {}, settings)
    found.controls.update(kids)
    return found


def _pairs(n: int, most: int) -> tuple[list[int], list[int]]:
    """Each of n faces with those that follow it, at most so many."""
    shifts = range(1, min(most, n - 1) + 1)
    return [i for _ in shifts for i in range(n)], [(i + shift) % n for shift in shifts for i in range(n)]


def _features(bench: Bench, codes: Codes, a: Sequence[int], b: Sequence[int], task: str, floor: str) -> Tensor:
    """Judge features of the mixes or of all interpolations of these pairs."""
    x, y = codes[list(a)], codes[list(b)]
    if task == "mixing":
        made = [mix(x, y, slice(round(COARSE_SHARE * bench.G.num_ws), None))]
    else:
        space = {"space": "PN+", "statistics": bench.statistics(FLOORS[floor])} if task == "pn_interpolation" else {}
        made = [interpolate(x, y, t, **space) for t in PROPORTIONS]
    pictures = (bench.G.synthesis(part) for whole in made for part in whole.split(40))
    return torch.cat([judge_features(x) for x in pictures])


CLAIMS = (
    Claim("II2S-9", "II2S, section 5.2", "Codes of II2S edit better than those of I2S.",
          "Table 2: users prefer II2S to I2S in 80 % (age), 69 % (pose), 79 % (light)",
          _edits, RULES["II2S-9"], plan=lambda bench: _plan(bench, kinds_of(bench, ALL))),
    Claim("II2S-11", "II2S, appendix A", "II2S is best for style mixing and on lines in PN+, I2S on lines in W+.",
          "Table 6, FID: mixing 55.69 against 57.36, PN+ 49.15 against 55.25, W+ 48.61 against 43.03",
          _combinations, RULES["II2S-11"], plan=lambda bench: _plan(bench, kinds_of(bench, FORTY, FEW_FACES))),
)  # fmt: skip
