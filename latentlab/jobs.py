"""Jobs of the command line: invert and edit pictures from files, and write pictures and tables."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab import plots
from latentlab.editing.code_range import CodeRange, Departure
from latentlab.editing.edit import Edit
from latentlab.editing.files import read_edits, save_edit
from latentlab.editing.lab import Finding, edit_from_scores, read_scores
from latentlab.editing.shipped import edits_for
from latentlab.evaluation import encoder_page, full_size, grade_inversion, load_judges, true_edit
from latentlab.evaluation.encoders import measure_encoders, shipped_encoders, trained_encoders
from latentlab.evaluation.two_branch import describe_branches, measure_branches, trained_branches
from latentlab.faces import FaceSet, real_set
from latentlab.images import add_titles, find_images, read_image, tile
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import find_method, invert, open_networks
from latentlab.metrics import edit_error, edit_gain, psnr
from latentlab.networks.attributes import read_factors
from latentlab.seeds import stream
from latentlab.spaces import fingerprint
from latentlab.weights import read_tensors, write_tensors
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

Say = Callable[[str], object]
CURVES = ("l2", "perceptual", "identity", "variation")  # of the trainings of encoders
WEAK = 0.25  # of the change that was asked for; the user is told of edits that change less
Asked = tuple[str, float]  # an edit as requested: a factor or a file, and the strength


def invert_files(
    source: str | Path,
    out: str | Path,
    *,
    generator: str | None = None,
    method: str = "ii2s",
    base: str = "e4e",
    encoder: str | None = None,
    perceptual: tuple[str, str] | None = None,
    edits: Sequence[Asked] = (),
    batch_size: int | None = None,
    precision: str = "32",
    device: torch.device | str = "cpu",
    say: Say = lambda line: None,
    **knobs: Any,
) -> "pandas.DataFrame":
    """Inverts a picture, or a folder of pictures, and applies edits.

    generator: "faces-64" unless given, or the one in the file of ``encoder``. encoder: for a method that is one, a
    checkpoint of its public repository (``encoders.official``). perceptual: name and file of the network by which an
    optimiser compares pictures, e.g. ("vgg", "vgg16.pth"), in the place of the face world's. base: method whose
    inversion is refined, where ``method`` is a refiner such as "pti". edits: pairs of an edit and its strength: a
    factor, whose shipped edit is taken, in standard deviations; or a file of an edit or of directions
    (``editing.files.read_edits``), FILE:NAME where it holds several. batch_size: pictures inverted together, by default
    as many as take some 4 GB. precision: "32", or "bf16" for mixed precision during the search, in two thirds of the
    memory; images are drawn in float32. say: called with messages for the user. knobs: keywords of the method. Returns
    the table of measurements.

    Writes for each picture ``NAME.strip.png`` (input, inversion, edits), each of these as a file of its own, and the
    inversion as ``NAME.safetensors``; and the table as ``measured.csv``. Pictures that cannot be read are reported
    through ``say`` and skipped. Reported for each edit are the pictures that it took out of the generator's range, and
    those that it hardly changed. After an interruption the results of finished batches are kept.
    """
    import pandas

    if precision not in ("32", "bf16"):
        raise ValueError(f"precision: expected '32' or 'bf16', got {precision!r}")
    G, networks = open_networks(method, generator=generator, encoder=encoder, perceptual=perceptual, device=device)
    batch_size = default_batch_size(G.resolution) if batch_size is None else batch_size
    refines = find_method(method).kind == "refiner"
    chosen = _labelled(edits, pick_edits(G, edits))
    own, departures = CodeRange(G) if chosen else None, defaultdict(list)
    factors = {label: edit.name for label, (edit, _) in chosen.items()}
    out = _prepare(Path(source), Path(out))
    pictures = _read_all(find_images(source), G.resolution, say)
    rows: list[dict[str, Any]] = []
    bar = tqdm(total=len(pictures), desc="pictures", unit="img", disable=len(pictures) <= batch_size)
    with bar:
        for names, images in _in_batches(pictures, batch_size):
            with torch.autocast(G.w_avg.device.type, torch.bfloat16, enabled=precision == "bf16"):
                refined = {"base": invert(images.to(device), G, base)} if refines else {}
                inversion = invert(images.to(device), G, method, **networks, **knobs | refined)
            if precision == "bf16":
                inversion.image = inversion.synthesize(inversion.latent)
            if inversion.interrupted:  # its codes are not converged, so the batch is skipped
                say(f"interrupted: {len(rows)} of {len(pictures)} pictures are in {out}/")
                raise KeyboardInterrupt
            edited = {}
            for label, (edit, strength) in chosen.items():
                after = inversion.edited(edit, strength)
                edited[label] = after.image
                departures[label].append(own.departure(inversion.state, after.state))
            rows += measure(names, images.to(device), inversion, edited, factors)
            _write(out, names, images, inversion, edited)
            _write_table(out / "measured.csv", rows)
            bar.update(len(names))
    for label, parts in departures.items():
        for said in (_describe_far(Departure.join(parts), rows), _describe_weak(label, *chosen[label], rows)):
            if said:
                say(f"{label}: {said}")
    return pandas.DataFrame(rows)


def default_batch_size(resolution: int) -> int:
    """Images to invert together in some 4 GB: 16 up to 128 px, 10 at 256, 4 at 512, 2 at 1024.

    An image at 1024 px takes 2 GB more in float32, and the others (resolution / 1024)^1.2 of that (measured).
    """
    return max(1, min(16, int(2 * (1024 / resolution) ** 1.2)))


def _prepare(source: Path, out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder, got the file {out}")
    if out.resolve() == source.resolve():
        raise ValueError(
            f"out: expected a folder other than that of the pictures, got {out}; the next run would invert its results"
        )
    out.mkdir(parents=True, exist_ok=True)
    return out


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a table. Results of earlier runs are kept, except for the same pictures and methods."""
    import pandas

    table = pandas.DataFrame(rows)
    if path.is_file():
        old, keys = pandas.read_csv(path, dtype={"picture": str}), ["picture", "method"]
        repeated = old[keys].apply(tuple, axis=1).isin(set(table[keys].apply(tuple, axis=1)))
        table = pandas.concat([old[~repeated], table], ignore_index=True)
    table.to_csv(path, index=False)


def pick_edits(G: nn.Module, edits: Sequence[Asked]) -> list[Edit]:
    """The shipped edit of each factor, and the edit of each file. An unknown factor raises ``ValueError`` that lists
    the known ones, and so does a file with several edits of which none is named."""
    names = [name for name, _ in edits]
    shipped = {} if all(map(_is_file, names)) else edits_for(G)
    if unknown := [name for name in names if not _is_file(name) and name not in shipped]:
        raise ValueError(f"edits: expected factors among {', '.join(shipped)}, or files of edits; got {unknown[0]!r}")
    return [_of_file(name, G) if _is_file(name) else shipped[name] for name in names]


def _is_file(name: str) -> bool:
    """Whether an edit is named by a file: factors have neither dots nor slashes."""
    return not name.replace("_", "").isalnum()


def _of_file(name: str, G: nn.Module) -> Edit:
    path, _, inner = (name, "", "") if Path(name).is_file() else name.rpartition(":")
    found = read_edits(path or name, G)
    if not inner and len(found) > 1:
        raise ValueError(f"edits: expected the name of one of its directions behind a file of several, e.g. "
                         f"{name}:{next(iter(found))}; got a file of {_listed(found)}")  # fmt: skip
    if inner and inner not in found:
        raise ValueError(f"edits: expected one of {_listed(found)} behind {path}:, got {inner!r}")
    return found[inner] if inner else next(iter(found.values()))


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _labelled(asked: Sequence[Asked], edits: Sequence[Edit]) -> dict[str, tuple[Edit, float]]:
    """Edits and strengths by what their pictures and columns are called."""
    labels = [_label(one) for one in asked]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"edits: expected different edits or strengths, got {repeated[0]} more than once; rename one "
                         "file if they are different")  # fmt: skip
    return {label: (edit, one[1]) for label, one, edit in zip(labels, asked, edits, strict=True)}


def _label(asked: Asked) -> str:
    """E.g. smile+2; of a file its name without folders and suffix."""
    name = asked[0]
    if _is_file(name):
        path, _, inner = (name, "", "") if Path(name).is_file() else name.rpartition(":")
        name = " ".join(filter(None, (Path(path or name).stem, inner.replace("/", "_"))))
    return f"{name}{asked[1]:+g}"


def _read_all(paths: Sequence[Path], resolution: int, say: Say) -> dict[str, Tensor]:
    pictures: dict[str, Tensor] = {}
    failures = []
    for path in paths:
        try:
            image, notes = read_image(path, resolution)
        except ValueError as error:
            failures.append(str(error))
            continue
        # Two files can differ in their suffix only: their results must have different names.
        pictures[path.name if path.stem in pictures else path.stem] = image
        if notes:
            say(f"{path.name}: {', '.join(notes)}")
    if not pictures:
        raise ValueError("; ".join(failures))
    for failure in failures:
        say(f"skipped: {failure}")
    return pictures


def _in_batches(pictures: dict[str, Tensor], size: int) -> Iterator[tuple[list[str], Tensor]]:
    if size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {size}")
    names = list(pictures)
    for start in range(0, len(names), size):
        part = names[start : start + size]
        yield part, torch.cat([pictures[name] for name in part])


def measure(
    names: Sequence[str],
    images: Float[Tensor, "n 3 r r"],
    inversion: Inversion,
    edited: Mapping[str, Tensor],
    factors: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Measurements, one row per picture: seconds, the grades of ``grade_inversion``, and the attribute judge's
    prediction of each edited factor before and after the edit, in the factor's unit.

    edited, factors: edited pictures and the names of what was edited, by label; what the judge does not know is left
    out.
    """
    judges = load_judges(device=images.device)
    columns = grade_inversion(inversion, images, judges)
    before = read_factors(judges.attributes, inversion.image.clamp(-1, 1))
    for label, picture in edited.items():
        if factors[label] in judges.attributes.names:
            k = judges.attributes.names.index(factors[label])
            after = read_factors(judges.attributes, picture.clamp(-1, 1))
            columns |= {f"{label} before": before[:, k], f"{label} after": after[:, k]}
    seconds = inversion.seconds / len(images)
    return [
        {"picture": name, "method": inversion.method, "seconds": seconds}
        | {key: float(f"{float(value[i]):.5g}") for key, value in columns.items()}
        for i, name in enumerate(names)
    ]


def _describe_far(departure: Departure, rows: Sequence[dict[str, Any]]) -> str:
    """A sentence on the pictures that an edit took out of the generator's range, with their names; empty without."""
    far = [row["picture"] for row, left in zip(rows, departure.left.tolist(), strict=True) if left]
    return f"{departure.describe()} ({_listed(far, 3)})" if far else ""


def _describe_weak(label: str, edit: Edit, strength: float, rows: Sequence[dict[str, Any]]) -> str:
    """A sentence on the pictures in which the judge reads less than ``WEAK`` of the change that was asked for; empty
    where there are none, or where the change is not known."""
    asked = strength * edit.std
    if f"{label} after" not in rows[0] or not abs(asked) > 0:
        return ""
    readings = {row["picture"]: (row[f"{label} before"], row[f"{label} after"]) for row in rows}
    weak = {name: pair for name, pair in readings.items() if (pair[1] - pair[0]) / asked < WEAK}
    if not weak:
        return ""
    told = [f"{name} ({before:.2f} before, {after:.2f} after)" for name, (before, after) in weak.items()]
    return (f"hardly any effect on {_listed(told, 3)}, as the attribute judge reads {edit.name}; a change of "
            f"{asked:+.2g} was asked for")  # fmt: skip


def _write(
    out: Path, names: Sequence[str], images: Tensor, inversion: Inversion, edited: Mapping[str, Tensor]
) -> None:
    for i, name in enumerate(names):
        pictures = {"input": images[i], "inversion": inversion.image[i]}
        pictures |= {label: v[i] for label, v in edited.items()}
        for label, picture in pictures.items():
            tile(picture[None].cpu(), columns=1).save(out / f"{name}.{label}.png")
        strip = torch.stack([p.cpu() for p in pictures.values()])
        strip = tile(strip, columns=len(strip), scale=max(1, 256 // strip.shape[-1]))
        add_titles(strip, list(pictures)).save(out / f"{name}.strip.png")
        inversion[i].save(out / f"{name}.safetensors")


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


@torch.no_grad()
def draw_samples(G: nn.Module, n: int, *, seed: int = 0, psi: float = 1.0) -> Float[Tensor, "n 3 r r"]:
    """Uncurated samples of a generator, (N, 3, R, R); image i is drawn from ``stream(seed, "samples", i)``."""
    return G(_draw_z(G, n, seed), psi=psi)


def _draw_z(G: nn.Module, n: int, seed: int) -> Float[Tensor, "n z"]:
    """Sample i is the same however many are drawn."""
    z = torch.stack([torch.randn(G.z_dim, generator=stream(seed, "samples", i)) for i in range(n)])
    return z.to(G.w_avg.device)


@torch.no_grad()
def write_samples(
    out: str | Path, *, generator: str = "faces-64", n: int = 200, seed: int = 0, device: torch.device | str = "cpu"
) -> None:
    """Writes samples of a generator to be scored, for ``find_edit_of_scores``.

    ``sample00000.png`` and so on; ``scores.csv``, with a column ``file``, to which columns of scores can be added; and
    their codes as ``codes.safetensors``. A folder with a table of scores is refused, so that none is lost.
    """
    import pandas

    out = Path(out)
    if n < 2:
        raise ValueError(f"n: expected at least 2 samples, got {n}")
    if (out / "scores.csv").exists():
        raise ValueError(f"out: expected a folder without scores.csv, got {out}, which has one; name another folder")
    G = load(generator, device=device)
    out.mkdir(parents=True, exist_ok=True)
    w, names = G.mapping(_draw_z(G, n, seed)), _sample_names(n)
    batch = default_batch_size(G.resolution)
    for files, codes in zip(_chunks(names, batch), w.split(batch), strict=True):
        for name, image in zip(files, G.synthesis(G.broadcast(codes), noise="const").cpu(), strict=True):
            tile(image[None], columns=1).save(out / name)
    write_tensors(out / "codes.safetensors", {"w": w}, {"generator": fingerprint(G, "generator"), "seed": seed})
    pandas.DataFrame({"file": names}).to_csv(out / "scores.csv", index=False)


def _sample_names(n: int) -> list[str]:
    return [f"sample{i:05d}.png" for i in range(n)]


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def find_edit_of_scores(
    scores: str | Path,
    column: str,
    name: str,
    out: str | Path,
    *,
    generator: str = "faces-64",
    samples: str | Path | None = None,
    n: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Finding:
    """Finds an edit along which the scores of samples rise, and writes it, see ``editing.lab.edit_from_scores``.

    scores: a CSV file, of which ``column`` is taken, with a row for each sample: matched by the names in its column
    ``file`` where it has one, else in the order of the samples. samples: the folder that ``write_samples`` wrote; or
    they are its ``n`` samples of ``seed``. out: the file of the edit, for ``--edit`` and ``editing.files.load_edit``.
    """
    if (samples is None) == (n is None):
        raise ValueError(f"samples, n: expected one of them, got {samples} and {n}; say which pictures were scored")
    G = load(generator, device=device)
    with torch.no_grad():
        w = _read_codes(Path(samples), G) if samples is not None else G.mapping(_draw_z(G, n, seed))
    y = read_scores(scores, column, len(w), files=_sample_names(len(w)))
    finding = edit_from_scores(G, w, y, name)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save_edit(out, finding.edit, G)
    return finding


def _read_codes(folder: Path, G: nn.Module) -> Float[Tensor, "n dim"]:
    path = folder / "codes.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a folder of `latentlab edits sample`, got one without {path.name}")
    tensors, metadata = read_tensors(path)
    if metadata.get("generator") != (own := fingerprint(G, "generator")):
        raise ValueError(f"{path}: expected samples of the generator {own}, got those of {metadata.get('generator')}; "
                         "name the generator that drew them")  # fmt: skip
    return tensors["w"].to(G.w_avg)


def write_faces(out: str | Path, n: int, resolution: int = 64) -> None:
    """Writes the first ``n`` faces of the real set, clean ones first, as PNG files, and ``factors.csv``."""
    real = real_set(resolution)
    if not 1 <= n <= len(real):
        raise ValueError(f"n: expected 1 to {len(real)}, the faces of the real set, got {n}")
    real = real[sorted(range(len(real)), key=lambda i: real.details[i] != "none")]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    names = [f"face{i:03d}.png" for i in range(n)]
    for name, image in zip(names, real.images, strict=False):
        tile(image[None], columns=1).save(out / name)
    table = real[:n].factors.to_frame()
    table.insert(0, "detail", real.details[:n])
    table.insert(0, "file", names)
    table.to_csv(out / "factors.csv", index=False)


NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def copy_course(folder: str | Path, *, student: bool = False, notebooks: Path | None = None) -> list[Path]:
    """Copies the notebooks of the course into a new or empty folder, and returns the files there.

    student: without the solutions, and without the sentences of the notebooks that point to them. notebooks: where they
    are; default: in the checkout that the package was imported from. ``claims.json``, which the notebooks show, and the
    pages of ``docs`` that they link to, with their pictures, are copied too.
    """
    source, folder = NOTEBOOKS if notebooks is None else Path(notebooks), Path(folder)
    lessons = sorted(source.glob("*.ipynb"))
    if not lessons:
        raise ValueError(f"notebooks: expected a folder of notebooks, got {source}; name that of a checkout")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder: expected a new or an empty one, got {folder}; nothing was written")
    texts = {path.name: path.read_text(encoding="utf-8") for path in lessons}
    if not student:
        solutions = sorted(source.glob("solutions/*.ipynb"))
        texts |= {f"solutions/{path.name}": path.read_text(encoding="utf-8") for path in solutions}
    for name in texts.keys() & {path.name for path in lessons}:
        text = _without_solutions(texts[name]) if student else texts[name]
        texts[name] = text.replace("](../docs/", "](docs/")
    files: dict[str, bytes] = {name: text.encode() for name, text in texts.items()}
    files |= {path.name: path.read_bytes() for path in source.glob("claims.json")}
    for page in sorted(set(re.findall(r"\]\(docs/([\w.-]+)", "".join(texts.values())))):
        path = source.parent / "docs" / page
        pictures = re.findall(r"!\[[^]]*\]\((\w+\.png)\)", path.read_text(encoding="utf-8"))
        files |= {f"docs/{name}": (path.parent / name).read_bytes() for name in (page, *pictures)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def _without_solutions(text: str) -> str:
    """A notebook's source without sentences that name the file of its solutions."""
    return re.sub(r" *`solutions/[^`]*`[^.]*\.", "", text)


def plain_faces(n: int) -> FaceSet:
    """The first ``n`` clean faces of the real set whose factors leave room for the demo's edits.

    They have no glasses, are not old, not turned far, and neither smile nor frown strongly.
    """
    clean = real_set().clean
    factors = clean.factors
    free = (factors["glasses"] == 0) & (factors["age"] < 0.5) & (factors["yaw"].abs() < 15)
    free &= (factors["smile"] > -0.4) & (factors["smile"] < 0.4)
    return clean[torch.nonzero(free)[:n, 0]]


def write_encoders(
    out: Path, generator: str = "faces-64", runs: Path | None = None, say: Callable[[str], object] = lambda text: None
) -> "pandas.DataFrame":
    """Measures encoders on the real set and writes the page ``encoders.md`` with its pictures; returns the table.

    runs: folder of training runs, whose curves are drawn as well; None: the encoders shipped for the generator. Rows of
    ``encoders.csv`` in ``out`` whose encoder has not changed since are kept; remove the file to measure all again.
    """
    import pandas

    G = load(generator)
    encoders = shipped_encoders(G) if runs is None else trained_encoders(runs, G)
    if not encoders:
        raise ValueError(f"generator: expected one with shipped encoders, got {generator}; give --runs")
    kept = out / "encoders.csv"
    table = measure_encoders(encoders, G, say, pandas.read_csv(kept) if kept.is_file() else None)
    strip = encoder_page.strip_rows(shipped_encoders(G) or encoders, G)
    plots.compare(strip, size=1.0).savefig(out / "encoders.png", dpi=100)
    if runs is not None:
        names = dict.fromkeys(encoder.provenance["run"] for encoder in encoders)
        logs = {name: pandas.read_csv(runs / name / "log.csv") for name in names}
        plots.training_curves(logs, CURVES).savefig(out / "encoders_curves.png", dpi=100)
    (out / "encoders.md").write_text(encoder_page.describe(table, encoders, curves=runs is not None))
    return table


def write_branches(out: Path, runs: Path, say: Callable[[str], object] = lambda text: None) -> "pandas.DataFrame":
    """Measures runs of two branches on the real set and writes the page ``two_branch.md``; returns the table."""
    G, several = load("faces-64"), trained_branches(runs)
    table = measure_branches(several, G, say)
    (out / "two_branch.md").write_text(describe_branches(table, several))
    return table


def write_regularizers(
    out: Path, *, faces: int = 40, say: Callable[[str], object] = lambda text: None
) -> "pandas.DataFrame":
    """Measures what keeps codes editable, see ``claims.regularizers``, and writes ``regularizers.md`` with its plot."""
    from latentlab.claims import regularizers
    from latentlab.claims.runs import Bench

    table = regularizers.measure_regularizers(Bench.kept(load("faces-64"), say=say), faces, say)
    regularizers.draw_regularizers(table).savefig(out / "regularizers.png", dpi=100)
    (out / "regularizers.md").write_text(regularizers.describe_regularizers(table))
    return table


def write_full_size(
    out: Path, sources: Sequence[str] = (), device: str = "cpu", say: Callable[[str], object] = lambda text: None
) -> "pandas.DataFrame":
    """Measures generators of official size and writes the page ``full_size.md``; returns the table."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    table = full_size.measure_full_size(sources, device=device, say=say)
    (out / "full_size.md").write_text(full_size.describe(table, busy))
    return table
