"""The recipe of the shipped edits: found in several ways, chosen by their total error on rendered faces.

The faces are renders of a training seed, so the truth of every edit is known, and neither the judges nor the faces
of the real set have a say in the choice.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentlab.editing.edit import Edit
from latentlab.editing.files import load_edit, save_edit
from latentlab.editing.samples import Reader
from latentlab.editing.ways import Evidence, file_stem, find_edit
from latentlab.faces import BINARY_NAMES, NAMES, FaceSet, draw_details, render, training_factors
from latentlab.inversion.result import Inversion
from latentlab.metrics import edit_error, edit_gain, matched_strength, switch_target

CANDIDATES = ("W regression", "PN regression", "InterFaceGAN, conditional", "StyleSpace", "learned in S")
QUICK = ("W regression", "PN regression", "InterFaceGAN, conditional")  # seconds each, for the other factors
FACES_START = 10**7  # of the training seed: faces that no training has reached
LIMIT = 4.0  # largest strength, in standard deviations of the factor
UNMATCHED = 1.0  # the total error of no edit, which is what a face gets that an edit cannot bring to the target


@dataclass(frozen=True)
class Trial:
    """One way for one factor. error, gain, residual: means over the faces and both signs; matched: share of the faces
    on which some strength reaches what is read in the truth. refused: why there is no edit, or empty."""

    factor: str
    way: str
    error: float
    gain: float
    residual: float
    matched: float
    refused: str = ""


def choose_edits(
    evidence: Evidence,
    inversion: Inversion,
    faces: FaceSet,
    out: Path,
    *,
    factors: Sequence[str] = NAMES,
    ways: Sequence[str] = CANDIDATES,
) -> tuple[dict[str, Edit], list[Trial]]:
    """Finds the edit of each factor in each way and chooses the one of the least total error on ``faces``.

    inversion: of these faces. out: folder of the run; edits and trials that are there already are not made again. A
    factor that no way can edit has none.
    """
    out.mkdir(parents=True, exist_ok=True)
    G, chosen, trials = evidence.G, {}, []
    for factor in factors:
        rows = []
        for way in ways:
            stem = file_stem(way, factor)
            record, file = out / f"{stem}.json", out / f"{stem}.edit.safetensors"
            if not record.is_file():
                try:
                    edit = load_edit(file, G) if file.is_file() else find_edit(evidence, way, factor)
                except ValueError as error:
                    trial = Trial(factor, way, UNMATCHED, 0.0, 0.0, 0.0, str(error))
                else:
                    save_edit(file, edit, G)
                    binary = factor in BINARY_NAMES
                    reader = evidence.gradient_reader if binary else evidence.reader
                    trial = try_edit(edit, inversion, faces, reader, way)
                record.write_text(json.dumps(trial.__dict__, indent=1))
            rows.append((Trial(**json.loads(record.read_text())), file))
        # A refusal counts as no edit in the trials, and must not win over an edit that is worse than none.
        best, file = min(rows, key=lambda row: (bool(row[0].refused), row[0].error))
        if not best.refused:
            chosen[factor] = load_edit(file, G)
        trials += [trial for trial, _ in rows]
    return chosen, trials


@torch.no_grad()
def try_edit(edit: Edit, inversion: Inversion, faces: FaceSet, reader: Reader, way: str) -> Trial:
    """Total error, gain and residual of an edit, at the strength at which ``reader`` reads what it reads in the truth.

    Each face is edited by one standard deviation up and down, as far as its factor's range goes. A binary factor is
    switched, and ``reader`` gives its logit, whose target is ``switch_target``.
    """
    name, k, found = edit.name, reader.column(edit.name), []
    for sign in (1.0, -1.0):
        truth, rows = _truth(faces, edit, sign)
        if not bool(rows.any()):
            continue
        some, x, y = inversion[rows.nonzero()[:, 0]], faces.images[rows], truth.images[rows]
        target = reader(y)[:, k]
        if name in BINARY_NAMES:
            target = switch_target(target)

        def move(strengths: Tensor, some: Inversion = some) -> Tensor:
            return some.edit(edit, strengths)

        strengths = matched_strength(move, lambda z: reader(z)[:, k], target, limit=sign * LIMIT, steps=6)
        matched = ~strengths.isnan()
        edited = move(strengths.nan_to_num())
        error = edit_error(some.image, edited, x, y).where(matched, torch.tensor(UNMATCHED))
        gain, residual = edit_gain(some.image, edited, x, y)
        found.append(torch.stack([error, gain, residual, matched.float()], 1))
    error, gain, residual, matched = torch.cat(found).mean(0).tolist()
    return Trial(name, way, error, gain, residual, matched)


def _truth(faces: FaceSet, edit: Edit, sign: float) -> tuple[FaceSet, Tensor]:
    """The faces with the factor changed, and which of them have room for at least half of the change."""
    name, before = edit.name, faces.factors[edit.name]
    if name in BINARY_NAMES:
        truth, full = faces.with_factors(**{name: float(sign > 0)}), 1.0
    else:
        truth, full = faces.truth(**{name: sign * edit.std}), edit.std
    changes = (truth.images - faces.images).flatten(1).abs().amax(1) > 0
    return truth, ((truth.factors[name] - before).abs() >= full / 2) & changes


def training_faces(n: int, seed: int, resolution: int = 64) -> FaceSet:
    """``n`` clean faces of a training seed, with their factors, that no training has reached."""
    factors = training_factors(n, seed, start=FACES_START)
    return FaceSet(render(factors, resolution), factors, draw_details(["none"] * n, seed))
