"""What two branches are worth: reconstruction, inside out-of-domain details as well, and edits against the truth."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.checkpoints import load_checkpoint
from latentlab.editing.edit import Edit
from latentlab.editing.shipped import edits_for
from latentlab.encoders.shipped import encoder_for
from latentlab.evaluation.edits import AMOUNT, EditTask, Values, grade_pictures, measure_edit
from latentlab.evaluation.intervals import confidence_interval
from latentlab.evaluation.inversions import Judges, evaluate, load_judges, true_edit
from latentlab.faces import FaceSet, real_set, render
from latentlab.inversion.refiners import BUILD, refiner_for
from latentlab.inversion_methods import invert
from latentlab.networks.two_branch import TwoBranch
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator
from latentlab.weights import find, read_manifest

if TYPE_CHECKING:
    import pandas

FACTORS = ("glasses", "smile", "age", "beard")  # of the edits: the paper's, without gender
POSE = "yaw"
SHIPPED = {"e4e": "two_branch", "psp": "two_branch_psp"}  # names in the table, by the encoder of their codes
SHOWN = (3, 33, 51, 22, 13, 14, 1, 4)  # faces of the strip: three clean ones, hats, rings, paint
DRAWN = {"glasses": 2.2, "smile": 1.5, "yaw": 1.5}  # edits of the strip, in standard deviations
SEEN = 0.02  # of a change in [-1, 1] that counts as part of a detail
EDITED = ("matched", "error", "gain", "residual", "leakage", "identity")  # of every edit
COLUMNS = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "perceptual": "perceptual", "identity": "identity",
           "detail mse": "MSE inside the detail", "edit matched": "edits made", "edit error": "edit: total error",
           "edit gain": "gain", "edit leakage": "leakage", "edit identity": "identity after it",
           f"{POSE} reach": "yaw reached, as asked", "zeros": "zeros"}  # fmt: skip
ASKED = {"asked reach": "change reached", "asked identity": "identity after it", "asked leakage": "leakage",
         "asked change": "squared change of the picture"}  # fmt: skip
PAIRED = ("edit error", "edit gain", "edit leakage", "edit identity")  # of which differences on the same faces are told


@dataclass(frozen=True)
class Branched:
    """Two branches to measure: their name in tables, the encoder of their codes, and how they were made. network: None
    for the encoder alone."""

    name: str
    encoder: str
    network: TwoBranch | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def chosen_branches(G: Generator, runs: Path | None = None) -> list[Branched]:
    """What is measured: the shipped networks and the runs in a folder, after the encoders alone that they build on. A
    run with the name of a shipped network takes its place."""
    trained = [] if runs is None else trained_branches(runs, G)
    names = {b.name for b in trained}
    several = [b for b in shipped_branches(G) if b.name not in names] + trained
    return [*(Branched(name, name) for name in dict.fromkeys(b.encoder for b in several)), *several]


def shipped_branches(G: Generator) -> list[Branched]:
    """The networks that are shipped for a generator, named as in ``SHIPPED``; see ``trained_branches``."""
    mark, manifest = fingerprint(G, "generator"), read_manifest()
    files = {encoder: find(f"two_branch_{encoder}", mark) for encoder in SHIPPED}
    found = [
        _with_style(SHIPPED[encoder], encoder, refiner_for(G, "two_branch", encoder), manifest[file])
        for encoder, file in files.items() if file
    ]  # fmt: skip
    return [branches for both in found for branches in both]


def trained_branches(folder: Path, G: Generator) -> list[Branched]:
    """The runs of ``latentlab train two_branch`` in a folder, rounded to half precision as shipped networks are. Runs
    of another generator or of another encoder than the shipped one of this name raise ``ValueError``.

    A run with all losses is there twice, the second time as "NAME (style)" without its content branch. The content's
    losses do not move the directions, so this is what a training of the style branch alone with this seed would give.
    """
    found = []
    for run in sorted(path.parent for path in folder.glob("*/run.json")):
        described = json.loads((run / "run.json").read_text())
        if described.get("kind") != "two_branch":
            continue
        state = load_checkpoint(run / "checkpoint.pt")
        _check_run(run, state["config"], G)
        network = BUILD["two_branch"](state["config"]["shape"])
        network.load_state_dict({k: v.half().to(v.dtype) for k, v in state["network"].items()})
        network.encoder_fingerprint = state["config"].get("encoder_fingerprint")
        network, encoder = network.requires_grad_(False).eval(), described["encoder"]
        described["images"] = state["progress"][1]
        whole = all(state["config"]["losses"].values())
        found += _with_style(run.name, encoder, network, described)[: 2 if whole else 1]
    if not found:
        raise ValueError(f"runs: expected a folder with runs of `latentlab train two_branch`, got {folder}")
    return found


def _with_style(name: str, encoder: str, network: TwoBranch, described: dict[str, Any]) -> list[Branched]:
    """A network, and the same one without its content branch, unless it has none."""
    whole = Branched(name, encoder, network, described)
    if not network.config.resolutions:
        return [whole]
    return [whole, Branched(f"{name} (style)", encoder, network.style_branch())]


def _check_run(run: Path, config: dict[str, Any], G: Generator) -> None:
    encoder, made = config["encoder"], config.get("encoder_fingerprint")  # not in checkpoints of earlier versions
    if (own := fingerprint(G, "generator")) != config["generator"]:
        raise ValueError(f"{run}: expected a run of the generator {own}, got one of {config['generator']}; measure it "
                         "with that generator")  # fmt: skip
    if made and (shipped := fingerprint(encoder_for(G, encoder), "generator")) != made:
        raise ValueError(f"{run}: expected a run with the shipped encoder {encoder}, {shipped}, got one with {made}; "
                         "train it again")  # fmt: skip


@torch.no_grad()
def grade_branches(
    branches: Branched, G: Generator, faces: FaceSet, judges: Judges | None = None
) -> "pandas.DataFrame":
    """One row for each face: the columns of ``evaluate`` without edits, and

    - FACTOR matched, error, gain, residual, leakage, identity, for each of ``FACTORS``: ``measure_edit``; identity is
      that of the given face and the edited picture. Strengths go to the end of the network's range, for every factor:
      putting glasses on or off takes more than two standard deviations.
    - edit matched and so on: their means over the factors, of those that are matched;
    - asked reach, identity, leakage, change: of the same edits at the strength that is asked for, whatever the judge
      reads there, means over the factors: the share of the change that it reads, identity and leakage as above, and the
      mean squared change of the picture;
    - yaw reach: of an edit of yaw as it is asked for, the share that the judge reads;
    - detail mse: squared error inside the out-of-domain detail, NaN where there is none;
    - zeros: share of the style directions' numbers that are 0.

    Edits are those of the branches, or, of an encoder alone, those that are shipped for the generator.
    """
    judges = judges or load_judges(device=faces.images.device)
    inversion, network = invert(faces.images, G, branches.encoder), branches.network
    if network is None:
        known, most, zeros = edits_for(G), math.inf, math.nan
    else:
        inversion = invert(faces.images, G, "two_branch", base=inversion, network=network)
        known, most, zeros = inversion.editor.edits, network.config.most, float(network.sparsity.mean())
    table = evaluate({branches.name: inversion}, faces, judges)
    task = EditTask(inversion, judges, faces)
    found = {factor: measure_edit(task, known[factor], factor, most=most).values
             for factor in (*FACTORS, POSE) if factor in known}  # fmt: skip
    blank = torch.full((len(faces),), math.nan)
    columns = {}
    for what in EDITED:
        source, name = ("identity of target", f"identity ({judges.backbone})") if what == "identity" else (what, what)
        values = [found.get(factor, {}).get(source, blank).cpu() for factor in FACTORS]
        columns |= {f"{factor} {name}": x for factor, x in zip(FACTORS, values, strict=True)}
        columns[f"edit {name}"] = torch.stack(values).nanmean(0)
    asked = {factor: known[factor] for factor in FACTORS if factor in known}
    columns |= _grade_as_asked(task, asked, found, most)
    columns[f"{POSE} reach"] = found.get(POSE, {}).get("reach", blank).cpu()
    columns["detail mse"] = detail_error(inversion.image, faces).cpu()
    return table.assign(**{name: x.numpy() for name, x in columns.items()}, zeros=zeros)


def _grade_as_asked(task: EditTask, edits: dict[str, Edit], matched: dict[str, Values], most: float) -> Values:
    """The columns of ``ASKED``; NaN for faces without room for a change, or where it is more than the network takes."""
    rows = []
    for factor, edit in edits.items():
        strength = task.request(factor).change.to(task.before) / edit.std
        pictures = task.inversion.edit(edit, strength.clamp(-most, most))
        values, _ = grade_pictures(task, factor, pictures)
        change = (pictures - task.inversion.image).square().flatten(1).mean(1)
        graded = torch.stack([values["identity of target"], values["leakage"], change])
        possible = values["leakage"].isfinite() & (strength.abs() <= most).to(change.device)
        rows.append(torch.stack([matched[factor]["reach"].to(graded), *graded.where(possible, torch.nan)]))
    return dict(zip(ASKED, torch.stack(rows).nanmean(0).cpu(), strict=True))


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
    """The rows of ``grade_branches`` on the real set, for several, with the number of images and the seed of their
    training, which the encoders alone have not, and the generator's fingerprint."""
    import pandas

    tables, trained = [], _trainings(several)
    for branches in several:
        say(branches.name)
        table = grade_branches(branches, G, real_set(G.resolution))
        tables.append(table.assign(**trained.get(branches.name, {})))
    return pandas.concat(tables, ignore_index=True).assign(generator=fingerprint(G, "generator"))


def _trainings(several: Sequence[Branched]) -> dict[str, dict[str, int]]:
    """images_seen and seed by name; "NAME (style)" was trained with NAME."""
    made = {b.name: {"images_seen": b.provenance["images"], "seed": b.provenance["seed"]}
            for b in several if b.provenance}  # fmt: skip
    return {f"{name} (style)": told for name, told in made.items()} | made


@torch.no_grad()
def strip_rows(branches: Branched, G: Generator, faces: FaceSet | None = None) -> dict[str, Float[Tensor, "n 3 r r"]]:
    """The rows of a strip by label: faces, their inversions by the encoder and by two branches, and for each edit of
    ``DRAWN`` the style branch alone, both branches, and the truth."""
    faces = real_set(G.resolution)[list(SHOWN)] if faces is None else faces
    base = invert(faces.images, G, branches.encoder)
    inversion = invert(faces.images, G, "two_branch", base=base, network=branches.network)
    rows = {"given": faces.images, branches.encoder: base.image, "two branches": inversion.image}
    for factor, strength in DRAWN.items():
        edit = inversion.editor.edits[factor]
        rows |= {f"{factor}: style only": base.edit(edit, strength), f"{factor}: both": inversion.edit(edit, strength),
                 f"{factor}: truth": true_edit(faces, edit, strength).images}  # fmt: skip
    return rows


def describe_branches(table: "pandas.DataFrame", several: Sequence[Branched]) -> str:
    """The table as a page of Markdown."""
    parts = [
        "# Two branches, measured",
        "Written by `latentlab benchmark --only two_branch --runs FOLDER`: the shipped networks, two_branch and "
        "two_branch_psp, and the runs in the folder. Means over faces ± half of their 95 % "
        f"intervals. Edits of {', '.join(FACTORS)} by {AMOUNT:g} standard deviations, upwards and downwards in turn "
        "where a face has room for both (glasses are switched), at the strength at which the judge reads the change of "
        "the truth: total error, gain, leakage and identity are of the edits that some strength makes, whose share is "
        f"given. Yaw: the share of {AMOUNT:g} standard deviations that the judge reads when it is asked for them. "
        "Inside the detail: where a face differs from the same face rendered without its hat, ring or paint. Zeros: "
        "share of the numbers of the style directions that are exactly 0. NAME (style): the run NAME without its "
        "content branch.",
    ]
    parts.append("![Faces, their inversions, and edits beside the truth](two_branch.png)")
    parts.append("*Faces of the real set, their inversions by the encoder and by the first run that has a content "
                 "branch, and its edits: the style branch alone, both branches, and the face rendered with the factor "
                 "changed.*")  # fmt: skip
    for kind, rows in table.groupby("faces", sort=False):
        n = rows.groupby("method").size().max()
        parts.append(f"## {n} {kind} faces of the real set\n\n" + _means(rows, COLUMNS))
        parts.append("The same edits at the strength that is asked for, whatever the judge reads there. One that does "
                     "less of what it is asked for changes less besides, too.\n\n" + _means(rows, ASKED))  # fmt: skip
        if not (differences := _differences(rows)).empty:
            columns = {key: COLUMNS[key] for key in PAIRED}
            parts.append("What the content branch changes: both branches minus the style branch alone, face by face, "
                         "over the edits that both make. (Such differences may exclude 0 although the intervals of the "
                         "means above overlap.)\n\n" + _means(differences, columns))  # fmt: skip
    made = [b for b in several if b.provenance]
    parts.append("## How they were made\n\n" + "\n".join(
        f"- **{b.name}**: {b.provenance['images']:,} images, seed {b.provenance['seed']}, {b.provenance['hardware']}, "
        f"`{b.provenance['command']}`" for b in made))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _differences(rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """``PAIRED`` of both branches minus those of the style branch alone on the same picture, for every run that has
    rows of both: means over the factors of the edits that both make."""
    import pandas

    values = rows.set_index(["method", "image"])
    styles = values[values.index.get_level_values("method").str.endswith(" (style)")]
    if styles.empty:
        return pandas.DataFrame()
    styles = styles.rename(index=lambda name: name.removesuffix(" (style)"), level="method")
    differences = values.reindex(styles.index).select_dtypes("number") - styles.select_dtypes("number")
    found = {}
    for key in PAIRED:
        of_factors = [_column(rows, key.replace("edit", factor)) for factor in FACTORS]
        found[key] = differences[of_factors].mean(axis=1)
    return pandas.DataFrame(found).reset_index()


def _means(rows: "pandas.DataFrame", columns: dict[str, str]) -> str:
    lines = [["run", *columns.values()], ["---"] * (1 + len(columns))]
    for name, part in rows.groupby("method", sort=False):
        lines.append([name, *(_with_interval(part[_column(part, key)]) for key in columns)])
    return _lines(lines)


def _column(rows: "pandas.DataFrame", key: str) -> str:
    """The column of that name, which may end with the judges' backbone in brackets."""
    return next(c for c in rows.columns if c == key or c.startswith(f"{key} ("))


def _with_interval(values: "pandas.Series") -> str:
    values = values.dropna()
    if values.empty:
        return "-"
    low, high = confidence_interval(values.to_numpy(float))
    return f"{values.mean():.3g}" + (f" ± {(high - low) / 2:.2g}" if high > low else "")


def _lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
