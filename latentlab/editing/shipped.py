"""Edits that are shipped with a generator."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latentlab.editing.edit import Direction
from latentlab.spaces import fingerprint
from latentlab.weights import read_manifest, read_weights


def directions_to_tensors(directions: Mapping[str, Direction]) -> dict[str, Tensor]:
    """Tensors for a file of weights: vectors (K, D) and standard deviations (K,)."""
    return {
        "vectors": torch.stack([d.vector for d in directions.values()]),
        "std": torch.tensor([d.std for d in directions.values()]),
    }


def directions_for(G: nn.Module) -> dict[str, Direction]:
    """The directions stored with the weights of ``G``, by name; ``ValueError`` for a generator without."""
    mark = fingerprint(G)
    for file, entry in read_manifest().items():
        if file.endswith(".directions.safetensors") and entry.get("fingerprint") == mark:
            tensors, metadata = read_weights(file)
            rows = zip(metadata["names"], tensors["vectors"], tensors["std"].tolist(), strict=True)
            return {name: Direction(name, vector, std) for name, vector, std in rows}
    raise ValueError(f"no directions are shipped for generator {mark}: find them with find_directions")
