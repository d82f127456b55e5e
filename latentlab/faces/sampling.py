"""Random faces by seed: correlated factors from a Gaussian copula, drawn in blocks."""

from __future__ import annotations

import hashlib
from functools import cache

import torch
from torch import Tensor

from latentlab.faces.factors import COLUMN, IDENTITY, NAMES, TABLE, Factors

BLOCK = 64  # faces drawn from one random stream; what a seed draws depends on it

# Correlations of the latent Gaussians, as in FFHQ. Those of the factors themselves are a little weaker.
CORRELATIONS: dict[tuple[str, str], float] = {
    ("age", "hair_grey"): 0.8,
    ("age", "glasses"): 0.55,
    ("glasses", "hair_grey"): 0.44,
    ("beard", "hair_length"): -0.65,
    ("smile", "mouth_open"): 0.65,
    ("hair_tone", "skin_tone"): -0.6,
    ("iris_colour", "skin_tone"): -0.55,
    ("iris_colour", "hair_tone"): 0.4,
    ("hair_red", "skin_tone"): -0.4,
    ("age", "hair_length"): -0.25,
    ("hair_length", "fringe"): 0.3,
    ("beard", "brow_thickness"): 0.35,
    ("beard", "jaw_width"): 0.3,
    ("gaze_x", "yaw"): 0.3,
}

# Marginals whose shape is a clamped normal: name -> (mean, standard deviation).
_NORMAL = {
    "yaw": (0, 14), "pitch": (0, 5.5), "roll": (0, 3.5), "smile": (0.28, 0.48), "gaze_x": (0, 0.4),
    "gaze_y": (0, 0.35), "light_azimuth": (0, 35), "light_elevation": (25, 14), "background_a": (0, 0.35),
    "background_b": (0, 0.4), "shirt_a": (0, 0.5), "shirt_b": (0, 0.5),
}  # fmt: skip
# Marginals of the form clamp((u - start) / (1 - start), 0, 1) ** power, u uniform: name -> (start, power).
_RAMP = {
    "iris_colour": (0, 1.8), "skin_tone": (0, 1.15), "hair_tone": (0, 1.3), "hair_red": (0.78, 1),
    "hair_grey": (0.72, 0.8), "mouth_open": (0.25, 2), "age": (0, 1.2), "beard": (0.6, 0.8),
    "hair_length": (0, 1), "fringe": (0.35, 1), "background_light": (0, 1), "shirt_light": (0, 1),
}  # fmt: skip
_GLASSES_SHARE = 0.3
_SHAPE_STD = 0.45


def stream(seed: int, *names: object) -> torch.Generator:
    """A CPU generator for one named use of a seed; different names give unrelated streams."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def sample_factors(n: int, seed: int, entanglement: float = 1.0, start: int = 0) -> Factors:
    """Draws the faces ``start .. start + n - 1`` of a seed.

    Face i of a seed does not depend on ``n`` or ``start``. ``entanglement`` scales the correlations of the factors
    (0 independent, 1 as in ``CORRELATIONS``, at most 1.2) without changing their marginal distributions.
    """
    if n < 1 or start < 0:
        raise ValueError(f"n, start: expected n >= 1 and start >= 0, got n={n}, start={start}")
    if not 0 <= entanglement <= 1.2:
        raise ValueError(f"entanglement: expected 0 to 1.2, got {entanglement}")
    root = _correlation_root(entanglement)
    first, last = start // BLOCK, (start + n - 1) // BLOCK
    blocks = [torch.randn(BLOCK, len(TABLE), generator=stream(seed, "factors", b)) for b in range(first, last + 1)]
    offset = start - first * BLOCK
    gaussian = torch.cat(blocks)[offset : offset + n].double() @ root.T
    return Factors(_marginals(gaussian).float())


def _correlation_root(entanglement: float) -> Tensor:
    """A matrix with rows of unit length whose Gram matrix is the correlation matrix, (K, K) float64."""
    corr = torch.eye(len(TABLE), dtype=torch.float64)
    for (a, b), value in CORRELATIONS.items():
        i, j = COLUMN[a], COLUMN[b]
        corr[i, j] = corr[j, i] = entanglement * value
    # The pairs listed may not form a positive definite matrix: clip its eigenvalues, restore the unit diagonal.
    eigenvalues, vectors = torch.linalg.eigh(corr)
    root = vectors * eigenvalues.clamp(min=1e-3).sqrt() @ vectors.T
    return root / root.norm(dim=1, keepdim=True)


def _marginals(gaussian: Tensor) -> Tensor:
    """Maps standard normals (N, K) to factors, each with its own distribution."""
    uniform = torch.special.ndtr(gaussian)
    columns = []
    for i, (name, factor) in enumerate(zip(NAMES, TABLE, strict=True)):
        if name in _RAMP:
            start, power = _RAMP[name]
            column = ((uniform[:, i] - start) / (1 - start)).clamp(0, 1) ** power
        elif factor.kind == "binary":
            column = (uniform[:, i] > 1 - _GLASSES_SHARE).double()
        else:
            mean, std = _NORMAL.get(name, (0, _SHAPE_STD))
            column = (mean + std * gaussian[:, i]).clamp(factor.low, factor.high)
        columns.append(column)
    return torch.stack(columns, dim=1)


def in_other_states(people: Factors, seed: int, start: int = 0) -> Factors:
    """The same people with the state and scene of the faces ``start .. start + len(people) - 1`` of a seed."""
    others = sample_factors(len(people), seed=seed, start=start)
    return Factors(torch.where(IDENTITY, people.values, others.values))


@cache
def factor_std() -> Tensor:
    """Standard deviations of the factors over the face world, (K,), those of binary factors included."""
    return sample_factors(20_000, seed=777_777).values.std(0)
