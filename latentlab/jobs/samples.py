"""Samples of a generator to be scored, edits found from such scores, and rendered faces, as files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.files import save_edit
from latentlab.editing.lab import Finding, edit_from_scores, read_scores
from latentlab.faces import real_set
from latentlab.images import tile
from latentlab.jobs.inversions import default_batch_size
from latentlab.seeds import stream
from latentlab.spaces import fingerprint
from latentlab.weights import read_tensors, write_tensors
from latentlab.weights.generators import load


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
