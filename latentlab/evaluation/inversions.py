"""What inversions and their edits are worth: a row an image and method, and means with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit
from latentlab.editing.shipped import directions_for
from latentlab.faces import TABLE, FaceSet
from latentlab.inversion.result import Inversion
from latentlab.judges.attributes import load_attribute_judge
from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.metrics import edit_gain, matched_strength, mse, pn_norm, psnr, ssim
from latentlab.networks.attributes import read_factors
from latentlab.seeds import stream
from latentlab.spaces import statistics_for

if TYPE_CHECKING:
    import pandas

Images = Float[Tensor, "n 3 r r"]
Asked = tuple[str, float]  # a factor, and the strength of its edit
Invert = Callable[[str, Tensor], Inversion]

RESAMPLES = 2000  # of the bootstrap
SEEN = 0.02  # a pixel should change where the truth does by more than this, in [-1, 1]


@dataclass(frozen=True)
class Judges:
    """The networks that grade, and what they are: ``backbone`` stands in the name of every column they fill.

    perceptual, identity: two batches of images to distances (N,). attributes: images to standardised factors.
    """

    perceptual: nn.Module
    identity: nn.Module
    attributes: nn.Module
    backbone: str = "face world, 64 px"


def load_judges(*, device: torch.device | str = "cpu") -> Judges:
    """The three shipped judges."""
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
) -> "pandas.DataFrame":
    """How near each inversion comes to its target and what its edits are worth, a row an image and method.

    Columns: method, image, faces ("clean", "strange" or "unknown"); mse, psnr_db, ssim; the judges' perceptual
    distance and identity (similarity, 1 is the same person); pn_norm (1 is typical).

    For each of ``edits``, ("smile", 2.0) filling columns "smile+2 ...", against the rendered truth: gain,
    residual and its part outside of where the truth changes; oracle, the gain of ``invert(method, edited
    truths).image``, which tells what the method's pictures show of such a change (no upper bound: an edit may
    overdo it); identity of the edit with the target; what the judge reads before, after and in the edited
    truth, in the factor's unit; leakage, by how many standard deviations it reads other factors change beyond
    what it reads in the truth, on average; strength. ``matched``: not the given strength, but the least up to
    twice of it at which the judge reads what it reads in the edited truth. NaN where there is none, or
    where a face cannot change further: ``summarize`` counts them.
    """
    import pandas

    named = _by_name(inversions)
    images = targets.images if isinstance(targets, FaceSet) else targets
    for name, inversion in named.items():
        _check(name, inversion, images)
    if edits and not (isinstance(targets, FaceSet) and invert):
        raise ValueError("edits are measured against a truth and an oracle: targets must be a FaceSet, invert given")
    judges = judges or load_judges(device=images.device)
    kinds = ["clean" if d == "none" else "strange" for d in targets.details] if isinstance(targets, FaceSet) else None
    tables = []
    for name, inversion in named.items():
        columns = _likeness(inversion, images, judges)
        if edits:
            columns |= _edited(name, inversion, targets, judges, edits, invert, matched)
        keys = {"method": name, "image": range(len(images)), "faces": kinds or "unknown"}
        tables.append(pandas.DataFrame(keys | {key: value.tolist() for key, value in columns.items()}))
    return pandas.concat(tables, ignore_index=True)


def _by_name(inversions: Mapping[str, Inversion] | Sequence[Inversion]) -> dict[str, Inversion]:
    named = dict(inversions) if isinstance(inversions, Mapping) else {i.method: i for i in inversions}
    if not named or len(named) < len(inversions):
        raise ValueError("inversions of different methods are wanted, or a mapping that gives each its own name; "
                         f"got {[i.method for i in inversions]}")  # fmt: skip
    return named


def _check(name: str, inversion: Inversion, images: Tensor) -> None:
    if inversion.image.shape != images.shape:
        raise ValueError(f"{name} inverts images of {tuple(inversion.image.shape)}, not these: {tuple(images.shape)}")
    for what, values in {"targets": images, f"{name}'s images": inversion.image}.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{what} hold NaN or infinite values; finite ones are wanted")


def _likeness(inversion: Inversion, images: Images, judges: Judges) -> dict[str, Float[Tensor, " n"]]:
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
    name: str, inversion: Inversion, faces: FaceSet, judges: Judges, edits: Sequence[Asked], invert: Invert,
    matched: bool,
) -> dict[str, Float[Tensor, " n"]]:  # fmt: skip
    known = directions_for(inversion.generator)
    if unknown := [factor for factor, strength in edits if factor not in known or strength == 0]:
        raise ValueError(f"edits are factors with a strength other than 0, not {unknown}; known: {', '.join(known)}")
    truths = [true_edit(faces, known[factor], strength).images for factor, strength in edits]
    with torch.enable_grad():
        oracles = invert(name, torch.cat(truths)).image
    if oracles.shape != torch.cat(truths).shape:
        raise ValueError(f"invert gave {tuple(oracles.shape)} for {len(edits)} x {len(faces)} edited truths")
    columns = {}
    for (factor, strength), truth, oracle in zip(edits, truths, oracles.split(len(faces)), strict=True):
        one = _one_edit(inversion, known[factor], strength, faces.images, truth, oracle, judges, matched)
        columns |= {f"{factor}{strength:+g} {key}": value for key, value in one.items()}
    return columns


def _one_edit(
    inversion: Inversion, edit: Edit, strength: float, images: Images, truth: Images, oracle: Images,
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
    beyond = ((after - before) - (aim - given)).abs() / judges.attributes.std
    columns = {
        **_against_truth(inversion.image, edited, images, truth, oracle),
        f"identity ({judges.backbone})": 1 - judges.identity(edited.clamp(-1, 1), images),
        "before": before[:, k],
        "after": after[:, k],
        "truth": aim[:, k],
        "leakage": (beyond.sum(1) - beyond[:, k]) / (beyond.shape[1] - 1),
        "strength": strengths,
    }
    usable = strengths.isfinite() & columns["gain"].isfinite()
    return {key: value.where(usable, torch.nan) for key, value in columns.items()}


def _against_truth(
    inversion: Images, edited: Images, images: Images, truth: Images, oracle: Images
) -> dict[str, Float[Tensor, " n"]]:
    """Gain, residual, its part outside, and the oracle's gain: NaN where the truth changes nothing."""
    change = (truth - images).abs().amax(1, keepdim=True)
    rows = change.flatten(1).amax(1) > 0
    outside = (change[rows] <= SEEN).to(images)
    before, after, best, x, y = (v[rows] for v in (inversion, edited, oracle, images, truth))
    gain, residual = edit_gain(before, after, x, y)
    found = {
        "gain": gain,
        "residual": residual,
        "outside": edit_gain(before, after, x, y, outside)[1],
        "oracle": edit_gain(before, best, x, y)[0],
    }
    blank = images.new_full((len(images),), torch.nan)
    return {key: blank.masked_scatter(rows, value) for key, value in found.items()}


def summarize(table: "pandas.DataFrame", *, seed: int = 0) -> "pandas.DataFrame":
    """Mean of every measure for each method over the images, a row a method and measure.

    low, high: 95 % interval by percentile bootstrap over images, of which each method draws the same. It
    speaks of other images like these, not of other seeds. n: images with a value. missing: share of NaN.
    """
    import pandas

    measures = [key for key in table.columns if key not in ("method", "image", "faces")]
    rows = []
    for method, group in table.groupby("method", sort=False):
        n = len(group)
        drawn = torch.randint(n, (RESAMPLES, n), generator=stream(seed, "bootstrap"))
        for measure in measures:
            values = torch.from_numpy(group[measure].to_numpy(float, copy=True))
            means = values[drawn].nanmean(1)
            low, high = means.nanquantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
            missing = float(values.isnan().double().mean())
            rows.append((method, measure, float(values.nanmean()), low, high, round(n * (1 - missing)), missing))
    return pandas.DataFrame(rows, columns=["method", "measure", "mean", "low", "high", "n", "missing"])
