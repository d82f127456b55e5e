"""Claim LSAP-6: whether a refinement inherits the alignment of its base (arXiv 2209.12746, Table 1, last rows).

PTI tunes a generator for each face. At full size these are kept in the user's cache like descents, ten faces to a file
of some 24 MiB, so that an interrupted measurement goes on where it stopped.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latentlab.claims.encoder_runs import column
from latentlab.claims.finding import Claim, Finding, over_samples
from latentlab.claims.inversion import faces_text, kinds_of
from latentlab.claims.rules import ALIGNED_EDITS, FORTY, RULES
from latentlab.claims.runs import Bench, read_inversion
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert

if TYPE_CHECKING:
    import pandas

BASES = ("e4e", "lsap_e")
PTI_STEPS = {True: 350, False: 3}  # PTI, section 4: at most 350
STRENGTH = 1.0


def _inherited(bench: Bench) -> Finding:
    """What PTI and HFGI make of LSAP_E's codes less what they make of e4e's, face by face.

    perceptual: distance of the inversion, judge; error, identity: of edits at matched strength.
    """
    kinds, means = kinds_of(bench, FORTY), {}
    for kind, n in kinds.items():
        for name, knobs in (("pti", {"steps": PTI_STEPS[bench.full]}), ("hfgi", {})):
            rows = {base: _graded(bench, name, base, kind, n, knobs) for base in BASES}
            judged = [f"{factor}_{what}" for factor in ALIGNED_EDITS for what in ("error", "identity")]
            for cell in ("perceptual", *judged):
                theirs, ours = (column(rows[base], cell.replace("_", f"{STRENGTH:+g} ")) for base in BASES)
                means |= {f"{kind}_{name}_{cell}": ours - theirs, f"e4e_{kind}_{name}_{cell}": theirs}
    found = over_samples(means)
    controls = {k: found["measured"].pop(k) for k in list(found["measured"]) if k.startswith("e4e_")}
    settings = {"faces": faces_text(kinds), "steps of pti": PTI_STEPS[bench.full], "strength": STRENGTH}
    return Finding(**found, controls=controls, settings=settings)


def _graded(bench: Bench, name: str, base: str, kind: str, n: int, knobs: dict[str, Any]) -> "pandas.DataFrame":
    """Grades of the refined inversions of the first ``n`` faces and of their edits, a row for each face."""
    import pandas

    tables, device = [], bench.G.w_avg.device
    judges, asked = load_judges(device=device), [(factor, STRENGTH) for factor in ALIGNED_EDITS]
    for start in range(0, n, bench.batch):
        rows = range(start, min(start + bench.batch, n))
        faces = bench.faces_of(kind, n)[rows.start : rows.stop]
        faces = FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))
        bench.say(f"  {name} on codes of {base}: {kind} faces {rows[0]} to {rows[-1]}")
        made = _refine(bench, name, base, kind, rows, knobs)
        with torch.no_grad():
            tables.append(evaluate({base: made}, faces, judges, edits=asked, matched=True))
    return pandas.concat(tables, ignore_index=True)


def _refine(bench: Bench, name: str, base: str, kind: str, faces: Sequence[int], knobs: dict[str, Any]) -> Inversion:
    """These faces, refined; those of PTI from the cache, if they are there.

    Ctrl-C keeps the faces of earlier calls, and raises ``KeyboardInterrupt``.
    """
    images = bench.images(kind, faces)
    inverted, path = invert(images, bench.G, base), None
    if bench.folder is not None and name == "pti":
        path = _path(bench.folder, inverted.knobs["encoder"], kind, bench.marks(kind, faces), knobs)
        if (found := read_inversion(path, bench.G)) is not None:
            return found
    made = invert(images, bench.G, name, base=inverted, **knobs)
    if made.interrupted:
        raise KeyboardInterrupt
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)
    return made


def _path(folder: Path, encoder: str, kind: str, marks: dict[int, str], knobs: dict[str, Any]) -> Path:
    """File of the tuned generators of some faces. encoder: fingerprint of that whose codes are the pivots."""
    told = "/".join([encoder, *(f"{k} {v}" for k, v in sorted(knobs.items())), *marks.values()])
    return folder / "pti" / f"{kind}-{min(marks):03d}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.safetensors"


CLAIMS = (
    Claim("LSAP-6", "LSAP, Table 1", "Alignment is inherited by a refinement of the codes.",
          "HFGI: LPIPS .0945 against .1172; identity of smile .5766 against .5409", _inherited, RULES["LSAP-6"]),
)  # fmt: skip
