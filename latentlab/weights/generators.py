"""Models by name or file: what ``ll.load`` opens."""

from pathlib import Path
from typing import Any

import torch

from latentlab.stylegan.discriminator import Discriminator, DiscriminatorConfig
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights import read_manifest, read_tensors, read_weights

GENERATOR = ".generator.safetensors"


def generator_names() -> list[str]:
    """The names of the shipped generators."""
    return sorted(file.removesuffix(GENERATOR) for file in read_manifest() if file.endswith(GENERATOR))


def load(name_or_path: str | Path, *, device: torch.device | str = "cpu") -> Generator:
    """Opens a generator, frozen and in evaluation mode: a shipped one by name, or a .safetensors file.

    Raises ``ValueError`` for an unknown name (with the known ones) or a file that is no generator.
    """
    source = str(name_or_path)
    if source in generator_names():
        tensors, metadata = read_weights(source + GENERATOR)
    elif Path(source).suffix == ".safetensors" and Path(source).is_file():
        tensors, metadata = read_tensors(source)
    else:
        raise ValueError(
            f"no generator {source!r}: name a shipped one ({', '.join(generator_names()) or 'none'}) "
            "or an existing .safetensors file"
        )
    G = _build(Generator, GeneratorConfig, tensors, metadata, source).requires_grad_(False).eval()
    return G.to(device, memory_format=torch.channels_last)  # what a convolution reads fastest


def load_discriminator(name: str, *, device: torch.device | str = "cpu") -> Discriminator:
    """Opens the discriminator that was trained against a shipped generator, for fine-tuning: not frozen."""
    tensors, metadata = read_weights(f"{name}.training.safetensors")
    own = {k.removeprefix("D."): v for k, v in tensors.items() if k.startswith("D.")}
    config = {k: metadata["config"][k] for k in ("resolution", "channels")}
    return _build(Discriminator, DiscriminatorConfig, own, {"config": config}, name).to(device)


def _build(kind: type, config: type, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], source: str):
    try:
        model = kind(config.from_dict(metadata["config"]))
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{source} holds no {kind.__name__.lower()} of latentlab ({error})") from error
    return model
