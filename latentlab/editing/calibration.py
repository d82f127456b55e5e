"""What an edit does to a generator's samples, and edits whose strength 1 is one measured standard deviation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor, nn

from latentlab.editing.edit import Edit, State, apply_edit
from latentlab.editing.samples import Read, Reader, Samples, draw_samples, reader_of
from latentlab.spaces import fingerprint

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Effect:
    """What an edit of one ``strength`` does to what is read from samples of a generator.

    mean, scatter: (K,), mean and standard deviation over the samples of how far each reading moves, in standard
    deviations of the reading over unedited samples, which are ``std``, (K,), in the readings' own units. A straight
    line cannot do without the scatter: one step does different things to different faces.
    """

    names: tuple[str, ...]
    mean: Float[Tensor, " k"]
    scatter: Float[Tensor, " k"]
    std: Float[Tensor, " k"]
    strength: float

    def table(self) -> "pandas.DataFrame":
        """A row for each attribute, those that move most first."""
        import pandas

        table = pandas.DataFrame({"mean": self.mean.tolist(), "scatter": self.scatter.tolist()}, index=self.names)
        return table.sort_values("mean", key=abs, ascending=False)


@torch.no_grad()
def measure_effect(
    edit: Edit,
    G: nn.Module,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    *,
    strength: float = 1.0,
    samples: Samples | None = None,
    n: int = 64,
    seed: int = 0,
) -> Effect:
    """What the edit does to ``n`` samples of ``G`` as ``read`` sees it, by default the losses' network, binary factors
    as probabilities. samples: codes and readings by the same ``read``; 1,000 are drawn unless given."""
    probe = _Probe(edit, G, reader_of(read, names, like=G.w_avg), samples, n, seed)
    change = probe.change(strength)
    return Effect(probe.reader.names, change.mean(0), change.std(0), probe.samples.std, strength)


@dataclass(frozen=True, eq=False)
class Calibrated(Edit):
    """``edit`` at ``scale`` times the strength; made by ``calibrate``, which measures what that does.

    fingerprint: of the part of the generator that it was measured with, by ``fingerprint_for``; another is refused.
    """

    edit: Edit
    scale: float
    fingerprint: str
    std: float
    unit: str
    source: str

    name = property(lambda self: self.edit.name)
    space = property(lambda self: self.edit.space)
    layers = property(lambda self: self.edit.layers)

    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        if (found := fingerprint_for(self.edit, G)) != self.fingerprint:
            raise ValueError(f"edit {self.name!r}: expected a generator {self.fingerprint}, with which it was "
                             f"calibrated, got {found}; find the edit again for this generator")  # fmt: skip
        return self.edit(state, self.scale * strengths, G)


def fingerprint_for(edit: Edit, G: nn.Module) -> str:
    """The fingerprint of what an edit depends on: the mapping network, and for one of S also the affine layers."""
    return fingerprint(G, "styles" if edit.space == "S" else "mapping")


@torch.no_grad()
def calibrate(
    edit: Edit,
    G: nn.Module,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    *,
    attribute: str | None = None,
    samples: Samples | None = None,
    n: int = 64,
    limit: float = 8.0,
    seed: int = 0,
) -> Calibrated:
    """The edit with its strength put to a scale on which 1 moves the attribute by one standard deviation on average.

    Measured on ``n`` samples at +1 and -1, of which both count alike. A sample counts for a sign if it has room there:
    if one standard deviation more, or less, is still within the range of the samples' readings. Many factors have most
    samples at an end, such as a beard of 0 or glasses that are on or off: no edit can shave them further, and an
    average over all would call a sound step short. ``source`` says how many counted for either sign.

    attribute: what is measured, by default the edit's name. read: see ``measure_effect``. limit: largest scale that is
    tried; ``ValueError`` where the attribute does not move by one standard deviation within it.
    """
    reader = reader_of(read, names, like=G.w_avg)
    attribute = attribute or edit.name
    k = reader.column(attribute)
    probe = _Probe(edit, G, reader, samples, n, seed)
    std, before, range_ = float(probe.samples.std[k]), probe.before[:, k], probe.samples.of(attribute)
    room = {+1: before + std <= range_.max(), -1: before - std >= range_.min()}
    room = {sign: rows for sign, rows in room.items() if bool(rows.any())}

    def gap(scale: float) -> float:
        moved = [float(sign * probe.change(sign * scale)[rows, k].mean()) for sign, rows in room.items()]
        return sum(moved) / len(moved) - 1

    scale = _first_root(gap, limit)
    if scale is None:
        raise ValueError(f"edit {edit.name!r}: expected that it moves {attribute} by one standard deviation "
                         f"({std:.3g}), got {gap(limit) + 1:.2f} of it at strength {limit:g}")  # fmt: skip
    counted = ", ".join(f"{int(rows.sum())} with room {'upwards' if sign > 0 else 'downwards'}"
                        for sign, rows in room.items())  # fmt: skip
    source = f"{edit.source}; calibrated by {scale:.3g} on {len(before)} samples ({counted})"
    unit = f"standard deviations of {attribute}, measured"
    return Calibrated(edit, scale, fingerprint_for(edit, G), std, unit, source)


def _first_root(gap: Callable[[float], float], limit: float) -> float | None:
    """Where ``gap`` first exceeds 0 in (0, limit], on a grid that doubles, to 1 %; None if nowhere."""
    low, high = 0.0, min(0.25, limit)
    while gap(high) < 0:
        if high >= limit:
            return None
        low, high = high, min(2 * high, limit)
    return brentq(lambda s: gap(s) if s > 0 else -1.0, low, high, xtol=0.01 * high, rtol=0.01)


class _Probe:
    """Samples of a generator, and how far an edit moves what is read from them."""

    def __init__(
        self, edit: Edit, G: nn.Module, reader: Reader, samples: Samples | None, n: int, seed: int
    ) -> None:
        self.edit, self.G, self.reader = edit, G, reader
        self.samples = samples or draw_samples(G, reader, n=1_000, seed=seed)
        self.samples.standardised()  # refuses readings that do not vary
        self.samples.check(reader, G)
        self.w = self.samples.w[:n].to(G.w_avg)
        self.before = self.samples.readings[:n]

    def change(self, strength: float) -> Float[Tensor, "n k"]:
        """How far each reading moves, in standard deviations."""
        after = []
        for w in self.w.split(32):
            strengths = torch.full((len(w),), float(strength)).to(w)
            state = apply_edit(self.edit, State(self.G.broadcast(w)), strengths, self.G)
            after.append(self.reader(state.draw(self.G)).float().cpu())
        return (torch.cat(after) - self.before) / self.samples.std
