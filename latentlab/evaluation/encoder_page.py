"""The page of the table of encoders: means with intervals, how each was made, and what its strip of pictures shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latentlab.editing.shipped import edits_for
from latentlab.evaluation.encoders import BATCH, CODES, FACTORS, STRENGTH, TIMED, Encoded, summarize_encoders
from latentlab.evaluation.inversions import true_edit
from latentlab.faces import FaceSet, real_set
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.stylegan import Generator

if TYPE_CHECKING:
    import pandas

SHOWN = (0, 3, 6, 1, 2, 4)  # faces of the real set on the strip: three clean ones, and three with details
EDIT, AMOUNT = "age", 1.5  # of the strip, in standard deviations
TIMING = f"median of {TIMED} passes over all faces in batches of {BATCH}, after a warm-up"
COLUMNS = {
    "psnr_db": "PSNR, dB", "perceptual": "perceptual", "identity": "identity", "sncd": "SNCD",
    "variation": "variation", "visible_variation": "of it visible", "deviation": "deviation", "lec": "LEC",
    "edit error": "edit: total error", "edit gain": "gain", "leakage": "leakage", "s/image": "s/image",
}  # fmt: skip


def describe(
    table: "pandas.DataFrame", encoders: Sequence[Encoded], *, curves: bool = False, page: str = "encoders"
) -> str:
    """The table of ``measure_encoders`` as a page of Markdown. curves: show its ``encoders_curves.png``, too. page: one
    of ``TITLES``."""
    summary = summarize_encoders(table)
    parts = [f"# {TITLES[page]}", _introduction(list(table["method"].unique()), page)]
    for kind, rows in summary.groupby("faces", sort=False):
        head = ["encoder", *COLUMNS.values()]
        lines = [[row["encoder"], *(row[name] for name in COLUMNS)] for row in rows.to_dict("records")]
        n = int((table["faces"] == kind).sum() / table["method"].nunique())
        parts.append(f"## {n} {kind} faces of the real set\n\n{_table(head, lines)}")
    parts.append(f"## Skin tone\n\n{_skin_tones_explained()}\n\n{_table(*compare_skin_tones(table))}")
    parts.append("## How they were made\n\n" + "\n".join(_origin(encoder) for encoder in encoders))
    if curves:
        parts.append(
            f"![Losses and variation of the codes during the trainings]({page}_curves.png)\n\n*Losses on batches of "
            "the training, means over 1000 images (that of identity is 1 minus the similarity), and variation of the "
            "codes of these batches."
            + " Those of encoders into F space are sums over their two or three pictures." * (page == "clcae") + "*"
        )
    return "\n\n".join(parts) + "\n"


TITLES = {"encoders": "Encoders, measured", "clcae": "CLCAE, measured"}  # of the pages, by the names of their files
# What runs are, by their names.
RUNS = (
    (("A", "B", "C", "D"), "A to D are the configurations of e4e's ablation: A is pSp, without regulariser; B predicts "
     "one code of W and small offsets of the layers from it (delta regularisation), C has a latent discriminator, "
     "which holds codes near W, and D, which is e4e, has both."),
    (("LSAP",), "LSAP is LSAP_E, which is B with SNCD as a loss, of weight 0.5."),
    (("L0", "L0.25", "L0.5", "L1"), "L0, L0.25, L0.5 and L1 are LSAP_E with that weight of SNCD: B, trained further, "
     "all in the same way but for the weight."),
    (("full W",), "full is CLCAE: pictures from the code of W, from the codes of W+, and from those with the map of F. "
     "no_alignment was trained without the alignment loss; no_w_plus_block has the residuals as codes of W+, "
     "no_f_block makes the map without attention to w. psp and e4e saw as many images."),
    (("clcae W",), "clcae and clcae_multi_token, whose queries have several keys, are the shipped networks of CLCAE."),
    (("style_transformer",), "style_transformer: cross-attention from learned queries to the pyramid, into W+."),
    (("feature_style F",), "feature_style: codes of W+ and a feature map without any attention."),
)  # fmt: skip


def _introduction(names: Sequence[str], page: str = "encoders") -> str:
    edits = ", ".join(FACTORS)
    told = [text for runs, text in RUNS if set(runs) & set(names)]
    told += ["A 2 at the end of a name: another training seed."] if any(f"{name}2" in names for name in names) else []
    return (
        f"Written by `latentlab benchmark --only {page} --runs FOLDER`. {' '.join(told)}".strip() + "\n\n"
        "Means over faces ± half of their 95 % intervals (Student's t); they say how a mean varies with the faces, not "
        "with the seed of the training. Perceptual distance (0 is equal) and identity (1 is the same person) are those "
        "of the judges, face world, 64 px. SNCD: distance of the styles' directions from those of the generator's "
        "samples (LSAP, Eq. 6), mean over layers. Variation: distance of a code from its mean over layers; of it "
        "visible: the part that the affine maps of the layers can see. Deviation: mean of |E(G(w)) - w| over "
        f"{CODES:,} codes of W. LEC: latent editing consistency (e4e, Eq. 8; small is good), which is also small "
        "for an encoder whose codes hardly follow what changes in the picture. "
        f"s/image: {TIMING}.\n\n"
        f"LEC and edits are means over {edits}. Edits are made by the shipped edits at the strength at which the judge "
        f"reads the same value as in the true edit of {STRENGTH:g} standard deviation, where there is one, and "
        "compared with the rendered truth: gain (1 is all of the true change), total error (distance from the true "
        "change: the truth has 0, no edit 1), "
        "leakage in standard deviations of the other factors. A total error above 1 means that in pixels such edits "
        "are no better than none, even where the gain shows that the change is there: what they change besides "
        "outweighs it.\n\n"
        f"![Faces, their inversions, and an edit of each beside the truth]({page}.png)\n\n"
        "*Rows: given faces, three clean ones and three with details that no picture of the generator has; their "
        f"inversions by the shipped encoders and by the search `ii2s`; the faces rendered {AMOUNT:g} standard "
        "deviations older; the inversions, edited to be older.*"
    )


def is_on_strip(name: str, page: str) -> bool:
    """Whether a shipped encoder has rows in the strip of a page: on that of CLCAE its three spaces, and e4e beside."""
    return name.startswith("clcae ") or name == "e4e" if page == "clcae" else not name.startswith("clcae")


def _skin_tones_explained() -> str:
    clean = real_set().clean
    x, tone = clean.images, clean.factors["skin_tone"]
    edges = (x[:, :, 1:] - x[:, :, :-1]).square().mean((1, 2, 3))
    glasses = (clean.with_factors(glasses=1.0).images - clean.with_factors(glasses=0.0).images).flatten(1).norm(dim=1)
    of_edges, of_glasses = (float(torch.stack([tone, values]).corrcoef()[0, 1]) for values in (edges, glasses))
    return (
        "Each cell: the mean over the third of the faces with the lightest skin, that over the third with the darkest, "
        "and the correlation with the skin tone (a factor of the renderer, 0 light to 1 dark) over all faces, with its "
        "95 % interval, not corrected for the number of cells. PSNR is higher where neighbouring pixels differ less, "
        "as on dark skin (correlation of their mean squared difference with the skin tone, clean faces: "
        f"{of_edges:.2f}). The total error is relative to the size of the true change, and dark frames on dark skin "
        f"are a small one (correlation of its size with the skin tone: {of_glasses:.2f})."
    )


def compare_skin_tones(table: "pandas.DataFrame") -> tuple[list[str], list[list[str]]]:
    """How distortion and edits depend on the skin tone of the faces: head and rows of a table.

    A cell has the means over the third of the faces with the lightest skin and over the third with the darkest, and
    Pearson's correlation with the skin tone over all faces, with its 95 % interval (Fisher's).
    """
    from scipy.stats import pearsonr

    measures = {"psnr_db": "PSNR, dB", "perceptual (": "perceptual", "identity (": "identity"}
    measures |= {f"{factor}{STRENGTH:+g} error": f"{factor}: total error" for factor in FACTORS}
    tones, rows = real_set().factors["skin_tone"].numpy(), []
    for method, group in table.groupby("method", sort=False):
        tone, cells = tones[group["image"]], [str(method)]
        for start in measures:
            (values,) = (group[c].to_numpy(float) for c in group.columns if c == start or c.startswith(start))
            x, y = tone[~np.isnan(values)], values[~np.isnan(values)]
            if len(x) < 4:  # no interval
                cells.append("")
                continue
            light, dark = np.quantile(x, (1 / 3, 2 / 3))
            r = pearsonr(x, y)
            low, high = r.confidence_interval()
            means = f"{y[x <= light].mean():.3g}, {y[x >= dark].mean():.3g}"
            cells.append(f"{means}; {r.statistic:+.2f} [{low:.2f}, {high:.2f}]")
        rows.append(cells)
    return ["encoder", *measures.values()], rows


def _origin(encoder: Encoded) -> str:
    made = encoder.provenance
    told = [f"{made['images']:,} images", f"seed {made['seed']}", made["hardware"], f"`{made['command']}`"]
    return f"- **{encoder.name}**: {', '.join(told)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


@torch.no_grad()
def strip_rows(
    encoders: Sequence[Encoded], G: Generator, *, steps: int = 300, faces: FaceSet | None = None
) -> dict[str, Tensor]:
    """The rows of the strip by label: faces, their inversions by each encoder and by II2S, an edit beside the truth."""
    faces = real_set(G.resolution)[list(SHOWN)] if faces is None else faces
    made: dict[str, Inversion] = {}
    for encoder in encoders:
        made[encoder.name] = encoder.invert(faces.images, G)
    with torch.enable_grad():
        made[f"ii2s, {steps} steps"] = invert(faces.images, G, "ii2s", steps=steps)
    edit = edits_for(G)[EDIT]
    rows: dict[str, Tensor] = {"given": faces.images} | {name: x.image for name, x in made.items()}
    rows["older: truth"] = true_edit(faces, edit, AMOUNT).images
    return rows | {f"older: {name.split(',')[0]}": x.edit(edit, AMOUNT) for name, x in made.items()}
