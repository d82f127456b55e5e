"""The claim about conditional embedding: II2S (arXiv 2012.09036), section 5.3."""

from collections.abc import Iterator

import torch

from latentlab.claims.finding import Claim, Finding
from latentlab.claims.inversion import PAPER_STEPS, collect, faces_text, floors_of, ii2s, kinds_of, targets
from latentlab.claims.realism import realism_distance
from latentlab.claims.rules import ALL, RULES
from latentlab.claims.runs import TASKS, Bench, Planned
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.metrics import mse, psnr

QUICK = ("half",), 180, 2  # tasks, steps and faces of a quick subset


def _size(bench: Bench) -> tuple[tuple[str, ...], int, dict[str, int]]:
    """Tasks, steps, and numbers of faces."""
    tasks, steps, n = (tuple(TASKS), PAPER_STEPS, 0) if bench.full else QUICK
    return tasks, steps, kinds_of(bench, ALL, n)


@torch.no_grad()
def _conditional(bench: Bench) -> Finding:
    """II2S (lambda 0.005) compared with I2S on whole images x of which a condition f has shown them only f(x).

    hidden: squared error of x - f(x), the colour, half or detail that was not shown, ratio of II2S to I2S. realism:
    distance of judge features from those of renders of the same kind, the same ratio. known: as hidden, for f(x).
    perceptual, identity: the judges' distances to x, difference of II2S and I2S.
    """
    (tasks, steps, kinds), device = _size(bench), bench.G.w_avg.device
    judges = {"perceptual": load_perceptual_judge(device=device), "identity": load_identity_judge(device=device)}
    means, ratios = {}, {}
    for kind, n in kinds.items():
        images = targets(bench, kind, n)
        means[f"truth_{kind}_realism"] = realism_distance(images, kind)
        for task in tasks:
            f = TASKS[task](images)
            i2s = bench.find(ii2s(0.0, steps, task=task), kind, n).image.clamp(-1, 1)
            distance = realism_distance(i2s, kind)
            means |= {f"{kind}_{task}_psnr_i2s": psnr(i2s, images), f"{kind}_{task}_realism_i2s": distance}
            for floor in floors_of(bench):
                ours = bench.find(ii2s(0.005, steps, floor, task=task), kind, n).image.clamp(-1, 1)
                hidden, name = images - f(images), f"{kind}_{floor}{task}"
                ratios |= {f"{name}_hidden": mse(ours - f(ours), hidden) / mse(i2s - f(i2s), hidden),
                           f"{name}_realism": realism_distance(ours, kind) / distance,
                           f"known_{name}": mse(f(ours), f(images)) / mse(f(i2s), f(images))}  # fmt: skip
                means |= {f"{name}_{what}": judge(ours, images) - judge(i2s, images) for what, judge in judges.items()}
                means[f"{name}_psnr_ii2s"] = psnr(ours, images)
    return collect(means, ratios, {"faces": faces_text(kinds), "steps": steps}, ("known_", "truth_"))


def _plan(bench: Bench) -> Iterator[Planned]:
    tasks, steps, kinds = _size(bench)
    for kind, n in kinds.items():
        for task in tasks:
            yield Planned(ii2s(0.0, steps, task=task), kind, n)
            yield from (Planned(ii2s(0.005, steps, floor, task=task), kind, n) for floor in floors_of(bench))


CLAIMS = (
    Claim("II2S-10", "II2S, section 5.3", "Conditional embedding is better with the regulariser.",
          "Table 2: users prefer II2S to I2S in 95 % (colour), 66 % (half), 94 % (from 32 px)",
          _conditional, RULES["II2S-10"], plan=_plan),
)  # fmt: skip
