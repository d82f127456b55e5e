"""The main job on real input: invert pictures, edit them, measure, and write everything down."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.editing.shipped import directions_for
from latentlab.evaluation import true_edit
from latentlab.faces import FaceSet, real_set
from latentlab.images import find_images, read_image, tile
from latentlab.inversion.result import Direction, Inversion
from latentlab.inversion_methods import METHODS, invert
from latentlab.judges.attributes import load_attribute_judge
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import edit_gain, psnr
from latentlab.networks.attributes import read_factors
from latentlab.priors import mahalanobis
from latentlab.seeds import stream
from latentlab.spaces import statistics_for
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas

Say = Callable[[str], object]
Edit = tuple[str, float]


def invert_files(
    source: str | Path,
    out: str | Path,
    *,
    generator: str = "faces-64",
    method: str = "ii2s",
    edits: Sequence[Edit] = (),
    batch_size: int | None = None,
    precision: str = "32",
    device: torch.device | str = "cpu",
    say: Say = lambda line: None,
    **knobs: Any,
) -> "pandas.DataFrame":
    """Inverts a picture or a folder of them and applies edits, (factor, strength in standard deviations).

    Writes for each picture: ``NAME.strip.png`` (input, inversion, edits), each of these alone, the latent
    as ``NAME.safetensors``; and ``measured.csv``, which is returned. Pictures that cannot be read are
    named through ``say`` and left out; what was finished before an interruption stays.
    batch_size: images inverted together, by default as many as take some 4 GB. precision: "32", or "bf16" for
    mixed precision while codes are searched, in two thirds of the memory; the pictures are drawn in 32 bits.
    """
    import pandas

    if precision not in ("32", "bf16"):
        raise ValueError(f"precision: expected '32' or 'bf16', got {precision!r}")
    G = load(generator, device=device)
    batch_size = default_batch_size(G.resolution) if batch_size is None else batch_size
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known are: {', '.join(METHODS)}")
    directions = pick_directions(G, edits)
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
            if inversion.interrupted:  # half-found codes are worth nothing: the batch is left out
                say(f"interrupted: {len(rows)} of {len(pictures)} pictures are in {out}/")
                raise KeyboardInterrupt
            edited = {edit: inversion.edit(d, edit[1]) for edit, d in zip(edits, directions, strict=True)}
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
        raise ValueError(f"{out} is a file; a folder is wanted")
    if out.resolve() == source.resolve():
        raise ValueError(f"{out} holds the pictures: what is written there would be inverted next time")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Keeps what earlier runs measured, but for the pictures and methods measured anew."""
    import pandas

    table = pandas.DataFrame(rows)
    if path.is_file():
        old, keys = pandas.read_csv(path, dtype={"picture": str}), ["picture", "method"]
        anew = old[keys].apply(tuple, axis=1).isin(set(table[keys].apply(tuple, axis=1)))
        table = pandas.concat([old[~anew], table], ignore_index=True)
    table.to_csv(path, index=False)


def pick_directions(G: nn.Module, edits: Sequence[Edit]) -> list[Direction]:
    """The direction of each edit; an unknown factor raises ``ValueError`` that lists the known."""
    if not edits:
        return []
    known = directions_for(G)
    for name, _ in edits:
        if name not in known:
            raise ValueError(f"unknown factor {name!r}; known are: {', '.join(known)}")
    return [known[name] for name, _ in edits]


def _label(edit: Edit) -> str:
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
        # Two files may differ in their suffix only; neither may overwrite what belongs to the other.
        pictures[path.name if path.stem in pictures else path.stem] = image
        if notes:
            say(f"{path.name}: {', '.join(notes)}")
    if not pictures:
        raise ValueError("; ".join(failures))
    for failure in failures:
        say(f"left out: {failure}")
    return pictures


def _in_batches(pictures: dict[str, Tensor], size: int) -> Iterator[tuple[list[str], Tensor]]:
    if size < 1:
        raise ValueError(f"a batch of {size} pictures cannot be inverted; at least 1 is wanted")
    names = list(pictures)
    for start in range(0, len(names), size):
        part = names[start : start + size]
        yield part, torch.cat([pictures[name] for name in part])


def measure(
    names: Sequence[str], images: Float[Tensor, "n 3 r r"], inversion: Inversion, edited: dict[Edit, Tensor]
) -> list[dict[str, Any]]:
    """One row a picture: PSNR and perceptual distance (face world) of the inversion, mean squared PN+ norm
    of its code, seconds, and what the attribute judge reads before and after each edit."""
    G = inversion.generator
    judge = load_attribute_judge(device=images.device)
    before = read_factors(judge, inversion.image)
    with torch.no_grad():
        columns = {
            "psnr_db": psnr(inversion.image, images),
            "perceptual": load_perceptual(device=images.device)(inversion.image.clamp(-1, 1), images),
            "pn_norm": mahalanobis(inversion.latent, statistics_for(G)),
        }
    for edit, picture in edited.items():
        k = judge.names.index(edit[0])
        after = read_factors(judge, picture)
        columns |= {f"{_label(edit)} before": before[:, k], f"{_label(edit)} after": after[:, k]}
    seconds = inversion.seconds / len(images)
    return [
        {"picture": name, "method": inversion.method, "seconds": seconds}
        | {key: round(float(value[i]), 4) for key, value in columns.items()}
        for i, name in enumerate(names)
    ]


def _write(out: Path, names: Sequence[str], images: Tensor, inversion: Inversion, edited: dict[Edit, Tensor]) -> None:
    for i, name in enumerate(names):
        pictures = {"input": images[i], "inversion": inversion.image[i]}
        pictures |= {_label(edit): v[i] for edit, v in edited.items()}
        for label, picture in pictures.items():
            tile(picture[None].cpu(), columns=1).save(out / f"{name}.{label}.png")
        strip = torch.stack([p.cpu() for p in pictures.values()])
        tile(strip, columns=len(strip), scale=max(1, 256 // strip.shape[-1])).save(out / f"{name}.strip.png")
        inversion[i].save(out / f"{name}.safetensors")


# Edits of the demo: factor, strength in standard deviations.
DEMO_EDITS: tuple[Edit, ...] = (("smile", 2.0), ("age", 2.0), ("yaw", 1.5), ("glasses", 2.0))


def demo(out: str | Path, *, steps: int = 500, faces: int = 3) -> "pandas.DataFrame":
    """Samples, inverts faces of the real set and edits each beside the rendered truth.

    Writes ``samples.png`` (36 uncurated samples), ``faces.png`` (rendered faces), ``demo.png`` and
    ``demo.csv``: PSNR, seconds, and for every edit the gain (1: the whole true edit happened) and the
    residual (what else changed).
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
    for (name, strength), direction in zip(DEMO_EDITS, pick_directions(G, DEMO_EDITS), strict=True):
        truth = true_edit(chosen, direction, strength)
        edited = inversion.edit(direction, strength)
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
    """Samples of a generator as they come: image i belongs to ``stream(seed, "samples", i)``."""
    z = torch.stack([torch.randn(G.z_dim, generator=stream(seed, "samples", i)) for i in range(n)])
    return G(z.to(G.w_avg.device), psi=psi)


def write_faces(out: str | Path, n: int, resolution: int = 64) -> None:
    """Writes the first ``n`` faces of the real set, clean ones first, as PNGs with ``factors.csv``."""
    if not 1 <= n <= len(real := real_set(resolution)):
        raise ValueError(f"the real set has {len(real)} faces; {n} cannot be written")
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
    """The first clean faces of the real set without glasses, not old, not turned far, neither laughing
    nor in tears: every edit has somewhere to go."""
    clean = real_set().clean
    factors = clean.factors
    free = (factors["glasses"] == 0) & (factors["age"] < 0.5) & (factors["yaw"].abs() < 15)
    free &= (factors["smile"] > -0.4) & (factors["smile"] < 0.4)
    return clean[torch.nonzero(free)[:n, 0]]
