"""Claims of CLCAE (arXiv 2211.11448): alignment of w, both attention blocks, and the order of the three spaces.

Runs are those of docs/clcae.csv by name, a row for each face: "full W", "full W+" and "full F" are the three
spaces of one run. All of them but ``SHIPPED`` have one budget. Numbers are differences face by face.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.claims.encoder_runs import column, edit_errors, is_measured, of_edits, require_one, rows_of_runs
from latentlab.claims.finding import Claim, Finding
from latentlab.claims.inversion import Columns, collect, faces_text, kinds_of
from latentlab.claims.rules import ALL, FIDELITY, RULES
from latentlab.claims.runs import Bench
from latentlab.encoders.clcae import ClcaeEncoder
from latentlab.encoders.shipped import encoder_for, pair_for
from latentlab.evaluation.encoders import FACTORS
from latentlab.training.contrastive import measure_retrieval

if TYPE_CHECKING:
    import pandas

SEEDS = {"21": ("full", "no_alignment"), "22": ("full2", "no_alignment2")}  # with and without the loss
SHIPPED = ("clcae_multi_token", "clcae")  # trained longer than the runs of the ablation
PAIRS = {True: 1_000, False: 100}  # held-out pairs of the retrieval
QUICK_FACES = 6
SPACES = ("W", "W+", "F")
COLUMNS = {"psnr": "psnr_db", "perceptual": "perceptual", "identity": "identity"}


def _rows(names: Iterable[str], kind: str, n: int, bench: Bench) -> "dict[str, pandas.DataFrame]":
    return rows_of_runs(names, kind, n, bench, "clcae")


def _is_measured(names: Iterable[str], bench: Bench) -> bool:
    return is_measured(names, bench, "clcae")


def _fidelity(
    better: str, other: str, kind: str, n: int, bench: Bench, prefix: str, *, one_seed: bool = True
) -> Columns:  # fmt: skip
    """PSNR, perceptual distance and identity of one row of the table less those of another, face by face. The runs must
    have seen as many images, and with ``one_seed`` be of one seed."""
    rows = _rows((better, other), kind, n, bench)
    require_one(rows, "images_seen")
    if one_seed:
        require_one(rows, "seed")
    a, b = ({what: column(rows[name], COLUMNS[what]) for what, *_ in FIDELITY} for name in (better, other))
    return {f"{prefix}_{what}": a[what] - b[what] for what in a}


def _levels(names: Mapping[str, str], kind: str, n: int, bench: Bench) -> Columns:
    """The same three themselves, under "at_" names, for the record."""
    rows = _rows(names.values(), kind, n, bench)
    return {f"at_{kind}_{short}_{what}": column(rows[name], COLUMNS[what])
            for short, name in names.items() for what in COLUMNS}  # fmt: skip


def _finding(means: Columns, kinds: Mapping[str, int], more: Mapping[str, float] | None = None) -> Finding:
    found = collect(means, {}, {"faces": faces_text(dict(kinds))}, ("at_",), learning_rate=None)
    found.measured.update(more or {})
    return found


def _alignment(bench: Bench) -> Finding:
    """G(w) with the loss less G(w) without it, for each seed that was trained, and retrieval by the pair.

    The pair is the loss's own network, so what it retrieves is recorded and not judged.
    """
    kinds, means = kinds_of(bench, ALL, QUICK_FACES), {}
    trained = {seed: runs for seed, runs in SEEDS.items() if _is_measured((f"{run} W" for run in runs), bench)} or SEEDS
    for kind, n in kinds.items():
        require_one(_rows([f"{run} W" for runs in trained.values() for run in runs], kind, n, bench),
                    "images_seen")  # fmt: skip
        for seed, runs in trained.items():
            names = [f"{run} W" for run in runs]
            rows = _rows(names, kind, n, bench)
            require_one(rows, "seed", int(seed))
            means |= _fidelity(*names, kind, n, bench, f"{kind}_{seed}")
            with_loss, without = (column(part, "retrieved") for part in rows.values())
            means[f"at_{kind}_{seed}_retrieved"] = with_loss - without
            # A share, which a column of booleans is; the difference above is none.
            means |= {f"at_{kind}_{runs[0]}_retrieved": with_loss > 0,
                      f"at_{kind}_{runs[1]}_retrieved": without > 0}  # fmt: skip
            means |= _levels({run: f"{run} W" for run in runs}, kind, n, bench)
    found = measure_retrieval(pair_for(bench.G, device=bench.G.w_avg.device), bench.G, PAIRS[bench.full])
    return _finding(means, kinds, {f"pair_{name}": value for name, value in found._asdict().items()})


@torch.no_grad()
def query_influence(encoder: ClcaeEncoder, images: Float[Tensor, "n 3 r r"]) -> float:
    """By how much what the W+ block's attention reads changes when every query is that of another image, relative to
    its change when every key is: 0 where attention ignores its query."""
    w_offset, deltas, _ = encoder.residuals(images)
    changes = torch.zeros(2)
    for block, query, keys in zip(encoder.blocks, encoder.queries(w_offset), encoder.keys(deltas), strict=True):
        read = block.attend(query, keys)
        others = block.attend(query.roll(1, 0), keys), block.attend(query, keys.roll(1, 0))
        changes += torch.stack([(other - read).square().sum() for other in others]).cpu()
    return float((changes[0] / changes[1]).sqrt())


def _w_plus_block(bench: Bench) -> Finding:
    """G(w+) with the block less G(w+) without it, the influence of the query, and the variant with several keys."""
    kinds, means, influence = kinds_of(bench, ALL, QUICK_FACES), {}, {}
    images = bench.images("clean", range(bench.count(40 if bench.full else QUICK_FACES)))
    for name, encoder in (("published", "clcae"), ("multi_token", "clcae_multi_token")):
        network = encoder_for(bench.G, encoder, device=bench.G.w_avg.device)
        influence[f"{name}_query_influence"] = query_influence(network, images)
    for kind, n in kinds.items():
        means |= _fidelity("full W+", "no_w_plus_block W+", kind, n, bench, f"{kind}_block")
        if _is_measured((f"{run} W+" for run in SHIPPED), bench):
            means |= _fidelity(*(f"{run} W+" for run in SHIPPED), kind, n, bench,
                               f"at_{kind}_multi_token_above_published")  # fmt: skip
        means |= _levels({run: f"{run} W+" for run in ("full", "no_w_plus_block")}, kind, n, bench)
    return _finding(means, kinds, influence)


def _f_block(bench: Bench) -> Finding:
    """G(w+, f) with the block less that without it, and what edits are worth in each of the three spaces."""
    kinds, means = kinds_of(bench, ALL, QUICK_FACES), {}
    for kind, n in kinds.items():
        means |= _fidelity("full F", "no_f_block F", kind, n, bench, f"{kind}_block")
        names = {space: f"full {space}" for space in SPACES} | {"without": "no_f_block F"}
        rows = _rows(names.values(), kind, n, bench)
        gains = {short: of_edits(rows[name], FACTORS, "gain") for short, name in names.items()}
        means[f"{kind}_block_gain"] = (gains["F"] - gains["without"]).nanmean(1)
        for short, name in names.items():
            means |= {f"at_{kind}_{short}_gain": gains[short].nanmean(1),
                      f"at_{kind}_{short}_error": edit_errors(rows[name], FACTORS).nanmean(1)}  # fmt: skip
        means |= _levels(names, kind, n, bench)
    return _finding(means, kinds)


def _order(bench: Bench) -> Finding:
    """Each space less the one before it, and w+ less pSp and e4e, trained on as many images."""
    kinds, means = kinds_of(bench, ALL, QUICK_FACES), {}
    steps = {"w_to_w+": ("full W+", "full W"), "w+_to_f": ("full F", "full W+")}
    steps |= {f"{name}_to_w+": ("full W+", name) for name in ("psp", "e4e")}
    for kind, n in kinds.items():
        for step, names in steps.items():
            means |= _fidelity(*names, kind, n, bench, f"{kind}_{step}", one_seed=False)
        beside = [name for name in ("style_transformer", "feature_style F") if _is_measured([name], bench)]
        means |= _levels({name: name for name in (*(f"full {s}" for s in SPACES), "psp", "e4e", *beside)}, kind, n,
                         bench)  # fmt: skip
    return _finding(means, kinds)


def _remark_f_block(f: Finding) -> str:
    told = []
    for kind in (kind for kind in ALL if f"at_{kind}_F_gain" in f.controls):
        gain, error = (
            ", ".join(f"{f.controls[f'at_{kind}_{s}_{what}']:.2f}" for s in SPACES) for what in ("gain", "error")
        )
        told.append(f"edits on {kind} faces in W, W+, F: gain {gain}, total error {error}")
    return "; ".join(told)


CLAIMS = (
    Claim("CLCAE-1", "CLCAE, section 4.4", "Contrastive alignment makes better codes of W.",
          "Table 2: PSNR 18.15 to 19.36, ID .26 to .50", _alignment, RULES["CLCAE-1"]),
    Claim("CLCAE-2", "CLCAE, section 4.4", "The W+ cross-attention block helps.", "Table 2: PSNR 20.61 to 21.23",
          _w_plus_block, RULES["CLCAE-2"]),
    Claim("CLCAE-3", "CLCAE, section 4.4", "The F cross-attention block helps.", "Table 2: PSNR 23.93 to 24.50",
          _f_block, RULES["CLCAE-3"], _remark_f_block),
    Claim("CLCAE-4", "CLCAE, section 4.3", "Fidelity rises from w to w+ to (w+, f); w+ is above pSp and e4e.",
          "Tables 1 and 2: PSNR 19.36, 21.23, 24.50; pSp 20.39, e4e 19.08", _order, RULES["CLCAE-4"]),
)  # fmt: skip
