"""Edits of single attributes along the sparse directions of two branches (Yin et al. 2022, arXiv 2204.12530)."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from latentlab import weights
from latentlab.editing.edit import Direction
from latentlab.editing.shipped import Edits
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint

ENCODERS = ("e4e", "psp")  # those for whose codes two branches are shipped


class MissingWeights(ValueError):
    """What was asked for needs weights that are not shipped with this generator."""


def sparse_edits(network: TwoBranch, source: str = "two branches") -> dict[str, Direction]:
    """The style branch as edits by the name of their attribute: directions of W+, (L, D) each (Eq. 1).

    A strength of 1 is a target of one standard deviation; ``std`` has it in the attribute's own unit. An inversion by
    "two_branch" answers such an edit with both branches, in one pass; any other one with the style branch alone, which
    changes the codes (Eq. 2).
    """
    return _edits(network.config, network.style_directions.detach(), source)


def sparse_edits_for(G: nn.Module, encoder: str = "e4e") -> dict[str, Direction]:
    """The edits of the two branches that are shipped with a generator for the codes of an encoder, "e4e" or "psp".

    ``MissingWeights``, a ``ValueError``, where none are; see ``sparse_edits`` for strengths.

    >>> import latentlab as ll
    >>> G = ll.load("faces-64")
    >>> edits = ll.sparse_edits_for(G)  # doctest: +SKIP
    >>> inv = ll.invert(images, G, "two_branch", base=ll.invert(images, G, "e4e"))  # doctest: +SKIP
    >>> inv.edit(edits["smile"], 1.5)  # doctest: +SKIP
    """
    if encoder not in ENCODERS:
        raise ValueError(f"encoder: expected one of {', '.join(ENCODERS)}, got {encoder!r}")
    if (file := weights.find(f"two_branch_{encoder}", mark := fingerprint(G, "generator"))) is None:
        raise MissingWeights(f"G: expected a generator with shipped two branches for codes of {encoder}, got {mark}; "
                             f"train them with `latentlab train two_branch --encoder {encoder}`")  # fmt: skip
    tensors, metadata = weights.read_weights(file)
    vectors = tensors["style_directions"].to(G.w_avg)
    return _edits(TwoBranchConfig.from_dict(metadata["config"]), vectors, f"two branches on codes of {encoder}")


def _edits(config: TwoBranchConfig, vectors: Float[Tensor, "k layers dim"], source: str) -> dict[str, Direction]:
    std = config.std or [math.nan] * len(config.attributes)
    named = zip(config.attributes, vectors, std, strict=True)
    return Edits({name: Direction(name, vector, s, source=source) for name, vector, s in named})
