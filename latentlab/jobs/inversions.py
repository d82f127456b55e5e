"""Inversion of pictures from files, with edits: writes pictures, codes and a table."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.editing.code_range import CodeRange, Departure
from latentlab.editing.edit import Edit
from latentlab.evaluation import grade_inversion, load_judges
from latentlab.images import add_titles, find_images, read_image, tile
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import find_method, invert, open_networks
from latentlab.jobs.asked_edits import Asked, label_edits, list_names
from latentlab.networks.attributes import read_factors

if TYPE_CHECKING:
    import pandas

Say = Callable[[str], object]

WEAK = 0.25  # of the change that was asked for; the user is told of edits that change less


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
    chosen = label_edits(G, edits)
    own, departures = CodeRange(G) if chosen else None, defaultdict(list)
    factors = {label: edit.name for label, (edit, _) in chosen.items()}
    out = _prepare(Path(source), Path(out))
    pictures = _read_all(find_images(source), G.resolution, say)
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(pictures), desc="pictures", unit="img", disable=len(pictures) <= batch_size) as bar:
        for names, images in _in_batches(pictures, batch_size):
            images = images.to(device)
            inversion = _invert(images, G, method, base if refines else None, precision, **networks, **knobs)
            if inversion.interrupted:  # its codes are not converged, so the batch is skipped
                say(f"interrupted: {len(rows)} of {len(pictures)} pictures are in {out}/")
                raise KeyboardInterrupt
            edited = {}
            for label, (edit, strength) in chosen.items():
                after = inversion.edited(edit, strength)
                edited[label] = after.image
                departures[label].append(own.departure(inversion.state, after.state))
            rows += measure(names, images, inversion, edited, factors)
            _write(out, names, images, inversion, edited)
            _write_table(out / "measured.csv", rows)
            bar.update(len(names))
    for label, parts in departures.items():
        for said in (_describe_far(Departure.join(parts), rows), _describe_weak(label, *chosen[label], rows)):
            if said:
                say(f"{label}: {said}")
    return pandas.DataFrame(rows)


def _invert(
    images: Float[Tensor, "n 3 r r"], G: nn.Module, method: str, base: str | None, precision: str, **knobs: Any
) -> Inversion:
    """base: the method whose inversion is refined, None unless ``method`` is a refiner."""
    with torch.autocast(G.w_avg.device.type, torch.bfloat16, enabled=precision == "bf16"):
        refined = {"base": invert(images, G, base)} if base else {}
        inversion = invert(images, G, method, **knobs | refined)
    if precision == "bf16":
        inversion.image = inversion.synthesize(inversion.latent)
    return inversion


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
    return f"{departure.describe()} ({list_names(far, 3)})" if far else ""


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
    return (f"hardly any effect on {list_names(told, 3)}, as the attribute judge reads {edit.name}; a change of "
            f"{asked:+.2g} was asked for")  # fmt: skip


def _write(out: Path, names: Sequence[str], images: Tensor, inversion: Inversion, edited: Mapping[str, Tensor]) -> None:
    for i, name in enumerate(names):
        pictures = {"input": images[i], "inversion": inversion.image[i]}
        pictures |= {label: v[i] for label, v in edited.items()}
        for label, picture in pictures.items():
            tile(picture[None].cpu(), columns=1).save(out / f"{name}.{label}.png")
        strip = torch.stack([p.cpu() for p in pictures.values()])
        strip = tile(strip, columns=len(strip), scale=max(1, 256 // strip.shape[-1]))
        add_titles(strip, list(pictures)).save(out / f"{name}.strip.png")
        inversion[i].save(out / f"{name}.safetensors")
