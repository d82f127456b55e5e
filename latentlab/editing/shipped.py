"""Edits that are shipped with a generator."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.editing.edit import Direction, Edit
from latentlab.editing.files import pack_edit, unpack_edit
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
    return {name: Direction(name, vector, std, source="linear regression in W") for name, vector, std in entries}


class Edits(dict[str, Edit]):
    """Edits by the name of their factor; an unknown name is answered with those that there are."""

    def __missing__(self, name: str) -> Edit:
        near = get_close_matches(str(name), self, n=3) or list(self)
        raise KeyError(f"expected a factor with a shipped edit, e.g. {', '.join(near[:8])}; got {name!r}")


def edits_for(G: nn.Module) -> dict[str, Edit]:
    """The edits stored with the weights of ``G``, by the name of their factor: the best that were found for it.

    Each was found in several ways and chosen by its total error on rendered faces of a training seed. A strength of 1
    moves its factor by ``std`` of the factor's own unit, one standard deviation of the generator's samples, on average
    over faces; ``source`` says in which way it was found. Raises ``ValueError`` if there are none.
    """
    if (file := weights.find("edits", own := fingerprint(G, "generator"))) is None:
        raise ValueError(f"G: expected a generator with shipped edits, got {own}; find your own with "
                         "`latentlab edits sample` and `edits find`, or with latentlab.editing.lab")  # fmt: skip
    tensors, metadata = weights.read_weights(file)
    return edits_from_tensors(tensors, metadata, G)


def edits_to_tensors(edits: Mapping[str, Edit], G: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata for a file of weights."""
    packed = {name: pack_edit(edit, G) for name, edit in edits.items()}
    tensors = {f"{name}.{key}": t for name, (held, _) in packed.items() for key, t in held.items()}
    return tensors, {"edits": {name: metadata["edit"] for name, (_, metadata) in packed.items()}}


def edits_from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], G: nn.Module) -> dict[str, Edit]:
    """The edits that ``edits_to_tensors`` packed."""
    found = Edits()
    for name, chain in metadata["edits"].items():
        own = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
        found[name] = unpack_edit(own, chain, G)
    return found
