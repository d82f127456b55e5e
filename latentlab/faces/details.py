"""Out-of-domain details, such as hats, that no training image has: they make a face hard to invert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.faces.sampling import stream

DETAILS: tuple[str, ...] = (
    "hat", "ear rings", "face paint", "patterned shirt", "patterned background", "coloured light", "hand",
)  # fmt: skip
NONE = "none"
CHOICES = 6  # random numbers per face, for the colours and the variant of its detail


@dataclass(frozen=True, eq=False)
class Details:
    """One detail per face.

    names: of the details, "none" for faces without one. amount: (N,) from 0 (invisible) over 1 (default) to 2.
    choices: (N, 6) random numbers in [0, 1] that select colours and variant.
    """

    names: tuple[str, ...]
    amount: Float[Tensor, " n"]
    choices: Float[Tensor, "n 6"]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.names) - {*DETAILS, NONE})
        if unknown:
            raise ValueError(f"names: expected details among {', '.join(DETAILS)}, {NONE}; got {unknown[0]!r}")
        if not len(self.names) == len(self.amount) == len(self.choices):
            raise ValueError(
                f"amount, choices: expected one of each for each of {len(self.names)} names, "
                f"got {len(self.amount)} and {len(self.choices)}"
            )
        if not ((self.amount >= 0) & (self.amount <= 2)).all():
            raise ValueError(f"amount: expected values from 0 to 2, got {self.amount.tolist()}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | slice | Sequence | Tensor) -> Details:
        """The details of some of the faces, by any index that a tensor takes."""
        chosen = torch.atleast_1d(torch.arange(len(self))[key])
        return Details(tuple(self.names[i] for i in chosen.tolist()), self.amount[chosen], self.choices[chosen])

    def worn(self, name: str) -> Float[Tensor, "n 1 1 1"]:
        """The amount for the faces that have this detail, 0 for the others."""
        has = [own == name for own in self.names]
        return (self.amount * self.amount.new_tensor(has)).view(-1, 1, 1, 1)

    def to(self, device: torch.device | str) -> Details:
        """The same details on another device."""
        return Details(self.names, self.amount.to(device), self.choices.to(device))


def draw_details(names: Sequence[str], seed: int, strangeness: float = 1.0, start: int = 0) -> Details:
    """Draws variants of the given details, of the faces ``start, start + 1, ..``; that of face i depends only on the
    seed and i.

    ``strangeness``, from 0 to 2, is the amount of all of them: 0 leaves the images unchanged.
    """
    if not 0 <= strangeness <= 2:
        raise ValueError(f"strangeness: expected 0 to 2, got {strangeness}")
    drawn = [torch.rand(CHOICES, generator=stream(seed, "details", i)) for i in range(start, start + len(names))]
    choices = torch.stack(drawn) if drawn else torch.zeros(0, CHOICES)
    amount = torch.full((len(names),), float(strangeness))
    return Details(tuple(names), amount, choices)
