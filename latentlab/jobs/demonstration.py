"""The demo: samples, inversions of rendered faces, and edits beside the truth."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latentlab import plots
from latentlab.evaluation import true_edit
from latentlab.faces import FaceSet, real_set
from latentlab.images import tile
from latentlab.inversion_methods import invert
from latentlab.jobs.asked_edits import Asked, pick_edits
from latentlab.jobs.samples import draw_samples
from latentlab.metrics import edit_error, edit_gain, psnr
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

# Edits of the demo: factor, strength in standard deviations. The last one fails, and its residual is shown.
DEMO_EDITS: tuple[Asked, ...] = (("yaw", 1.5), ("hair_length", 1.5), ("light_azimuth", 1.5), ("age", 2.0))


def demo(out: str | Path, *, steps: int = 500, faces: int = 3) -> "pandas.DataFrame":
    """Draws samples, inverts faces of the real set, and edits them for comparison with the rendered truth.

    The faces are clean ones, and one with a hat. Writes ``samples.png`` (36 uncurated samples), ``faces.png`` (rendered
    faces), ``demo.png`` (inversions, edits, and the residual of the last edit) and ``demo.csv``: PSNR, seconds, and for
    each edit its gain (1: the whole true edit happened), its residual (other changes) and its total error (1: no edit).
    Returns that table.
    """
    import pandas

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    G = load("faces-64")
    tile(draw_samples(G, 36), columns=6, scale=2).save(out / "samples.png")
    tile(real_set(resolution=128)[:24].images, columns=8).save(out / "faces.png")
    chosen = demo_faces(faces)
    inversion = invert(chosen.images, G, "ii2s", steps=steps)
    if inversion.interrupted:
        raise KeyboardInterrupt
    table = pandas.DataFrame({"face": chosen.details, "psnr_db": psnr(inversion.image, chosen.images).tolist()})
    pictures = {"given": chosen.images, "inversion": inversion.image}
    for (name, strength), edit in zip(DEMO_EDITS, pick_edits(G, DEMO_EDITS), strict=True):
        truth = true_edit(chosen, edit, strength).images
        edited = inversion.edit(edit, strength)
        gain, residual = edit_gain(inversion.image, edited, chosen.images, truth)
        error = edit_error(inversion.image, edited, chosen.images, truth)
        table[f"{name} gain"], table[f"{name} residual"] = gain.tolist(), residual.tolist()
        table[f"{name} total error"] = error.tolist()
        pictures |= {f"{name.replace('_', ' ')} {strength:+g}": edited, f"truth{' ' * len(pictures)}": truth}
    left = (edited - inversion.image) - gain[:, None, None, None] * (truth - chosen.images)
    pictures["residual x 2"] = 2 * left.abs() - 1  # black: nothing but the edit has changed
    table["seconds"] = inversion.seconds / faces
    labels = ["hat" if detail == "hat" else f"face {i}" for i, detail in enumerate(chosen.details)]
    rows = {label: torch.stack([p[i] for p in pictures.values()]) for i, label in enumerate(labels)}
    figure = plots.compare(rows, titles=[title.strip() for title in pictures], size=1.1)
    figure.savefig(out / "demo.png", dpi=150)
    plots.close(figure)
    table.to_csv(out / "demo.csv", index=False)
    return table


def demo_faces(n: int) -> FaceSet:
    """``n`` faces of the real set whose factors leave room for ``DEMO_EDITS``: clean ones, and last one with a hat."""
    real = real_set()
    factors, hat = real.factors, torch.tensor([detail == "hat" for detail in real.details])
    clean = torch.tensor([detail == "none" for detail in real.details])
    free = (factors["glasses"] == 0) & (factors["age"] < 0.45) & (factors["yaw"].abs() < 13)
    free &= (factors["hair_length"] < 0.58) & (factors["light_azimuth"] < 20) & (factors["light_azimuth"] > -30)
    return real[torch.cat([torch.nonzero(free & clean)[: n - 1, 0], torch.nonzero(free & hat)[:1, 0]])]
