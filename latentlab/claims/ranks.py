"""Claim LSAP-2: whether SNCD ranks methods as editability and realism do (arXiv 2209.12746, Table 1)."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from latentlab.claims.alignment import PAPERS, PROJECTOR_STEPS, lsap_o
from latentlab.claims.finding import Claim, Finding, over_resamples, over_samples
from latentlab.claims.inversion import PAPER_STEPS, faces_text, ii2s, kinds_of
from latentlab.claims.realism import realism_distance
from latentlab.claims.rules import ALIGNED_EDITS, FORTY, RULES
from latentlab.claims.runs import Bench, Planned, Run
from latentlab.evaluation.intervals import nanmean
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.metrics import sncd_of_codes
from latentlab.spaces import anchors_for

ENCODERS = ("psp", "e4e", "lsap_e")
STRENGTH = 1.0  # of the edits: the truth changes by one standard deviation
QUICK_STEPS = 40  # of I2S and II2S
QUALITIES = ("error", "residual", "loss_of_gain", "realism")

Values = np.ndarray  # (methods, faces)


def _searches(bench: Bench) -> dict[str, Run]:
    """The descents by name; those of LSAP_O begin with "lsap"."""
    steps = PAPER_STEPS if bench.full else QUICK_STEPS
    runs = {"i2s": ii2s(0.0, steps), "ii2s": ii2s(0.005, steps)}
    for space, lambda_ in PAPERS.items():
        runs |= {f"projector {space}": lsap_o(bench, 0.0, space), f"lsap_o {space}": lsap_o(bench, lambda_, space)}
    return runs


@torch.no_grad()
def _ranked(bench: Bench) -> Finding:
    """Spearman's correlation of the methods' mean SNCD with what their inversions and edits are worth.

    error, residual, loss_of_gain (1 - gain) of edits: as in ``evaluation.evaluate``, of those faces and factors for
    which all methods have a strength that matches. realism: ``realism_distance`` of the inversions.
    """
    kinds, means, ranks = kinds_of(bench, FORTY), {}, {}
    for kind, n in kinds.items():
        made = _inversions(bench, kind, n)
        anchors = anchors_for(bench.G)
        sncd = {name: sncd_of_codes(inv.latent, bench.G, anchors) for name, inv in made.items()}
        means |= {f"{kind}_psp_minus_e4e": sncd["psp"] - sncd["e4e"],
                  f"{kind}_e4e_minus_lsap_e": sncd["e4e"] - sncd["lsap_e"]}  # fmt: skip
        means |= {f"sncd_{kind}_{name}": values for name, values in sncd.items()}
        qualities, ruler = _qualities(bench, made, kind, n), np.stack([v.double().cpu().numpy() for v in sncd.values()])
        means[f"matched_{kind}"] = np.isfinite(qualities["error"][0])
        untrained = [i for i, name in enumerate(made) if not name.startswith("lsap")]
        for what, values in qualities.items():
            ranks[f"{kind}_rank_{what}"] = rank_correlation(ruler, values), n
            ranks[f"{kind}_untrained_rank_{what}"] = rank_correlation(ruler[untrained], values[untrained]), n
    parts = [over_samples(means), over_resamples(ranks)]
    found = {key: parts[0][key] | parts[1][key] for key in parts[0]}
    controls = {k: found["measured"].pop(k) for k in list(found["measured"]) if k.startswith(("sncd_", "matched_"))}
    settings = {"faces": faces_text(kinds), "steps": PROJECTOR_STEPS[bench.full], "strength": STRENGTH}
    return Finding(**found, controls=controls, settings=settings | {"methods": len(made)})


def rank_correlation(a: Values, b: Values) -> Callable[..., np.ndarray]:
    """Spearman's rank correlation of methods, by their means over faces, as a statistic of the numbers of the faces
    that take part, (.., N). a, b: (M, N); NaN faces are left out of a mean."""
    from scipy.stats import rankdata

    def statistic(faces: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
        picks = np.moveaxis(faces.astype(int), axis, -1)
        ranks = [rankdata(nanmean(x[:, picks]), axis=0) for x in (a, b)]
        x, y = (r - r.mean(0) for r in ranks)
        return (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))

    return statistic


def _inversions(bench: Bench, kind: str, n: int) -> dict[str, Inversion]:
    images, G = bench.images(kind, range(n)), bench.G
    made = {name: invert(images, G, name) for name in ENCODERS}
    for name, run in _searches(bench).items():
        found = bench.find(run, kind, n)
        made[name] = Inversion(found.state, found.image, G, name)
    return made


def _qualities(bench: Bench, made: dict[str, Inversion], kind: str, n: int) -> dict[str, Values]:
    """What the inversions and their edits are worth by ``QUALITIES``, lower is better, (M, N) each."""
    faces, device = bench.faces_of(kind, n), bench.G.w_avg.device
    faces = FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))
    asked = [(factor, STRENGTH) for factor in ALIGNED_EDITS]
    table = evaluate(made, faces, load_judges(device=device), edits=asked, matched=True)
    rows = {name: part for name, part in table.groupby("method", sort=False)}
    found = {}
    for what in ("error", "residual", "gain"):
        names = [f"{factor}{STRENGTH:+g} {what}" for factor in ALIGNED_EDITS]
        values = np.stack([rows[name][names].to_numpy(float) for name in made])  # (M, N, factors)
        everywhere = np.isfinite(values).all(0)
        found[what] = nanmean(np.where(everywhere, values, np.nan))
    realism = [realism_distance(inv.image, kind).cpu().numpy() for inv in made.values()]
    found = found | {"loss_of_gain": 1 - found["gain"], "realism": np.stack(realism)}
    return {what: found[what] for what in QUALITIES}


def _plan(bench: Bench) -> Iterator[Planned]:
    for kind, n in kinds_of(bench, FORTY).items():
        yield from (Planned(run, kind, n) for run in _searches(bench).values())


CLAIMS = (
    Claim("LSAP-2", "LSAP, Table 1", "SNCD ranks methods as perception and editability do.",
          "SNCD: pSp .1013, e4e .0495, LSAP_E .0385", _ranked, RULES["LSAP-2"], plan=_plan),
)  # fmt: skip
