"""Details that no training picture has, the counterpart of what makes a photograph hard to invert."""

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
CHOICES = 6  # random numbers that each detail may use for its colours and variants


@dataclass(frozen=True, eq=False)
class Details:
    """One detail per face: its name (or "none"), its amount (0 invisible, 1 default, 2) and its variant."""

    names: tuple[str, ...]
    amount: Float[Tensor, " n"]
    choices: Float[Tensor, "n 6"]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.names) - {*DETAILS, NONE})
        if unknown:
            raise ValueError(
                f"unknown detail {unknown[0]!r}; the known ones are: {', '.join(DETAILS)}, {NONE}"
            )
        if not len(self.names) == len(self.amount) == len(self.choices):
            raise ValueError(
                f"need one amount and one row of choices per name, got {len(self.names)} names, "
                f"{len(self.amount)} amounts and {len(self.choices)} rows"
            )
        if not ((self.amount >= 0) & (self.amount <= 2)).all():
            raise ValueError(f"the amount of a detail must be between 0 and 2, got {self.amount.tolist()}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | slice | Sequence | Tensor) -> Details:
        """Some of the rows, in the manner of a tensor."""
        rows = torch.atleast_1d(torch.arange(len(self))[key])
        return Details(tuple(self.names[i] for i in rows.tolist()), self.amount[rows], self.choices[rows])

    def worn(self, name: str) -> Float[Tensor, "n 1 1 1"]:
        """The amount where a face has this detail, 0 elsewhere."""
        has = [own == name for own in self.names]
        return (self.amount * self.amount.new_tensor(has)).view(-1, 1, 1, 1)

    def to(self, device: torch.device | str) -> Details:
        """The same details on another device."""
        return Details(self.names, self.amount.to(device), self.choices.to(device))


def draw_details(names: Sequence[str], seed: int, strangeness: float = 1.0) -> Details:
    """Variants by seed for the given details; row i depends on the seed and i only.

    ``strangeness`` between 0 and 2 scales all of them: 0 leaves the pictures as they are.
    """
    if not 0 <= strangeness <= 2:
        raise ValueError(f"strangeness must be between 0 and 2, got {strangeness}")
    rows = [torch.rand(CHOICES, generator=stream(seed, "details", i)) for i in range(len(names))]
    choices = torch.stack(rows) if rows else torch.zeros(0, CHOICES)
    amount = torch.full((len(names),), float(strangeness))
    return Details(tuple(names), amount, choices)
