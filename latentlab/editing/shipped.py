"""Edits that are shipped with a generator."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.editing.edit import Direction
from latentlab.spaces import fingerprint


def directions_to_tensors(directions: Mapping[str, Direction]) -> dict[str, Tensor]:
    """Tensors for a file of weights: vectors (K, D) and standard deviations (K,)."""
    return {
        "vectors": torch.stack([d.vector for d in directions.values()]),
        "std": torch.tensor([d.std for d in directions.values()]),
    }


def directions_for(G: nn.Module) -> dict[str, Direction]:
    """The directions stored with the weights of ``G``, by name. Raises ``ValueError`` if there are none."""
    if (file := weights.find("directions", own := fingerprint(G))) is None:
        raise ValueError(f"G: expected a generator with shipped directions, got {own}; find some with find_directions")
    tensors, metadata = weights.read_weights(file)
    entries = zip(metadata["names"], tensors["vectors"], tensors["std"].tolist(), strict=True)
    return {name: Direction(name, vector, std) for name, vector, std in entries}
