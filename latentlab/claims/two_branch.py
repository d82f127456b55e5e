"""Claims about two branches (Yin et al. 2022, arXiv 2204.12530), from the table of their runs."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.encoder_runs import column, require_one, rows_of_runs
from latentlab.claims.finding import Claim, Finding, over_samples
from latentlab.claims.inversion import faces_text, kinds_of
from latentlab.claims.rules import ALL, FORTY, RULES, SEEDS
from latentlab.claims.runs import Bench
from latentlab.evaluation.two_branch import FACTORS, SHIPPED  # the latter: trained longer than the ablation

if TYPE_CHECKING:
    import pandas

# Runs of the ablation, of one budget; {} is one of MARKS, for each of SEEDS. The sparse directions are those of the
# full model without its content branch.
MARKS = ("", "2")
STYLE, SPARSE, CONTENT, FULL = "style{}", "full{} (style)", "content{}", "full{}"
COLUMNS = {"perceptual": "perceptual", "yaw_reach": "yaw reach", "ssim": "ssim", "detail_mse": "detail mse"}
EDITED = ("leakage", "identity", "error")  # of the edits
ASKED = ("reach", "leakage", "identity")  # of the edits at the strength that is asked for, not at matched strength


def _rows(names: Iterable[str], kind: str, n: int, bench: Bench) -> "dict[str, pandas.DataFrame]":
    return rows_of_runs(names, kind, n, bench, "two_branch")


def _step(later: str, earlier: str, *cells: str, asked: bool = False) -> Callable[[Bench], Finding]:
    """What one row of the ablation changes of the row before, for both seeds, face by face.

    Edits count that both runs can make; matched: their share of the edits that a face has room for. asked: record the
    differences at the strength that is asked for, too. ``ValueError`` unless all runs have seen as many images, each
    with the seed of its name.
    """

    def measure(bench: Bench) -> Finding:
        kinds, means = kinds_of(bench, FORTY), {}
        for kind, n in kinds.items():
            names = {seed: (later.format(mark), earlier.format(mark)) for seed, mark in zip(SEEDS, MARKS, strict=True)}
            require_one(_rows([name for pair in names.values() for name in pair], kind, n, bench), "images_seen")
            for seed, pair in names.items():
                rows = _rows(pair, kind, n, bench)
                require_one(rows, "seed", seed)
                for cell in cells:
                    after, before = (_values(part, cell) for part in rows.values())
                    means |= {f"{kind}_{seed}_{cell}": (after - before).nanmean(1),
                              f"later_{kind}_{seed}_{cell}": after.nanmean(1)}  # fmt: skip
                for what in ASKED if asked else ():
                    after, before = (column(part, f"asked {what}") for part in rows.values())
                    means[f"asked_{kind}_{seed}_{what}"] = after - before
                if set(cells) & set(EDITED):
                    made = torch.stack([_edits(part, "matched") for part in rows.values()])
                    means[f"{kind}_{seed}_matched"] = made.amin(0).nanmean(1)  # NaN where there is no room
        return _finding(means, bench, kinds)

    return measure


def _values(rows: "pandas.DataFrame", cell: str) -> Float[Tensor, "n _"]:
    """A column of a run, or those of its edits; yaw_less_others: the reach of yaw less that of the other edits."""
    if cell == "yaw_less_others":
        return (column(rows, "yaw reach") - column(rows, "asked reach"))[:, None]
    return _edits(rows, cell) if cell in EDITED else column(rows, COLUMNS[cell])[:, None]


def _edits(rows: "pandas.DataFrame", what: str) -> Float[Tensor, "n k"]:
    """A measure of the edits of each face; see ``encoder_runs.of_edits`` for why differences are averaged."""
    return torch.stack([column(rows, f"{factor} {what}") for factor in FACTORS], 1)


def _finding(means: dict, bench: Bench, kinds: dict[str, int]) -> Finding:
    found = over_samples(means)
    aside = [name for name in found["measured"] if name.startswith(("later_", "asked_")) or name.endswith("_matched")]
    controls = {name: found["measured"].pop(name) for name in aside}
    return Finding(**found, controls=controls, settings={"faces": faces_text(kinds)})


def _reconstruct(bench: Bench) -> Finding:
    """Perceptual distance, SSIM and error inside the detail of the shipped models less those of their encoders."""
    kinds, means = kinds_of(bench, ALL), {}
    for kind, n in kinds.items():
        for base, run in SHIPPED.items():
            rows = _rows([run, base], kind, n, bench)
            for cell in ("perceptual", "ssim", "detail_mse")[: 3 if kind == "strange" else 2]:
                after, before = (column(part, COLUMNS[cell]) for part in rows.values())
                means |= {f"{kind}_{base}_{cell}": after - before, f"later_{kind}_{base}_{cell}": after}
    return _finding(means, bench, kinds)


def _remark_sparsity(f: Finding) -> str:
    told = []
    for kind, seed in ((kind, seed) for kind in FORTY for seed in SEEDS):
        if f"asked_{kind}_{seed}_reach" in f.controls:
            reach, leakage, identity = (f.controls[f"asked_{kind}_{seed}_{what}"] for what in ASKED)
            told.append(f"{kind} faces, seed {seed}: the judge reads {reach:+.2f} of the change, leakage "
                        f"{leakage:+.3f}, identity {identity:+.3f}")  # fmt: skip
    return "*With* sparsity minus *without*, at the strength that is asked for: " + "; ".join(told) if told else ""


CLAIMS = (
    Claim("TWO-1", "Two branches, Table 3", "Sparsity gives local, disentangled edits.",
          "identity .34 to .52, L2 .106 to .049", _step(SPARSE, STYLE, "leakage", "identity", "error", asked=True),
          RULES["TWO-1"], _remark_sparsity),
    Claim("TWO-2", "Two branches, Table 3", "The content branch restores detail.", "identity .52 to .69",
          _step(CONTENT, SPARSE, "identity", "error", "perceptual"), RULES["TWO-2"]),
    Claim("TWO-3", "Two branches, Table 3", "The alignment loss corrects colour and detail.",
          "identity .69 to .77, L2 .059 to .028",
          _step(FULL, CONTENT, "identity", "error", "perceptual"), RULES["TWO-3"]),
    Claim("TWO-4", "Two branches, Table 2",
          "It reconstructs far better than pSp and e4e, out-of-domain detail included.",
          "LPIPS .07 against .16 and .19", _reconstruct, RULES["TWO-4"]),
    Claim("TWO-5", "Two branches, section 4.4", "Sparsity limits edits of the pose.", "a limitation that it states",
          _step(SPARSE, STYLE, "yaw_reach", "yaw_less_others"), RULES["TWO-5"]),
)  # fmt: skip
