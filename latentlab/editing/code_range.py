"""How far an edit takes codes from where the generator has its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentlab.editing.edit import State
from latentlab.editing.stylespace import style_statistics
from latentlab.priors import pn_norm
from latentlab.seeds import stream
from latentlab.spaces import Statistics, statistics_for

FAR = 2.0  # times the largest norm among the samples, and times the norm before the edit

Space = Literal["PN+", "S"]


@dataclass(frozen=True)
class Departure:
    """Norms of N codes before and after an edit, (N,) each, in ``space``; ``largest`` is that among ``n`` samples."""

    space: Space
    before: Float[Tensor, " n"]
    after: Float[Tensor, " n"]
    largest: float
    n: int

    @property
    def left(self) -> Bool[Tensor, " n"]:
        """Whether the edit took each code out of the generator's range, (N,): its norm is ``FAR`` times the largest of
        the samples, and the edit made it at least ``FAR`` times what it was."""
        return (self.after > FAR * self.largest) & (self.after > FAR * self.before)

    def describe(self) -> str:
        """A sentence on the pictures that left the range; empty where none did."""
        if not bool(self.left.any()):
            return ""
        norm, n, one = f"{float(self.after[self.left].max()):.3g}", len(self.left), int(self.left.sum()) == 1
        who = "the picture" if n == 1 else f"{int(self.left.sum())} of {n} pictures"
        who += " leaves" if one else " leave"
        size = f"its code is {norm}" if one else f"their codes is up to {norm}"
        return (f"{who} the generator's range: the {self.space} norm of {size}, that of {self.n:,} samples at most "
                f"{self.largest:.3g}; a smaller strength stays nearer")  # fmt: skip

    @staticmethod
    def join(parts: Sequence["Departure"]) -> "Departure":
        """Those of several batches of one edit as one."""
        before, after = (torch.cat([getattr(part, name) for part in parts]) for name in ("before", "after"))
        return replace(parts[0], before=before, after=after)


class CodeRange:
    """Where a generator has its own codes: the largest norm among ``n`` samples, in each space.

    The norm of a code is its mean squared coordinate in standard deviations, about 1 for own codes: in PN+
    (``priors.pn_norm``), or in S over all channels for a state that holds styles, which its picture is drawn from.
    """

    @torch.no_grad()
    def __init__(
        self, G: nn.Module, *, statistics: Statistics | None = None, n: int = 1_000, seed: int = 0
    ) -> None:
        self.G, self.n, self.statistics = G, n, statistics or statistics_for(G)
        self.statistics.check(G)
        self.styles = style_statistics(G, self.statistics)
        w = G.mapping(torch.randn(n, G.z_dim, generator=stream(seed, "code range")).to(G.w_avg))
        own = State(G.broadcast(w))
        self.largest: dict[Space, float] = {space: float(self.norms(own, space).max()) for space in ("PN+", "S")}

    @torch.no_grad()
    def norms(self, state: State, space: Space) -> Float[Tensor, " n"]:
        """The norm of each code in a space, (N,)."""
        if space == "PN+":
            return pn_norm(state.w_plus, self.statistics)
        styles = self.G.styles(state.w_plus) if state.styles is None else state.styles
        return torch.cat(self.styles.standardise(styles), 1).square().mean(1)

    def departure(self, before: State, after: State) -> Departure:
        """How far an edit took codes, in the space that the edited pictures are drawn from."""
        space: Space = "PN+" if after.styles is None else "S"
        norms = (self.norms(state, space).cpu() for state in (before, after))
        return Departure(space, *norms, self.largest[space], self.n)
