"""Models by name or file: what ``ll.load`` opens."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentlab.formats.generators import GeneratorFile, read_generator
from latentlab.seeds import stream
from latentlab.stylegan.discriminator import Discriminator, DiscriminatorConfig
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights import read_manifest, read_weights, write_tensors
from latentlab.weights.downloads import MODELS, fetch_model

GENERATOR = ".generator.safetensors"
AVERAGED = 10_000  # codes whose mean is w_avg where a file has none, as e4e does it

Condition = int | Sequence[float] | Tensor | None


def generator_names() -> list[str]:
    """The names of the shipped generators."""
    return sorted(file.removesuffix(GENERATOR) for file in read_manifest() if file.endswith(GENERATOR))


def load(name_or_path: str | Path, *, c: Condition = None, device: torch.device | str = "cpu") -> Generator:
    """Opens a generator, frozen and in evaluation mode: a shipped one by name, a file, or an official one by name.

    Files are NVIDIA's StyleGAN2 pickles (StyleGAN2-ADA and StyleGAN3's StyleGAN2 configurations), checkpoints of
    rosinality's, of encoders with their generator inside (pSp, e4e, ..), and latentlab's .safetensors; which one it
    is, is told by content. They are read as data: nothing of them is run. Official models (``MODELS``) are
    downloaded once. c: the condition of a conditional model, a class or a vector; codes are of that condition.
    What had to be filled in is told as a warning. Raises ``ValueError`` for an unknown name (with the known ones)
    and for files that hold no generator, with what they are instead.
    """
    source = str(name_or_path)
    if source in generator_names():
        if c is not None:
            raise ValueError(f"c: expected None, got {c}: {source} has no conditions")
        tensors, metadata = read_weights(source + GENERATOR)
        G = _build(Generator, GeneratorConfig, tensors, metadata, source)
    else:
        G, found = _open(find_file(source), c)
        for note in found.notes:
            warnings.warn(f"{source}: {note}", stacklevel=2)
    G = G.requires_grad_(False).eval()
    return G.to(device, memory_format=torch.channels_last)  # what a convolution reads fastest


def convert(source: str | Path, out: str | Path | None = None, *, c: Condition = None) -> tuple[Path, list[str]]:
    """Writes the generator of any file that ``load`` opens as .safetensors, in float32, beside it unless ``out``.

    Returns the path and the notes on what was filled in; both stand in the file's metadata with the source's
    sha256. Raises ``ValueError`` as ``load`` does, and where ``out`` exists.
    """
    path = find_file(str(source))
    out = path.with_suffix(".safetensors") if out is None else Path(out)
    if out.exists():
        raise ValueError(f"{out}: expected a new file, got one that exists; name another, or remove it")
    G, found = _open(path, c)
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    origin = {"file": path.name, "sha256": sha256, "format": found.format, "notes": found.notes}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(out, G.state_dict(), {"config": G.config.to_dict(), "converted_from": origin})
    return out, found.notes


def find_file(source: str) -> Path:
    """The file at a path, or that of an official model by name, which is downloaded once; ``ValueError`` for others."""
    if Path(source).is_file():
        return Path(source)
    if source in MODELS:
        return fetch_model(source)
    raise ValueError(
        f"no generator {source!r}: expected a file, the name of a shipped generator "
        f"({', '.join(generator_names()) or 'none'}) or of an official one ({', '.join(MODELS)})"
    )


def _open(path: Path, c: Condition) -> tuple[Generator, GeneratorFile]:
    """The generator of a file; what its file lacks is filled in and noted, and its picture is looked at."""
    condition = c if c is None or isinstance(c, int | Tensor) else torch.tensor(c, dtype=torch.float32)
    found = read_generator(path, c=condition)
    tensors = {"w_avg": torch.zeros(found.config.w_dim)} | found.state
    G = _build(Generator, GeneratorConfig, tensors, {"config": found.config.to_dict()}, str(path))
    G = G.to(memory_format=torch.channels_last)
    with torch.no_grad():
        if "w_avg" not in found.state:
            z = torch.randn(AVERAGED, G.z_dim, generator=stream(0, "w_avg"))
            G.w_avg.copy_(G.mapping(z).mean(0))
            found.notes.append(f"it has no mean latent (latent_avg): the mean of {AVERAGED:,} codes is used")
        if found.format != "latentlab":
            found.notes += _look(G, path)
    return G, found


def _look(G: Generator, path: Path) -> list[str]:
    """Draws the picture of the mean latent: raises where it is not finite, notes where it is none of a trained
    generator."""
    picture = G.synthesis(G.broadcast(G.w_avg[None]))
    if not bool(torch.isfinite(picture).all()):
        raise ValueError(f"{path}: the picture of its mean latent holds NaN or infinite values: its numbers are not "
                         "those of a trained generator")  # fmt: skip
    notes = []
    if float((picture.abs() > 2).float().mean()) > 0.5:
        notes.append("most of the picture of its mean latent lies beyond [-2, 2]; trained generators paint [-1, 1]")
    if float(picture.std()) < 1e-3:
        notes.append("the picture of its mean latent is of one colour")
    return notes


def load_discriminator(name: str, *, device: torch.device | str = "cpu") -> Discriminator:
    """Opens the discriminator that was trained against a shipped generator, for fine-tuning: not frozen."""
    tensors, metadata = read_weights(f"{name}.discriminator.safetensors")
    config = {k: metadata["config"][k] for k in ("resolution", "channels")}
    return _build(Discriminator, DiscriminatorConfig, tensors, {"config": config}, name).to(device)


def _build(kind: type, config: type, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], source: str):
    try:
        model = kind(config.from_dict(metadata["config"]))
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{source} holds no {kind.__name__.lower()} of latentlab ({error})") from error
    return model
