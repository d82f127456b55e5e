"""What edits are worth: on inverted faces against the rendered truth, and on a generator's own samples.

Every edit is measured at matched strength: on each picture, the strength at which the attribute judge sees the factor
move as far as it was asked to, or is nearly as sure of a switch as it is of the truth. On samples nothing is inverted
and no truth is known, so their numbers show the share of an edit's faults that is not the inversion's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, State
from latentlab.evaluation.inversions import Judges, against_truth
from latentlab.faces import NAMES, TABLE, FaceSet, factor_std
from latentlab.inversion.result import Inversion
from latentlab.metrics.edits import SWITCH_LOGIT, switch_target
from latentlab.networks.attributes import read_factors
from latentlab.seeds import stream

AMOUNT = 1.5  # of a factor's standard deviations over the face world, by which each picture is to change
LIMIT = 4  # largest strength that is tried, in multiples of the one that should do by the edit's own account
CLOSE = 0.02  # of the asked change: a reading as near as that to its target is a match
REFINEMENTS = 6
BATCH = 20

Values = dict[str, Float[Tensor, " n"]]
Draw = Callable[[Tensor, Tensor], Tensor]  # strengths and row numbers to pictures


@dataclass(frozen=True, eq=False)
class Request:
    """What each of N pictures is asked for: a change of one factor, ``change`` (N,) in the factor's own unit.

    target: what the attribute judge is to read, (N,), on the scale of ``EditTask.levels``. usable: whether the picture
    has room for at least half of the change, and the judge sees at least a quarter of it in the truth. truth: the faces
    rendered with it, None for samples.
    """

    factor: str
    change: Float[Tensor, " n"]
    target: Float[Tensor, " n"]
    usable: Bool[Tensor, " n"]
    truth: FaceSet | None = None


@dataclass(frozen=True, eq=False)
class EditTask:
    """N pictures to edit: inversions of ``faces``, or, without faces, a generator's own samples (``own_samples``).

    amount: of each factor's standard deviations over the face world. Pictures that have room both ways are changed
    upwards and downwards in turn, others where they have room; a binary factor is switched.
    """

    inversion: Inversion
    judges: Judges
    faces: FaceSet | None = None
    amount: float = AMOUNT
    _requests: dict[str, Request] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.inversion)

    @cached_property
    def before(self) -> Float[Tensor, "n k"]:
        """What the attribute judge reads in the unedited pictures, (N, K)."""
        return self.read(self.inversion.image)

    @cached_property
    def given(self) -> Float[Tensor, "n k"]:
        """What it reads in the given faces, (N, K)."""
        return self.read(self.faces.images.to(self.before.device))

    def read(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n k"]:
        """The attribute judge's readings in the factors' own units, (N, K)."""
        return read_factors(self.judges.attributes, images.clamp(-1, 1))

    def levels(self, readings: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Readings on a scale without ends, on which strengths are matched: logits for binary factors.

        Probabilities are at 0 or 1 for a wide range of strengths, of which the least is meant.
        """
        return torch.where(self.judges.attributes.binary, readings.logit(eps=1e-6), readings)

    def column(self, factor: str) -> int:
        """The judge's column of a factor; ``ValueError`` if it reads none of that name."""
        names = self.judges.attributes.names
        if factor not in names:
            raise ValueError(f"factor: expected one that the attribute judge reads, got {factor!r}; it reads "
                             f"{', '.join(names)}")  # fmt: skip
        return names.index(factor)

    def request(self, factor: str) -> Request:
        """What the pictures are asked for, made once for each factor."""
        if factor not in self._requests:
            k = self.column(factor)
            made = self._of_samples(factor, k) if self.faces is None else self._of_faces(factor, k)
            self._requests[factor] = made
        return self._requests[factor]

    def _of_faces(self, factor: str, k: int) -> Request:
        value = self.faces.factors[factor]
        change, room = _change(value, factor, self.amount)
        truth = self.faces.with_factors(**{factor: value + change})
        seen = self.levels(self.read(truth.images.to(self.before.device)))[:, k]
        # An inversion rarely reads as its face does, so what is matched is the change; a switch is on or off.
        moved = seen - self.given[:, k]
        target = self.before[:, k] + moved
        if _is_binary(factor):
            moved, target = seen, switch_target(seen)
        visible = (moved.cpu() / change >= 0.25) & ((truth.images - self.faces.images).flatten(1).abs().amax(1) > 0)
        return Request(factor, change, target, room & visible, truth)

    def _of_samples(self, factor: str, k: int) -> Request:
        value = self.before[:, k].cpu()
        if _is_binary(factor):
            change = 1 - 2 * value.round()
            room = torch.ones_like(value, dtype=torch.bool)
            return Request(factor, change, SWITCH_LOGIT * change.to(self.before), room)
        change, room = _change(value, factor, self.amount)
        return Request(factor, change, (value + change).to(self.before), room)


def _is_binary(factor: str) -> bool:
    return TABLE[NAMES.index(factor)].kind == "binary"


def _change(value: Float[Tensor, " n"], factor: str, amount: float) -> tuple[Tensor, Tensor]:
    """The change of each value within the factor's range, (N,), and whether it is at least half of the amount."""
    entry, std = TABLE[NAMES.index(factor)], float(factor_std()[NAMES.index(factor)])
    if entry.kind == "binary":
        return 1 - 2 * value.round(), torch.ones_like(value, dtype=torch.bool)
    step = amount * std
    up, down = entry.high - value, value - entry.low
    in_turn = torch.where(torch.arange(len(value)) % 2 == 0, 1.0, -1.0).to(value)
    sign = torch.where((up >= step) & (down >= step), in_turn, torch.where(up >= down, 1.0, -1.0).to(value))
    change = sign * torch.minimum(torch.where(sign > 0, up, down).clamp(min=0), torch.full_like(value, step))
    return change, change.abs() >= step / 2


@torch.no_grad()
def own_samples(G: nn.Module, n: int, *, seed: int = 0) -> Inversion:
    """Samples of a generator as exact inversions of themselves (constant noise, psi 1)."""
    z = torch.randn(n, G.z_dim, generator=stream(seed, "edited samples"))
    state = State(G.broadcast(G.mapping(z.to(G.w_avg))))
    return Inversion(state, torch.cat([state[rows].draw(G) for rows in torch.arange(n).split(BATCH)]), G, "samples")


@dataclass(frozen=True, eq=False)
class Measured:
    """What an edit did to N pictures: ``values``, (N,) each, NaN where there is none; see ``measure_edit``.

    change: (N, K), signed change of every reading in standard deviations of the factors over the face world, positive
    the way of the asked change; NaN for pictures without a match.
    """

    values: Values
    change: Float[Tensor, "n k"]


@torch.no_grad()
def measure_edit(task: EditTask, edit: Edit, factor: str, *, most: float = math.inf) -> Measured:
    """Measures an edit of a factor on the pictures of a task, at matched strength.

    most: the largest strength that the edit takes, of either sign.

    - matched: 1 where a strength of up to ``LIMIT`` times the edit's own, and of at most ``most``, brings the judge's
      reading to its target, 0 where none does. The following are of matched pictures alone.
    - strength: in units of what should do by the edit's own account (change / ``edit.std``); 1 is well calibrated.
    - reach: of all usable pictures, the share of the asked change that the judge reads at that nominal strength.
    - the values of ``grade_pictures``.
    """
    request = task.request(factor)
    std = edit.std if edit.std > 0 else float(factor_std()[NAMES.index(factor)])  # NaN where it is not known
    nominal = request.change.to(task.before) / std
    found = _Search(lambda s, rows: task.inversion[rows].edit(edit, s), task, request, nominal, most)
    values, change = grade_pictures(task, factor, found.pictures, found.readings)
    values = {"strength": found.strengths / nominal} | values
    values = {key: value.where(found.matched, torch.nan) for key, value in values.items()}
    share = found.matched.to(nominal).where(found.usable, torch.nan)
    return Measured(
        {"matched": share, "reach": found.reach} | values, change.where(found.matched[:, None], torch.nan)
    )


@torch.no_grad()
def grade_pictures(
    task: EditTask, factor: str, pictures: Float[Tensor, "n 3 r r"], readings: Float[Tensor, "n k"] | None = None
) -> tuple[Values, Float[Tensor, "n k"]]:
    """Values of edited pictures, (N,) each, and the signed changes of ``Measured``; NaN for those that are not usable.

    - gain, residual, outside, error: against the truth (``evaluation.inversions.against_truth``); of faces alone.
    - leakage, leakage max: mean and largest absolute change of the other factors, by the judge, in standard deviations
      over the face world. floor: the mean that it reads when the truth itself is edited; of faces alone.
    - identity: similarity of the picture before and after. identity floor: that of the face and its edited truth, and
      identity of target: that of the given face and the edited picture; of faces alone.
    """
    request, k = task.request(factor), task.column(factor)
    readings = task.read(pictures) if readings is None else readings
    std, sign = factor_std().to(readings), request.change.sign().to(readings)
    change = (readings - task.before) / std * sign[:, None]
    others = torch.arange(change.shape[1], device=change.device) != k
    values = {"leakage": change[:, others].abs().mean(1), "leakage max": change[:, others].abs().amax(1)}

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return 1 - task.judges.identity(a.clamp(-1, 1), b.clamp(-1, 1))

    if request.truth is not None:
        x, y = (faces.images.to(pictures) for faces in (task.faces, request.truth))
        values = against_truth(task.inversion.image, pictures, x, y) | values
        values["floor"] = ((task.read(y) - task.given) / std)[:, others].abs().mean(1)
        values |= {"identity floor": similarity(x, y), "identity of target": similarity(x, pictures)}
    values["identity"] = similarity(task.inversion.image, pictures)
    values = {key: value.where(request.usable.to(value.device), torch.nan) for key, value in values.items()}
    return values, change.where(request.usable.to(change.device)[:, None], torch.nan)


class _Search:
    """The strength of each picture at which the judge reads its target, and the picture drawn with it.

    1, 2 and 4 times the nominal strength bracket it, and regula falsi refines it, the gap at the end that stays halved
    (the Illinois rule, so that both ends move). Pictures that are near enough are not drawn again: an edit may cost a
    hundred backward passes a picture.
    """

    def __init__(
        self, draw: Draw, task: EditTask, request: Request, nominal: Float[Tensor, " n"], most: float
    ) -> None:
        self.draw, self.task, self.k, self.target = draw, task, task.column(request.factor), request.target
        self.pictures, self.readings = task.inversion.image.clone(), task.before.clone()
        self.strengths, self.usable = torch.zeros_like(nominal), request.usable.to(nominal.device)
        self.start = task.levels(task.before)[:, self.k] - self.target
        self.best = self.start.abs()
        blank = torch.full_like(nominal, torch.nan)
        self.low, self.low_gap = torch.zeros_like(nominal), self.start.clone()
        self.high, self.high_gap, self.reach = blank.clone(), blank.clone(), blank.clone()
        self._bracket(nominal, most)
        for _ in range(REFINEMENTS):
            self._refine()

    @property
    def done(self) -> Bool[Tensor, " n"]:
        """Pictures whose reading is at the target, and those that are not asked for anything."""
        return ~self.usable | (self.best <= CLOSE * self.start.abs())

    @property
    def matched(self) -> Bool[Tensor, " n"]:
        """Pictures whose reading is at the target or passes it."""
        return self.usable & (self.done | ~self.high.isnan())

    def _bracket(self, nominal: Tensor, most: float) -> None:
        for factor in (m for m in (1, 2, 4, 8) if m <= LIMIT):
            rows = (~self.done & self.high.isnan() & (self.low.abs() < most)).nonzero()[:, 0]
            strengths = (factor * nominal[rows]).clamp(-most, most)
            gap = self._try(strengths, rows)
            if factor == 1:
                self.reach[rows] = 1 - gap / self.start[rows]
            crossed = gap.sign() != self.start[rows].sign()
            self.high[rows[crossed]], self.high_gap[rows[crossed]] = strengths[crossed], gap[crossed]
            self.low[rows[~crossed]], self.low_gap[rows[~crossed]] = strengths[~crossed], gap[~crossed]

    def _refine(self) -> None:
        rows = (~self.done & ~self.high.isnan()).nonzero()[:, 0]
        low, high, low_gap, high_gap = (x[rows] for x in (self.low, self.high, self.low_gap, self.high_gap))
        strengths = low + (low_gap / (low_gap - high_gap)).clamp(0.05, 0.95) * (high - low)
        gap = self._try(strengths, rows)
        before = gap.sign() == low_gap.sign()  # still on the side of the lower end
        self.low[rows], self.high[rows] = torch.where(before, strengths, low), torch.where(before, high, strengths)
        self.low_gap[rows] = torch.where(before, gap, low_gap / 2)
        self.high_gap[rows] = torch.where(before, high_gap / 2, gap)

    def _try(self, strengths: Tensor, rows: Tensor) -> Float[Tensor, " r"]:
        """Draws some pictures and keeps those that are nearer to their targets than before; the gaps that are left."""
        gaps = []
        for s, r in zip(strengths.split(BATCH), rows.split(BATCH), strict=True):
            if not len(r):
                return strengths
            drawn = self.draw(s, r)
            readings = self.task.read(drawn)
            gap = self.task.levels(readings)[:, self.k] - self.target[r]
            at = gap.abs() < 1.01 * self.best[r]  # of equally near ones the last: on a plateau, the least strength
            nearer = r[at]
            self.pictures[nearer], self.readings[nearer] = drawn[at], readings[at]
            self.strengths[nearer], self.best[nearer] = s[at], gap.abs()[at]
            gaps.append(gap)
        return torch.cat(gaps)
