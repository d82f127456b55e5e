"""Evaluation of inversions and their edits: one row for each method and image, and means with intervals.

Every grade comes from ``judges``, never from the networks in ``losses`` that the methods optimise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit
from latentlab.editing.shipped import edits_for
from latentlab.evaluation.intervals import confidence_interval, nanmean
from latentlab.faces import TABLE, FaceSet, factor_std
from latentlab.inversion.result import Inversion
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.metrics import edit_error, edit_gain, matched_strength, mse, pn_norm, psnr, ssim
from latentlab.networks.attributes import read_factors
from latentlab.spaces import statistics_for

if TYPE_CHECKING:
    import pandas

Images = Float[Tensor, "n 3 r r"]
Asked = tuple[str, float]  # a factor, and the strength of its edit
Invert = Callable[[str, Tensor], Inversion]

SEEN = 0.02  # images in [-1, 1]: a pixel counts as changed by the true edit if it changes by more than this


@dataclass(frozen=True)
class Judges:
    """The networks that grade; ``backbone`` appears in the name of every column that they fill.

    perceptual, identity: two batches of images -> distances (N,). attributes: images -> standardised factors.
    """

    perceptual: nn.Module
    identity: nn.Module
    attributes: nn.Module
    backbone: str = "face world, 64 px"


def load_judges(*, device: torch.device | str = "cpu") -> Judges:
    """Loads the three shipped judges."""
    loaders = (load_perceptual_judge, load_identity_judge, load_attribute_judge)
    return Judges(*(load(device=device) for load in loaders))


@torch.no_grad()
def evaluate(
    inversions: Mapping[str, Inversion] | Sequence[Inversion],
    targets: FaceSet | Images,
    judges: Judges | None = None,
    *,
    edits: Sequence[Asked] = (),
    invert: Invert | None = None,
    matched: bool = False,
    known: Mapping[str, Edit] | None = None,
) -> "pandas.DataFrame":
    """Grades inversions and their edits: a table with one row for each method and image.

    Columns: method, image, faces ("clean", "strange" or "unknown"), and those of ``grade_inversion``.

    judges: the shipped ones unless given. invert: a function from a method's name and images to an inversion of them;
    without it the columns of the oracle are left out. known: the edit of each factor, by default those shipped with the
    generator. edits: e.g. ("smile", 2.0), which fills columns "smile+2 ...", measured against the rendered truth of
    that edit:

    - gain: the share of the true edit that happened (``metrics.edit_gain``); oracle: the same for ``invert(method,
      edited truths).image``, which shows how much of such a change this method's pictures can hold. It is not an
      upper bound, because an edit may exaggerate.
    - residual: the rest of the change, relative to the true edit; outside: its part where the truth does not change.
    - error: the total error (``metrics.edit_error``), 0 for the true edit and 1 for no edit; oracle error: the same
      for the oracle.
    - identity: similarity of the edited image and the target.
    - before, after, truth: what the judge reads in the inversion, the edit and the edited truth, in the factor's
      unit.
    - leakage, leakage max: by how many standard deviations of the face world the judge sees the other factors change,
      mean and largest over these factors. leakage floor: the mean that the judge reads in the edited truth, where they
      do not change; without an edit the leakage is 0.
    - strength: of the edit, in standard deviations. With ``matched`` it is not the given one but the smallest, up
      to twice the given one, at which the judge reads the same in the edit as in the edited truth.

    An edit's values are NaN where no strength matches and where a face cannot change further; ``summarize``
    counts them.
    """
    import pandas

    named = _by_name(inversions)
    images = targets.images if isinstance(targets, FaceSet) else targets
    for name, inversion in named.items():
        _check(name, inversion, images)
    if edits and not isinstance(targets, FaceSet):
        raise ValueError(f"edits: expected targets with known factors (a FaceSet), got {type(targets).__name__}; "
                         "they are measured against the rendered truth")  # fmt: skip
    judges = judges or load_judges(device=images.device)
    kinds = ["clean" if d == "none" else "strange" for d in targets.details] if isinstance(targets, FaceSet) else None
    tables = []
    for name, inversion in named.items():
        columns = grade_inversion(inversion, images, judges)
        if edits:
            columns |= _edited(name, inversion, targets, judges, edits, invert, matched, known)
        keys = {"method": name, "image": range(len(images)), "faces": kinds or "unknown"}
        tables.append(pandas.DataFrame(keys | {key: value.tolist() for key, value in columns.items()}))
    return pandas.concat(tables, ignore_index=True)


def _by_name(inversions: Mapping[str, Inversion] | Sequence[Inversion]) -> dict[str, Inversion]:
    if isinstance(inversions, Inversion):
        raise ValueError("inversions: expected a list of inversions or a mapping from names, got one inversion; put it "
                         "in a list")  # fmt: skip
    named = dict(inversions) if isinstance(inversions, Mapping) else {i.method: i for i in inversions}
    if not named or len(named) < len(inversions):
        raise ValueError("inversions: expected one or more with different methods, "
                         f"got {[i.method for i in inversions]}; or pass a mapping from names")  # fmt: skip
    return named


def _check(name: str, inversion: Inversion, images: Tensor) -> None:
    if inversion.image.shape != images.shape:
        raise ValueError(f"{name}: expected an inversion of these {tuple(images.shape)} targets, "
                         f"got one of {tuple(inversion.image.shape)}")  # fmt: skip
    for what, values in {"targets": images, f"images of {name}": inversion.image}.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{what}: expected finite values, got NaN or infinity")


@torch.no_grad()
def grade_inversion(
    inversion: Inversion, images: Images, judges: Judges | None = None
) -> dict[str, Float[Tensor, " n"]]:
    """What an inversion is worth, image by image: the one function behind every table that reports it.

    mse, psnr_db and ssim of the pixels, in [-1, 1], clipped as a file would; the judges' perceptual distance (0 is
    equal) and identity similarity (1 is the same person), under names that hold the judges' backbone; pn_norm,
    the mean over layers and dimensions of the squared PN+ norm (1 is typical of W). (N,) each.
    """
    judges = judges or load_judges(device=images.device)
    found = inversion.image.clamp(-1, 1)
    return {
        "mse": mse(found, images),
        "psnr_db": psnr(found, images),
        "ssim": ssim(found, images),
        f"perceptual ({judges.backbone})": judges.perceptual(found, images),
        f"identity ({judges.backbone})": 1 - judges.identity(found, images),
        "pn_norm": pn_norm(inversion.latent, statistics_for(inversion.generator)),
    }


def true_edit(faces: FaceSet, edit: Edit, strength: float) -> FaceSet:
    """The same faces rendered with the factor really changed by as much as the edit asks for."""
    if next(f.kind == "binary" for f in TABLE if f.name == edit.name):
        return faces.with_factors(**{edit.name: float(strength > 0)})
    return faces.truth(**{edit.name: strength * edit.std})


def _edited(
    name: str, inversion: Inversion, faces: FaceSet, judges: Judges, edits: Sequence[Asked],
    invert: Invert | None, matched: bool, known: Mapping[str, Edit] | None,
) -> dict[str, Float[Tensor, " n"]]:  # fmt: skip
    known = edits_for(inversion.generator) if known is None else known
    if unknown := [factor for factor, strength in edits if factor not in known or strength == 0]:
        raise ValueError(f"edits are factors with a strength other than 0, not {unknown}; known: {', '.join(known)}")
    truths = [true_edit(faces, known[factor], strength).images for factor, strength in edits]
    oracles: Sequence[Tensor | None] = [None] * len(edits)
    if invert is not None:
        with torch.enable_grad():
            found = invert(name, torch.cat(truths)).image
        if found.shape != torch.cat(truths).shape:
            raise ValueError(f"invert gave {tuple(found.shape)} for {len(edits)} x {len(faces)} edited truths")
        oracles = found.split(len(faces))
    columns = {}
    for (factor, strength), truth, oracle in zip(edits, truths, oracles, strict=True):
        one = _one_edit(inversion, known[factor], strength, faces.images, truth, oracle, judges, matched)
        columns |= {f"{factor}{strength:+g} {key}": value for key, value in one.items()}
    return columns


def _one_edit(
    inversion: Inversion, edit: Edit, strength: float, images: Images, truth: Images, oracle: Images | None,
    judges: Judges, matched: bool,
) -> dict[str, Float[Tensor, " n"]]:  # fmt: skip
    k = judges.attributes.names.index(edit.name)

    def move(strengths: Tensor) -> Tensor:
        return inversion.edit(edit, strengths)

    def read(x: Tensor) -> Tensor:
        return read_factors(judges.attributes, x.clamp(-1, 1))

    given, before, aim = read(images), read(inversion.image), read(truth)
    strengths = torch.full_like(aim[:, k], strength)
    if matched:
        strengths = matched_strength(move, lambda x: read(x)[:, k], aim[:, k], limit=2 * strength)
    edited = move(strengths.nan_to_num())
    after = read(edited)
    others = torch.arange(after.shape[1], device=after.device) != k
    moved, floor = (((b - a).abs() / factor_std().to(a))[:, others] for a, b in ((before, after), (given, aim)))
    best = {} if oracle is None else against_truth(inversion.image, oracle, images, truth)
    columns = {
        **against_truth(inversion.image, edited, images, truth),
        **{name: best[what] for name, what in (("oracle", "gain"), ("oracle error", "error")) if best},
        f"identity ({judges.backbone})": 1 - judges.identity(edited.clamp(-1, 1), images),
        "before": before[:, k],
        "after": after[:, k],
        "truth": aim[:, k],
        "leakage": moved.mean(1),
        "leakage max": moved.amax(1),
        "leakage floor": floor.mean(1),
        "strength": strengths,
    }
    usable = strengths.isfinite() & columns["gain"].isfinite()
    return {key: value.where(usable, torch.nan) for key, value in columns.items()}


def against_truth(
    inversion: Images, edited: Images, images: Images, truth: Images
) -> dict[str, Float[Tensor, " n"]]:
    """Gain, residual, its part outside, and total error of edited inversions against the edited truth, (N,) each: NaN
    where the truth changes nothing."""
    change = (truth - images).abs().amax(1, keepdim=True)
    rows = change.flatten(1).amax(1) > 0
    outside = (change[rows] <= SEEN).to(images)
    before, after, x, y = (v[rows] for v in (inversion, edited, images, truth))
    gain, residual = edit_gain(before, after, x, y)
    found = {
        "gain": gain,
        "residual": residual,
        "outside": edit_gain(before, after, x, y, outside)[1],
        "error": edit_error(before, after, x, y),
    }
    blank = images.new_full((len(images),), torch.nan)
    return {key: blank.masked_scatter(rows, value) for key, value in found.items()}


def summarize(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Mean of every column of ``evaluate`` for each method: one row for each method and measure.

    low, high: 95 % interval over images (Student's t). It says how the mean varies with the images, not with the seed.
    n: images with a value. missing: share of NaN.
    """
    import pandas

    measures = [key for key in table.columns if key not in ("method", "image", "faces")]
    rows = []
    for method, group in table.groupby("method", sort=False):
        for measure in measures:
            values = group[measure].to_numpy(float)
            missing = float(np.isnan(values).mean())
            found = (float(nanmean(values)), *confidence_interval(values))
            rows.append((method, measure, *found, len(values) - int(np.isnan(values).sum()), missing))
    return pandas.DataFrame(rows, columns=["method", "measure", "mean", "low", "high", "n", "missing"])
