"""Sets of faces: training faces by seed, and fixed test faces whose edits have a known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.faces.details import DETAILS, NONE, Details, draw_details
from latentlab.faces.factors import TABLE, Factors, column
from latentlab.faces.renderer import render
from latentlab.faces.sampling import in_other_states, sample_factors

REAL_SIZE = 120
# Beyond every seed that training may use, so that no test face is ever trained on.
_REAL_SEED = 2**62 + 19
_MAX_TRAIN_SEED = 2**62


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Rendered faces with their ground truth.

    images: (N, 3, R, R) in [-1, 1]. factors: that they were rendered from. wear: their out-of-domain details.
    """

    images: Float[Tensor, "n 3 r r"]
    factors: Factors
    wear: Details

    def __len__(self) -> int:
        return len(self.factors)

    def __getitem__(self, key: int | slice | Sequence | Tensor) -> FaceSet:
        """Some of the faces, by any index that a tensor takes; a single index gives a set of one."""
        chosen = torch.atleast_1d(torch.arange(len(self))[key])
        return FaceSet(self.images[chosen], self.factors[chosen], self.wear[chosen])

    @property
    def details(self) -> tuple[str, ...]:
        """The name of each face's out-of-domain detail, "none" for clean faces."""
        return self.wear.names

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[-1]

    @property
    def clean(self) -> FaceSet:
        """The faces without a detail."""
        return self[[i for i, name in enumerate(self.details) if name == NONE]]

    @property
    def strange(self) -> FaceSet:
        """The faces with a detail."""
        return self[[i for i, name in enumerate(self.details) if name != NONE]]

    def render(self, factors: Factors | None = None, resolution: int | None = None) -> Float[Tensor, "n 3 r r"]:
        """Renders the same faces with the same details, with other factors or at another resolution."""
        return render(factors or self.factors, resolution or self.resolution, details=self.wear)

    def masks(self) -> dict[str, Float[Tensor, "n 1 r r"]]:
        """Fraction of each pixel, in [0, 1], that shows each part of the image."""
        return render(self.factors, self.resolution, masks=True, details=self.wear)[1]

    def truth(self, **steps: float | int | Tensor) -> FaceSet:
        """The ground truth of an edit: ``real.truth(smile=0.5)`` renders the faces with 0.5 added to each smile.

        Details are kept. Sums are clamped to the factor's range: ``.factors`` of the result holds the values reached.
        """
        changes = {}
        for name, by in steps.items():
            factor = TABLE[column(name)]
            # A clamp keeps NaN, which Factors then refuses.
            changes[name] = (self.factors[name] + by).clamp(factor.low, factor.high)
        return self.with_factors(**changes)

    def with_factors(self, **values: float | int | Tensor) -> FaceSet:
        """Renders the same faces with some factors set: ``real.with_factors(glasses=1)``."""
        factors = self.factors.replace(**values)
        return FaceSet(self.render(factors), factors, self.wear)


def real_set(resolution: int = 64, strangeness: float = 1.0, entanglement: float = 1.0) -> FaceSet:
    """The 120 fixed test faces, held out of all training: 40 clean ones, 80 with an out-of-domain detail.

    Every third face is clean and the details alternate, so that any slice of the set has some of each.
    strangeness: amount of the details, from 0 (none) over 1 (default) to 2. entanglement: scale of the correlations
    between factors (0: independent), see ``sample_factors``.
    """
    factors = sample_factors(REAL_SIZE, _REAL_SEED, entanglement)
    names = [NONE if i % 3 == 0 else DETAILS[(i - i // 3 - 1) % len(DETAILS)] for i in range(REAL_SIZE)]
    wear = draw_details(names, _REAL_SEED, strangeness)
    return FaceSet(render(factors, resolution, details=wear), factors, wear)


def plain_faces(n: int) -> FaceSet:
    """The first ``n`` clean faces of the real set whose factors leave room for edits.

    They have no glasses, are not old, not turned far, and neither smile nor frown strongly.
    """
    clean = real_set().clean
    factors = clean.factors
    free = (factors["glasses"] == 0) & (factors["age"] < 0.5) & (factors["yaw"].abs() < 15)
    free &= (factors["smile"] > -0.4) & (factors["smile"] < 0.4)
    return clean[torch.nonzero(free)[:n, 0]]


def training_factors(n: int, seed: int, start: int = 0, entanglement: float = 1.0) -> Factors:
    """The faces ``start .. start + n - 1`` of a training seed: where every training gets its faces from.

    As ``sample_factors``, but the seeds of the test faces are refused with a ``ValueError``.
    """
    return sample_factors(n, _check_training_seed(seed), entanglement, start)


def training_states(people: Factors, seed: int, start: int = 0) -> Factors:
    """The same people in the states and scenes of the faces ``start .. `` of a training seed; see above."""
    return in_other_states(people, _check_training_seed(seed), start)


def training_details(n: int, seed: int, start: int = 0, *, share: float = 0.2) -> Details:
    """Out-of-domain details of the faces ``start .. start + n - 1`` of a training seed.

    A ``share`` of the faces, spread evenly, wears the details in turn, the others none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected 0 to 1, got {share}")
    counts = [math.floor(share * i) for i in range(start, start + n + 1)]  # strange faces before face i
    names = [DETAILS[k % len(DETAILS)] if after > k else NONE for k, after in pairwise(counts)]
    return draw_details(names, _check_training_seed(seed), start=start)


def _check_training_seed(seed: int) -> int:
    if not 0 <= seed < _MAX_TRAIN_SEED:
        raise ValueError(f"training seed: expected 0 to 2**62 - 1, got {seed}; the seeds from 2**62 on are those of "
                         "the test faces, which no training may see")  # fmt: skip
    return seed
