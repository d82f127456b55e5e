"""What the codes of encoders are worth: distortion, nearness to W, consistency, and their edits against the truth."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.checkpoints import load_checkpoint
from latentlab.editing.edit import State
from latentlab.editing.shipped import directions_for
from latentlab.encoders.clcae import ClcaeEncoder
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.feature_space import FeatureEncoder
from latentlab.encoders.kinds import ENCODERS, FEATURE_ENCODERS, build_encoder, config_from
from latentlab.encoders.shipped import PAIR, encoder_for, pair_for
from latentlab.evaluation.inversions import Judges, evaluate, load_judges
from latentlab.faces import FaceSet, real_set
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS
from latentlab.metrics import code_distance, code_variation, lec, retrieved, sncd_of_codes
from latentlab.seeds import stream
from latentlab.spaces import anchors_for, fingerprint, visible_part
from latentlab.stylegan import Generator
from latentlab.weights import find, read_manifest

if TYPE_CHECKING:
    import pandas

FACTORS = ("smile", "age", "yaw", "glasses")  # of the edits and of LEC
STRENGTH = 1.0  # standard deviations of the edits
CODES = 1_000  # of W, for the deviation
BATCH = 40
TIMED = 5  # passes over the faces, of which the median time is reported

Images = Float[Tensor, "n 3 r r"]
Codes = Float[Tensor, "n layers dim"]
Encode = Callable[[Images], Codes]


@dataclass(frozen=True)
class Encoded:
    """An encoder to measure: its name in tables, images to codes, and how it was made.

    network: fingerprints of its weights, of the generator's and, if there is one, of the pair's, by which rows of a
    table are known to be of it. find: images to an inversion with those codes, where there is more to it than codes (F
    space). pair: contrastive pair that tells how well codes of W fit their images.
    """

    name: str
    encode: Encode
    provenance: dict[str, Any] = field(default_factory=dict)
    find: Callable[[Images], Inversion] | None = None
    pair: ContrastivePair | None = None
    network: str = ""

    def invert(self, images: Images, G: Generator) -> Inversion:
        """The inversion of images."""
        if self.find is not None:
            return self.find(images)
        codes = _in_parts(self.encode, images)
        return Inversion(State(codes), _in_parts(G.synthesis, codes), G, self.name)


@torch.no_grad()
def grade_encoder(
    encoder: Encoded, G: Generator, faces: FaceSet, judges: Judges | None = None, factors: Sequence[str] = FACTORS
) -> "pandas.DataFrame":
    """One row for each face: all columns of ``evaluate`` with the edits of ``factors`` at matched strength, and

    - variation, visible_variation: ``metrics.code_variation``, raw and of what the layers' affine maps can see;
    - sncd: ``metrics.sncd_of_codes``, mean over layers;
    - lec NAME: ``metrics.lec`` along the straight line of W for a factor, by one standard deviation;
    - lec NAME constant: what an encoder would get that returns the same code always;
    - retrieved, where there is a contrastive pair: 1 where an image finds its own code among those of its kind.
    """
    inversion = encoder.invert(faces.images, G)
    codes = inversion.latent
    asked = [(factor, STRENGTH) for factor in factors]
    table = evaluate({encoder.name: inversion}, faces, judges, edits=asked, matched=True)
    seen = visible_part(codes - codes.mean(1, keepdim=True), G)
    columns = {"variation": code_variation(codes), "visible_variation": seen.flatten(1).norm(dim=1),
               "sncd": sncd_of_codes(codes, G, anchors_for(G))}  # fmt: skip
    if encoder.pair is not None:
        seen, found = encoder.pair.to(codes.device)(faces.images, codes[:, 0])
        columns["retrieved"] = torch.empty(len(faces))
        for clean in (True, False):
            kind = torch.tensor([(detail == "none") == clean for detail in faces.details])
            columns["retrieved"][kind] = retrieved(seen[kind], found[kind]).cpu()
    lines = directions_for(G)
    for factor in factors:
        step = STRENGTH * lines[factor].vector.to(codes)
        columns[f"lec {factor}"] = lec(encoder.encode, G.synthesis, faces.images, step)
        columns[f"lec {factor} constant"] = step.expand(codes.shape).flatten(1).norm(dim=1)
    return table.assign(**{name: values.cpu().numpy() for name, values in columns.items()})


def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([function(part) for part in x.split(BATCH)])


@torch.no_grad()
def measure_deviation(encode: Encode, G: Generator, n: int = CODES, seed: int = 0) -> Float[Tensor, " n"]:
    """|E(G(w)) - w| of ``n`` codes of W, (n,): how far an encoder's codes are from those that the image came from
    (e4e, section 8.2)."""
    z = torch.randn(n, G.z_dim, generator=stream(seed, "deviation")).to(G.w_avg)
    w = G.broadcast(G.mapping(z))
    return code_distance(_in_parts(lambda part: encode(G.synthesis(part)), w), w)


def shipped_encoders(G: Generator) -> list[Encoded]:
    """The encoders that are shipped for a generator, as the methods of their names use them."""
    mark, manifest = fingerprint(G, "generator"), read_manifest()
    files = {name: find(name, mark) for name in ENCODERS if name in METHODS}
    found = [
        Encoded(name, _method(name, G), manifest[file], network=_mark(encoder_for(G, name), G))
        for name, file in files.items() if file
    ]  # fmt: skip
    for name in FEATURE_ENCODERS:
        if file := find(name, mark):
            described, network = manifest[file] | {"run": name}, encoder_for(G, name, device=G.w_avg.device)
            found += _in_spaces(network, G, described, _shipped_pair(G))
    return found


def _method(name: str, G: Generator, **knobs: Any) -> Encode:
    return lambda images: METHODS[name](images.clamp(-1.5, 1.5), G, **knobs).latent


def trained_encoders(folder: Path, G: Generator) -> list[Encoded]:
    """The encoders of the runs of ``latentlab train`` in a folder, rounded to half precision as shipped ones are.

    One into F space is there once for each of its spaces, e.g. "full W", "full W+" and "full F"; codes of W are
    compared with their images by the contrastive pair that the runs were trained with, see ``_pair_of``.
    """
    found, pair = [], _pair_of(folder, G)
    for run in sorted(path.parent for path in folder.glob("*/run.json")):
        described = json.loads((run / "run.json").read_text())
        if described.get("kind") != "encoder":
            continue
        state = load_checkpoint(run / "checkpoint.pt")
        name = state["config"]["encoder"]
        encoder = build_encoder(name, config_from(name, state["config"]["shape"]))
        encoder.load_state_dict({k: v.half().to(v.dtype) for k, v in state["E"].items()})
        encoder.requires_grad_(False).eval()
        described |= {"images": state["progress"][1], "run": run.name}
        if name in FEATURE_ENCODERS:
            found += _in_spaces(encoder, G, described, pair)
        else:
            method = _method(name if name in METHODS else "e4e", G, encoder=encoder)
            found.append(Encoded(run.name, method, described, network=_mark(encoder, G)))
    if not found:
        raise ValueError(f"runs: expected a folder with runs of `latentlab train e4e` or the like, got {folder}")
    return found


def _in_spaces(
    encoder: FeatureEncoder, G: Generator, described: dict[str, Any], pair: ContrastivePair | None
) -> Iterator[Encoded]:
    """An encoder into F space once for each of its spaces."""
    for space in ("W", "W+", "F") if isinstance(encoder, ClcaeEncoder) else ("W+", "F"):
        knobs = {"encoder": encoder, "space": space, "batch_size": BATCH}
        whole = partial(METHODS["clcae"], G=G, **knobs)
        codes = _method("clcae", G, **knobs)
        of_w, mark = pair if space == "W" else None, _mark(encoder, G)
        mark += f".{fingerprint(of_w, 'generator')}" if of_w is not None else ""
        yield Encoded(f"{described['run']} {space}", codes, described, whole, of_w, mark)


def _mark(encoder: nn.Module, G: Generator) -> str:
    return f"{fingerprint(encoder, 'generator')}.{fingerprint(G, 'generator')}"


def _pair_of(folder: Path, G: Generator) -> ContrastivePair | None:
    """The contrastive pair that the runs in a folder name in their configuration: that of a run beside them, or the
    shipped one. Where none names a pair: the one in the folder, else the shipped one, else None.

    ``ValueError`` for runs that name several pairs, or one that is in neither place; and for several pairs in the
    folder of which none is named.
    """
    described = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/run.json"))}
    named = {mark: run for run, about in described.items() if (mark := about.get("config", {}).get("pair"))}
    pairs = [_read_pair(folder / run) for run, about in described.items() if about.get("kind") == "contrastive"]
    found, shipped = {fingerprint(pair, "generator"): pair for pair in pairs}, _shipped_pair(G)
    if len(named) > 1 or len(found) > 1 and not named:
        told = ", ".join(f"{mark} ({run})" for mark, run in named.items()) or ", ".join(found)
        raise ValueError(f"runs: expected runs of one contrastive pair, got {told}; measure them in folders apart")
    if not named:
        return next(iter(found.values()), shipped)
    if shipped is not None:
        found.setdefault(fingerprint(shipped, "generator"), shipped)
    (mark,) = named
    if mark not in found:
        raise ValueError(f"runs: expected the contrastive pair {mark} that {named[mark]} was trained with, got "
                         f"{', '.join(found) or 'none'}; put its run into {folder}")  # fmt: skip
    return found[mark]


def _read_pair(run: Path) -> ContrastivePair:
    """The contrastive pair of a run, rounded to half precision as the shipped one is."""
    state = load_checkpoint(run / "checkpoint.pt")
    pair = ContrastivePair(ContrastiveConfig.from_dict(state["config"]["shape"]))
    pair.load_state_dict({k: v.half().to(v.dtype) for k, v in state["pair"].items()})
    return pair.requires_grad_(False).eval()


def _shipped_pair(G: Generator) -> ContrastivePair | None:
    return pair_for(G, device=G.w_avg.device) if find(PAIR, fingerprint(G, "generator")) else None


def measure_encoders(
    encoders: Sequence[Encoded], G: Generator, say: Callable[[str], object] = lambda text: None,
    known: "pandas.DataFrame | None" = None,
) -> "pandas.DataFrame":  # fmt: skip
    """The table of encoders on the real set, a row for each encoder and face; see ``grade_encoder``.

    Every row also has seconds an image, the median of several passes after a warm-up, the deviation, which is a mean
    over codes of W, the number of images and the seed of the training, and the fingerprints of encoder and generator.
    known: an earlier table, whose rows of the same encoder by the same name are taken over.
    """
    import pandas

    faces, judges, tables = real_set(G.resolution), load_judges(), []
    for encoder in encoders:
        if (rows := _rows_of(encoder, known)) is not None:
            say(f"{encoder.name}: measured before")
            tables.append(rows)
            continue
        say(encoder.name)
        seconds = _seconds_of(encoder.encode, faces.images) / len(faces)
        table = grade_encoder(encoder, G, faces, judges)
        deviation = float(measure_deviation(encoder.encode, G).mean())
        made = encoder.provenance
        told = {"images_seen": made["images"], "seed": made["seed"], "network": encoder.network}
        tables.append(table.assign(seconds=seconds, deviation=deviation, **told))
    return pandas.concat(tables, ignore_index=True).assign(generator=fingerprint(G, "generator"))


def _rows_of(encoder: Encoded, known: "pandas.DataFrame | None") -> "pandas.DataFrame | None":
    """The rows of this encoder in an earlier table, None where there are none."""
    if known is None or "network" not in known or not encoder.network:
        return None
    rows = known[(known["method"] == encoder.name) & (known["network"] == encoder.network)]
    return None if rows.empty else rows.dropna(axis=1, how="all")


def _seconds_of(encode: Encode, images: Images) -> float:
    """Median seconds of a pass over the images, after one to warm up, which takes longer."""
    _in_parts(encode, images)
    taken = []
    for _ in range(TIMED):
        began = time.perf_counter()
        _in_parts(encode, images)
        taken.append(time.perf_counter() - began)
    return median(taken)


def summarize_encoders(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Means over the faces of each kind of what the table of encoders tells, with half the width of their 95 %
    intervals; the edits' errors and LEC are means over factors first."""
    import pandas

    from latentlab.evaluation.intervals import confidence_interval

    rows = []
    for (method, kind), group in table.groupby(["method", "faces"], sort=False):
        row = {"encoder": method, "faces": kind}
        for name, values in summary_columns(group).items():
            low, high = confidence_interval(values.to_numpy(float))
            row[name] = f"{values.mean():.3g} ± {(high - low) / 2:.2g}"
        deviation, seconds = (group[name].mean() for name in ("deviation", "seconds"))
        rows.append(row | {"deviation": f"{deviation:.3g}", "s/image": f"{seconds:.2g}"})
    return pandas.DataFrame(rows)


def summary_columns(group: "pandas.DataFrame") -> Mapping[str, "pandas.Series"]:
    """The columns of the summary, face by face."""
    judged = {c.split(" (")[0]: c for c in group.columns if c.startswith(("perceptual (", "identity ("))}
    means = {
        what: group[[f"{factor}{STRENGTH:+g} {column}" for factor in FACTORS]].mean(axis=1)
        for what, column in (("edit error", "error"), ("edit gain", "gain"), ("leakage", "leakage"))
    }
    plain = ("mse", "psnr_db", "ssim", "pn_norm", "sncd", "variation", "visible_variation")
    consistent = {"lec": group[[f"lec {factor}" for factor in FACTORS]].mean(axis=1)}
    return {k: group[k] for k in plain} | {k: group[v] for k, v in judged.items()} | consistent | means
