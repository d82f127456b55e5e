"""Claim LSAP-6: whether a refinement inherits the alignment of its base (arXiv 2209.12746, Table 1, last rows)."""

import torch

from latentlab.claims.encoder_runs import column
from latentlab.claims.finding import Claim, Finding, over_samples
from latentlab.claims.inversion import faces_text, kinds_of
from latentlab.claims.rules import ALIGNED_EDITS, FORTY, RULES
from latentlab.claims.runs import Bench
from latentlab.evaluation.inversions import evaluate, load_judges
from latentlab.faces import FaceSet
from latentlab.inversion_methods import invert

BASES = ("e4e", "lsap_e")
PTI_STEPS = {True: 350, False: 3}  # PTI, section 4: at most 350
STRENGTH = 1.0


def _inherited(bench: Bench) -> Finding:
    """What PTI and HFGI make of LSAP_E's codes less what they make of e4e's, face by face.

    perceptual: distance of the inversion, judge; error, identity: of edits at matched strength.
    """
    kinds, means = kinds_of(bench, FORTY), {}
    for kind, n in kinds.items():
        faces, device = bench.faces_of(kind, n), bench.G.w_avg.device
        faces = FaceSet(faces.images.to(device), faces.factors.to(device), faces.wear.to(device))
        for name, knobs in (("pti", {"steps": PTI_STEPS[bench.full]}), ("hfgi", {})):
            rows = {}
            for base in BASES:
                made = invert(faces.images, bench.G, name, base=invert(faces.images, bench.G, base), **knobs)
                asked = [(factor, STRENGTH) for factor in ALIGNED_EDITS]
                with torch.no_grad():
                    rows[base] = evaluate({base: made}, faces, load_judges(device=device), edits=asked, matched=True)
            judged = [f"{factor}_{what}" for factor in ALIGNED_EDITS for what in ("error", "identity")]
            for cell in ("perceptual", *judged):
                theirs, ours = (column(rows[base], cell.replace("_", f"{STRENGTH:+g} ")) for base in BASES)
                means |= {f"{kind}_{name}_{cell}": ours - theirs, f"e4e_{kind}_{name}_{cell}": theirs}
    found = over_samples(means)
    controls = {k: found["measured"].pop(k) for k in list(found["measured"]) if k.startswith("e4e_")}
    settings = {"faces": faces_text(kinds), "steps of pti": PTI_STEPS[bench.full], "strength": STRENGTH}
    return Finding(**found, controls=controls, settings=settings)


CLAIMS = (
    Claim("LSAP-6", "LSAP, Table 1", "Alignment is inherited by a refinement of the codes.",
          "HFGI: LPIPS .0945 against .1172; identity of smile .5766 against .5409", _inherited, RULES["LSAP-6"]),
)  # fmt: skip
