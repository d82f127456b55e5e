"""Jobs of the command line: invert and edit pictures from files, and write pictures and tables."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.editing.edit import Edit
from latentlab.editing.shipped import edits_for
from latentlab.evaluation import grade_inversion, load_judges, true_edit
from latentlab.faces import FaceSet, real_set
from latentlab.images import find_images, read_image, tile
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import find_method, invert
from latentlab.metrics import edit_gain, psnr
from latentlab.networks.attributes import read_factors
from latentlab.seeds import stream
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

Say = Callable[[str], object]
Asked = tuple[str, float]  # an edit as requested: factor, strength in standard deviations


def invert_files(
    source: str | Path,
    out: str | Path,
    *,
    generator: str = "faces-64",
    method: str = "ii2s",
    edits: Sequence[Asked] = (),
    batch_size: int | None = None,
    precision: str = "32",
    device: torch.device | str = "cpu",
    say: Say = lambda line: None,
    **knobs: Any,
) -> "pandas.DataFrame":
    """Inverts a picture, or a folder of pictures, and applies edits.

    edits: pairs of a factor and a strength in standard deviations. batch_size: pictures inverted together, by default
    as many as take some 4 GB. precision: "32", or "bf16" for mixed precision during the search, in two thirds of the
    memory; images are drawn in float32. say: called with messages for the user. knobs: keywords of the method. Returns
    the table of measurements.

    Writes for each picture ``NAME.strip.png`` (input, inversion, edits), each of these as a file of its own, and the
    inversion as ``NAME.safetensors``; and the table as ``measured.csv``. Pictures that cannot be read are reported
    through ``say`` and skipped. After an interruption the results of finished batches are kept.
    """
    import pandas

    if precision not in ("32", "bf16"):
        raise ValueError(f"precision: expected '32' or 'bf16', got {precision!r}")
    G = load(generator, device=device)
    batch_size = default_batch_size(G.resolution) if batch_size is None else batch_size
    find_method(method)
    chosen = pick_edits(G, edits)
    out = _prepare(Path(source), Path(out))
    pictures = _read_all(find_images(source), G.resolution, say)
    rows: list[dict[str, Any]] = []
    bar = tqdm(total=len(pictures), desc="pictures", unit="img", disable=len(pictures) <= batch_size)
    with bar:
        for names, images in _in_batches(pictures, batch_size):
            with torch.autocast(G.w_avg.device.type, torch.bfloat16, enabled=precision == "bf16"):
                inversion = invert(images.to(device), G, method, **knobs)
            if precision == "bf16":
                inversion.image = inversion.synthesize(inversion.latent)
            if inversion.interrupted:  # its codes are not converged, so the batch is skipped
                say(f"interrupted: {len(rows)} of {len(pictures)} pictures are in {out}/")
                raise KeyboardInterrupt
            edited = {asked: inversion.edit(edit, asked[1]) for asked, edit in zip(edits, chosen, strict=True)}
            rows += measure(names, images.to(device), inversion, edited)
            _write(out, names, images, inversion, edited)
            _write_table(out / "measured.csv", rows)
            bar.update(len(names))
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
    """The shipped edit of each factor. An unknown factor raises ``ValueError`` that lists the known ones."""
    if not edits:
        return []
    known = edits_for(G)
    for name, _ in edits:
        if name not in known:
            raise ValueError(f"edits: expected factors among {', '.join(known)}; got {name!r}")
    return [known[name] for name, _ in edits]


def _label(edit: Asked) -> str:
    return f"{edit[0]}{edit[1]:+g}"


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
    names: Sequence[str], images: Float[Tensor, "n 3 r r"], inversion: Inversion, edited: dict[Asked, Tensor]
) -> list[dict[str, Any]]:
    """Measurements, one row per picture: seconds, the grades of ``grade_inversion``, and the attribute judge's
    prediction of each edited factor before and after the edit, in the factor's unit."""
    judges = load_judges(device=images.device)
    columns = grade_inversion(inversion, images, judges)
    before = read_factors(judges.attributes, inversion.image.clamp(-1, 1))
    for edit, picture in edited.items():
        k = judges.attributes.names.index(edit[0])
        after = read_factors(judges.attributes, picture.clamp(-1, 1))
        columns |= {f"{_label(edit)} before": before[:, k], f"{_label(edit)} after": after[:, k]}
    seconds = inversion.seconds / len(images)
    return [
        {"picture": name, "method": inversion.method, "seconds": seconds}
        | {key: float(f"{float(value[i]):.5g}") for key, value in columns.items()}
        for i, name in enumerate(names)
    ]


def _write(out: Path, names: Sequence[str], images: Tensor, inversion: Inversion, edited: dict[Asked, Tensor]) -> None:
    for i, name in enumerate(names):
        pictures = {"input": images[i], "inversion": inversion.image[i]}
        pictures |= {_label(edit): v[i] for edit, v in edited.items()}
        for label, picture in pictures.items():
            tile(picture[None].cpu(), columns=1).save(out / f"{name}.{label}.png")
        strip = torch.stack([p.cpu() for p in pictures.values()])
        tile(strip, columns=len(strip), scale=max(1, 256 // strip.shape[-1])).save(out / f"{name}.strip.png")
        inversion[i].save(out / f"{name}.safetensors")


# Edits of the demo: factor, strength in standard deviations.
DEMO_EDITS: tuple[Asked, ...] = (("smile", 2.0), ("age", 2.0), ("yaw", 1.5), ("glasses", 2.0))


def demo(out: str | Path, *, steps: int = 500, faces: int = 3) -> "pandas.DataFrame":
    """Draws samples, inverts faces of the real set, and edits them for comparison with the rendered truth.

    Writes ``samples.png`` (36 uncurated samples), ``faces.png`` (rendered faces), ``demo.png`` (inversions and edits)
    and ``demo.csv``: PSNR, seconds, and for each edit its gain (1: the whole true edit happened) and its residual
    (other changes). Returns that table.
    """
    import pandas

    from latentlab import plots

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    G = load("faces-64")
    tile(draw_samples(G, 36), columns=6, scale=2).save(out / "samples.png")
    tile(real_set(resolution=128)[:24].images, columns=8).save(out / "faces.png")
    chosen = plain_faces(faces)
    inversion = invert(chosen.images, G, "ii2s", steps=steps)
    if inversion.interrupted:
        raise KeyboardInterrupt
    table = pandas.DataFrame({"face": range(faces), "psnr_db": psnr(inversion.image, chosen.images).tolist()})
    pictures = {"given": chosen.images, "inversion": inversion.image}
    for (name, strength), edit in zip(DEMO_EDITS, pick_edits(G, DEMO_EDITS), strict=True):
        truth = true_edit(chosen, edit, strength)
        edited = inversion.edit(edit, strength)
        gain, residual = edit_gain(inversion.image, edited, chosen.images, truth.images)
        table[f"{name} gain"], table[f"{name} residual"] = gain.tolist(), residual.tolist()
        pictures |= {f"{name} {strength:+g}": edited, f"truth of {name}": truth.images}
    table["seconds"] = inversion.seconds / faces
    rows = {f"face {i}": torch.stack([p[i] for p in pictures.values()]) for i in range(faces)}
    figure = plots.compare(rows, titles=list(pictures))
    figure.savefig(out / "demo.png", dpi=150)
    plots.close(figure)
    table.to_csv(out / "demo.csv", index=False)
    return table


@torch.no_grad()
def draw_samples(G: nn.Module, n: int, *, seed: int = 0, psi: float = 1.0) -> Float[Tensor, "n 3 r r"]:
    """Uncurated samples of a generator, (N, 3, R, R); image i is drawn from ``stream(seed, "samples", i)``."""
    z = torch.stack([torch.randn(G.z_dim, generator=stream(seed, "samples", i)) for i in range(n)])
    return G(z.to(G.w_avg.device), psi=psi)


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


def plain_faces(n: int) -> FaceSet:
    """The first ``n`` clean faces of the real set whose factors leave room for the demo's edits.

    They have no glasses, are not old, not turned far, and neither smile nor frown strongly.
    """
    clean = real_set().clean
    factors = clean.factors
    free = (factors["glasses"] == 0) & (factors["age"] < 0.5) & (factors["yaw"].abs() < 15)
    free &= (factors["smile"] > -0.4) & (factors["smile"] < 0.4)
    return clean[torch.nonzero(free)[:n, 0]]
