"""What two branches are worth: reconstruction, inside out-of-domain details as well, and edits against the truth."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.checkpoints import load_checkpoint
from latentlab.editing.shipped import edits_for
from latentlab.evaluation.intervals import confidence_interval
from latentlab.evaluation.inversions import Judges, evaluate, load_judges, true_edit
from latentlab.faces import FaceSet, real_set, render
from latentlab.inversion.refiners import BUILD
from latentlab.inversion_methods import invert
from latentlab.metrics import edit_gain
from latentlab.networks.two_branch import TwoBranch
from latentlab.stylegan import Generator

if TYPE_CHECKING:
    import pandas

FACTORS = ("glasses", "smile", "age", "beard")  # of the edits: the paper's, without gender
STRENGTH = 1.0
SEEN = 0.02  # of a change in [-1, 1] that counts as part of a detail
EDITED = ("error", "gain", "residual", "leakage")
COLUMNS = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "perceptual": "perceptual", "identity": "identity",
           "detail mse": "MSE inside the detail", "edit error": "edit: total error", "edit gain": "gain",
           "edit leakage": "leakage", "edit identity": "identity after it", "yaw gain": "yaw, gain as asked",
           "zeros": "zeros"}  # fmt: skip


@dataclass(frozen=True)
class Branched:
    """Two branches to measure: their name in tables, the encoder of their codes, and how they were made. network: None
    for the encoder alone."""

    name: str
    encoder: str
    network: TwoBranch | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def trained_branches(folder: Path) -> list[Branched]:
    """The runs of ``latentlab train two_branch`` in a folder, rounded to half precision as shipped networks are, after
    the encoders alone that they build on."""
    found = []
    for run in sorted(path.parent for path in folder.glob("*/run.json")):
        described = json.loads((run / "run.json").read_text())
        if described.get("kind") != "two_branch":
            continue
        state = load_checkpoint(run / "checkpoint.pt")
        network = BUILD["two_branch"](state["config"]["shape"])
        network.load_state_dict({k: v.half().to(v.dtype) for k, v in state["network"].items()})
        described["images"] = state["progress"][1]
        found.append(Branched(run.name, described["encoder"], network.requires_grad_(False).eval(), described))
    if not found:
        raise ValueError(f"runs: expected a folder with runs of `latentlab train two_branch`, got {folder}")
    return [*(Branched(name, name) for name in dict.fromkeys(b.encoder for b in found)), *found]


@torch.no_grad()
def grade_branches(
    branches: Branched, G: Generator, faces: FaceSet, judges: Judges | None = None
) -> "pandas.DataFrame":
    """One row for each face: all columns of ``evaluate`` with the edits of ``FACTORS`` at matched strength, and

    - edit error, gain, residual, leakage, identity: their means over these edits;
    - yaw gain: gain of an edit of yaw by one standard deviation as it is asked for, without a match;
    - detail mse: squared error inside the out-of-domain detail, NaN where there is none;
    - zeros: share of the style directions' numbers that are 0.
    """
    judges = judges or load_judges(device=faces.images.device)
    inversion = invert(faces.images, G, branches.encoder)
    if branches.network is not None:
        inversion = invert(faces.images, G, "two_branch", base=inversion, network=branches.network)
    asked = [(factor, STRENGTH) for factor in FACTORS]
    table = evaluate({branches.name: inversion}, faces, judges, edits=asked, matched=True)
    identity = next(c for c in table.columns if c.startswith(f"{FACTORS[0]}{STRENGTH:+g} identity"))
    for what in (*EDITED, identity.split(" ", 1)[1]):
        table[f"edit {what.split(' ')[0]}"] = table[[f"{f}{STRENGTH:+g} {what}" for f in FACTORS]].mean(axis=1)
    yaw = edits_for(G)["yaw"]
    truth = true_edit(faces, yaw, STRENGTH).images
    gain, _ = edit_gain(inversion.image, inversion.edit(yaw, STRENGTH), faces.images, truth)
    zeros = float("nan") if branches.network is None else float(branches.network.sparsity.mean())
    inside = detail_error(inversion.image, faces)
    return table.assign(**{"yaw gain": gain.cpu().numpy(), "detail mse": inside.cpu().numpy(), "zeros": zeros})


def detail_error(images: Float[Tensor, "n 3 r r"], faces: FaceSet) -> Float[Tensor, " n"]:
    """Squared error inside the out-of-domain detail: where the face differs from the same one rendered without it,
    (N,); NaN for faces without a detail."""
    without = render(faces.factors, faces.resolution)
    inside = ((faces.images - without).abs().amax(1, keepdim=True) > SEEN).to(images)
    error = ((images.clamp(-1, 1) - faces.images).square().mean(1, keepdim=True) * inside).flatten(1).sum(1)
    return error / inside.flatten(1).sum(1)


def measure_branches(
    several: Sequence[Branched], G: Generator, say: Callable[[str], object] = lambda text: None
) -> "pandas.DataFrame":
    """The rows of ``grade_branches`` on the real set, for several."""
    import pandas

    tables = []
    for branches in several:
        say(branches.name)
        tables.append(grade_branches(branches, G, real_set(G.resolution)))
    return pandas.concat(tables, ignore_index=True)


def describe_branches(table: "pandas.DataFrame", several: Sequence[Branched]) -> str:
    """The table as a page of Markdown."""
    parts = [
        "# Two branches, measured",
        "Written by `latentlab benchmark --only two_branch --runs FOLDER`. Means over faces ± half of their 95 % "
        f"intervals. Edits of {', '.join(FACTORS)} by one standard deviation, at the strength at which the judge reads "
        "the true edit; yaw as it is asked for. Inside the detail: where a face differs from the same face rendered "
        "without its hat, ring or paint. Zeros: share of the numbers of the style directions that are exactly 0.",
    ]
    for kind, rows in table.groupby("faces", sort=False):
        lines = [["run", *COLUMNS.values()], ["---"] * (1 + len(COLUMNS))]
        for name, part in rows.groupby("method", sort=False):
            found = [next(c for c in part.columns if c == k or c.startswith(f"{k} (")) for k in COLUMNS]
            lines.append([name, *(_with_interval(part[c]) for c in found)])
        parts.append(f"## {rows.groupby('method').size().max()} {kind} faces of the real set\n\n" + _lines(lines))
    made = [b for b in several if b.provenance]
    parts.append("## How they were made\n\n" + "\n".join(
        f"- **{b.name}**: {b.provenance['images']:,} images, seed {b.provenance['seed']}, {b.provenance['hardware']}, "
        f"`{b.provenance['command']}`" for b in made))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _with_interval(values: "pandas.Series") -> str:
    values = values.dropna()
    if values.empty:
        return "-"
    low, high = confidence_interval(values.to_numpy(float))
    return f"{values.mean():.3g}" + (f" ± {(high - low) / 2:.2g}" if high > low else "")


def _lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
