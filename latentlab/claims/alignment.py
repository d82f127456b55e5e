"""Claims about SNCD: LSAP (arXiv 2209.12746), sections 4 and 5.

Names of numbers begin with the kind of the faces. "o_" numbers belong to LSAP_O in W+, "e_" numbers to LSAP_E, "w_"
numbers to W.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.encoder_runs import column, consistencies, is_measured, rows_of_runs
from latentlab.claims.finding import Claim, Finding, over_resamples, over_samples
from latentlab.claims.inversion import Columns, faces_text, kinds_of, targets
from latentlab.claims.rules import ALIGNED_EDITS, FORTY, LAMBDAS_E, LAMBDAS_O, RULES, SEEDS
from latentlab.claims.runs import Bench, Found, Planned, Run
from latentlab.evaluation.intervals import Statistic
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion
from latentlab.metrics import mse, psnr, sncd_of_codes, sncd_references
from latentlab.spaces import anchors_for

PROJECTOR_STEPS = {True: 1000, False: 60}
QUICK_LAMBDAS = LAMBDAS_O[::2]
STRENGTH = 1.0  # of the edits: the truth changes by one standard deviation
E4E, LSAP_E = "D", dict(zip(SEEDS, ("LSAP", "LSAP2"), strict=True))  # names of training runs
PAPERS = {"W+": 20.0, "W": 5.0}  # lambda of LSAP_O


def lsap_o(bench: Bench, lambda_: float, space: str = "W+") -> Run:
    """The run of LSAP_O that claims share; with lambda 0 it is the projector."""
    return Run("lsap_o", (PROJECTOR_STEPS[bench.full],), (("space", space), ("lambda_", lambda_)))


def _lambdas(bench: Bench) -> tuple[float, ...]:
    return LAMBDAS_O if bench.full else QUICK_LAMBDAS


def _finding(
    means: Columns, ratios: Columns, controls: dict[str, float], settings: dict,
    dials: Mapping[str, Float[Tensor, "l n"]] | None = None,
) -> Finding:  # fmt: skip
    """Means of columns and geometric means of ratios. dials: values of each face at each lambda, (L, N), of which
    ``largest_share`` is taken."""
    shares = {name: (largest_share(values), values.shape[1]) for name, values in (dials or {}).items()}
    parts = [over_samples(means), over_samples(ratios, log=True), over_resamples(shares)]
    measured, intervals, samples = (
        {name: value for part in parts for name, value in part[key].items()}
        for key in ("measured", "intervals", "samples")
    )
    return Finding(measured, intervals, controls, settings | {"learning rate": 0.1}, samples=samples)


def _floors(bench: Bench) -> dict[str, float]:
    """SNCD at its minimum, and of the generator's own samples, means over the layers."""
    lowest, samples = (floors.mean() for floors in sncd_references(anchors_for(bench.G).means()))
    return {"sncd_lowest": float(lowest), "sncd_of_samples": float(samples)}


@torch.no_grad()
def _editable(bench: Bench) -> Finding:
    """SNCD, likeness and edits of LSAP_O and of the projector, face by face, in W+ and in W.

    sncd: ratio of LSAP_O and the projector; psnr: difference in dB; error, identity: of edits, as in
    ``evaluation.evaluate``, differences over the faces for which both have a strength that matches; own_error: total
    error of LSAP_O's. matched: share of the faces for which a method has such a strength.
    """
    kinds, judges = kinds_of(bench, FORTY), load_judges(device=bench.G.w_avg.device)
    anchors, means, ratios = anchors_for(bench.G), {}, {}
    for kind, n in kinds.items():
        images, found = targets(bench, kind, n), {}
        for space, prefix in (("W+", ""), ("W", "w_")):
            pair = [bench.find(lsap_o(bench, x, space), kind, n) for x in (0.0, PAPERS[space])]
            values = [sncd_of_codes(run.latent, bench.G, anchors) for run in pair]
            likeness = [psnr(run.image.clamp(-1, 1), images) for run in pair]
            name = f"{kind}_{prefix}"
            ratios[f"{name}sncd"] = values[1] / values[0]
            means[f"{name}psnr"] = likeness[1] - likeness[0]
            for what, s, p in zip(("projector", "lsap_o"), values, likeness, strict=True):
                means |= {f"{name}{what}_sncd": s, f"{name}{what}_psnr": p}
            found |= {f"{prefix}projector": pair[0], f"{prefix}lsap_o": pair[1]}
        graded = _grade_edits(bench, kind, n, found, judges)
        for factor in ALIGNED_EDITS:
            for prefix in ("", "w_"):
                theirs, ours = (graded[f"{prefix}{what}", factor] for what in ("projector", "lsap_o"))
                name = f"{kind}_{prefix}{factor}"
                means |= {f"{name}_{what}": ours[what] - theirs[what] for what in ("error", "identity")}
                means |= {f"{name}_own_error": ours["error"], f"{name}_projector_error": theirs["error"]}
                means |= {f"{name}_{who}_matched": values["error"].isfinite()
                          for who, values in (("projector", theirs), ("lsap_o", ours))}  # fmt: skip
    settings = {"faces": faces_text(kinds), "steps": PROJECTOR_STEPS[bench.full], "strength": STRENGTH}
    return _finding(means, ratios, _floors(bench), settings)


def _grade_edits(
    bench: Bench, kind: str, n: int, found: dict[str, Found], judges: object
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Total error and identity of edits at matched strength, (N,) for each method and factor."""
    faces, device = bench.faces_of(kind, n), bench.G.w_avg.device
    faces = FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))
    made = {name: Inversion(run.state, run.image, bench.G, name) for name, run in found.items()}
    table = evaluate(made, faces, judges, edits=[(factor, STRENGTH) for factor in ALIGNED_EDITS], matched=True)
    graded = {}
    for name, rows in table.groupby("method", sort=False):
        for factor in ALIGNED_EDITS:
            columns = {"error": "error", "identity": f"identity ({judges.backbone})"}
            graded[name, factor] = {what: torch.tensor(rows[f"{factor}{STRENGTH:+g} {column}"].to_numpy())
                                    for what, column in columns.items()}  # fmt: skip
    return graded


def _remark_editable(f: Finding) -> str:
    lowest, samples = f.controls["sncd_lowest"], f.controls["sncd_of_samples"]
    told = []
    for kind in FORTY:
        if f"{kind}_sncd" in f.measured:
            before, after = (f.measured[f"{kind}_{name}_sncd"] for name in ("projector", "lsap_o"))
            told.append(f"SNCD {before:.3f} to {after:.3f} on {kind} faces")
    floors = f"the generator's samples have {samples:.3f} on average, and no code has less than {lowest:.3f}"
    return "; ".join([*told, floors])


def _plan_editable(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY).items():
        for space, lambda_ in PAPERS.items():
            yield from (Planned(lsap_o(bench, x, space), kind, n) for x in (0.0, lambda_))


@torch.no_grad()
def _dial(bench: Bench) -> Finding:
    """Ratios of MSE and of SNCD from each lambda to the next, face by face, and the share of the largest step in the
    change of the mean SNCD: of LSAP_O, and of LSAP_E where its runs are measured."""
    kinds, lambdas, anchors = kinds_of(bench, FORTY), _lambdas(bench), anchors_for(bench.G)
    means, ratios, dials = {}, {}, {}
    for kind, n in kinds.items():
        images, runs = targets(bench, kind, n), {x: bench.find(lsap_o(bench, x), kind, n) for x in lambdas}
        of_search = {
            "mse": {x: mse(run.image.clamp(-1, 1), images) for x, run in runs.items()},
            "sncd": {x: sncd_of_codes(run.latent, bench.G, anchors) for x, run in runs.items()},
        }
        for name, values in (("o", of_search), ("e", _dial_of_encoders(kind, n, bench))):
            _turn(f"{kind}_{name}", values, means, ratios)
            if values:
                dials[f"{kind}_{name}_sncd_largest_share"] = torch.stack(list(values["sncd"].values()))
    settings = {"faces": faces_text(kinds), "steps": PROJECTOR_STEPS[bench.full]}
    return _finding(means, ratios, _floors(bench), settings, dials)


def _turn(prefix: str, values: dict[str, dict[float, Tensor]], means: Columns, ratios: Columns) -> None:
    """Adds what a dial does: {quantity: {lambda: (N,)}} to means and ratios of columns."""
    for what, by_lambda in values.items():
        means |= {f"{prefix}_{what}_{x:g}": numbers for x, numbers in by_lambda.items()}
        ratios |= {f"{prefix}_{what}_{a:g}_to_{b:g}": by_lambda[b] / by_lambda[a] for a, b in pairwise(by_lambda)}


def largest_share(values: Float[Tensor, "l n"]) -> Statistic:
    """The largest step between neighbouring rows of the mean over faces, by its whole change from the first row to the
    last, both by their size, as a statistic of the numbers of the faces that take part, (.., N).

    1 / (L - 1) for equal steps; above 1 where the mean goes back and forth. The share of each face by itself would
    divide by a change that is near 0 on some faces.
    """
    rows = values.detach().double().cpu().numpy()

    def statistic(faces: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
        mean = rows[:, faces.astype(int)].mean(axis if axis < 0 else axis + 1)  # (L, ..)
        return np.abs(np.diff(mean, axis=0)).max(0) / np.abs(mean[-1] - mean[0])

    return statistic


def _dial_of_encoders(kind: str, n: int, bench: Bench) -> dict[str, dict[float, Tensor]]:
    """The same quantities of LSAP_E, and its LEC, from the table of runs named L0, L0.25, ..; empty without them."""
    names = {x: f"L{x:g}" for x in LAMBDAS_E}
    if not is_measured(names.values(), bench):
        return {}
    rows = rows_of_runs(names.values(), kind, n, bench)
    by_lambda = {what: {x: column(rows[name], what) for x, name in names.items()} for what in ("mse", "sncd")}
    return by_lambda | {"lec": {x: consistencies(rows[name], ALIGNED_EDITS).mean(1) for x, name in names.items()}}


def _plan_dial(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY).items():
        yield from (Planned(lsap_o(bench, x), kind, n) for x in _lambdas(bench))


def _better(bench: Bench) -> Finding:
    """MSE, perceptual distance, SNCD and LEC of LSAP_E, trained with two seeds, minus those of e4e, face by face."""
    kinds, means, of_e4e = kinds_of(bench, FORTY), {}, {}
    for kind, n in kinds.items():
        rows = rows_of_runs([E4E, *LSAP_E.values()], kind, n, bench)
        for what in ("mse", "perceptual", "sncd", *(f"lec {factor}" for factor in ALIGNED_EDITS)):
            theirs, name = column(rows[E4E], what), what.replace(" ", "_")
            of_e4e[f"e4e_{kind}_{name}"] = theirs
            for seed, run in LSAP_E.items():
                means[f"{kind}_{seed}_{name}"] = column(rows[run], what) - theirs
    found = over_samples(means | of_e4e)
    controls = _floors(bench) | {name: found["measured"].pop(name) for name in of_e4e}
    return Finding(**found, controls=controls, settings={"faces": faces_text(kinds)})


CLAIMS = (
    Claim("LSAP-3", "LSAP, Table 1", "LSAP_E has better fidelity than e4e at better alignment.",
          "MSE .0397 against .0475, LEC 14 to 19 against 22 to 27", _better, RULES["LSAP-3"]),
    Claim("LSAP-4", "LSAP, section 5", "LSAP_O makes optimisation in W+ editable.",
          "Table 1: SNCD .1063 to .0407, MSE .0279 to .0359", _editable, RULES["LSAP-4"], _remark_editable,
          _plan_editable),
    Claim("LSAP-5", "LSAP, appendix D", "lambda is a smooth dial between likeness and alignment.",
          "Table 3, lambda 0 to 1: MSE .0369 to .0413, SNCD .0736 to .0378", _dial, RULES["LSAP-5"], plan=_plan_dial),
)  # fmt: skip
