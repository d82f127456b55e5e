"""Checks of the exercises of notebook 09."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentlab import faces
from latentlab.alignment import Landmarks, crop_corners
from latentlab.exercises import NUMBER, expect, expect_close, expect_that
from latentlab.faces import FaceSet
from latentlab.metrics import psnr

LIMITS = {"reading, sd": (">", 1), "PSNR": (">", 27), "SSIM": (">", 0.93), "perceptual": ("<", 0.04),
          "identity": (">", 0.95)}  # fmt: skip
POINTS = (
    [(80, 90), (120, 90), (84, 134), (116, 134)],  # upright
    [(80, 90), (120, 80), (95, 150), (125, 145)],  # tilted
)


def check_noise(sigma: Any, y: Tensor, noise: Tensor, shifted: Tensor) -> Tensor:
    """The strength of noise that has the mean PSNR of ``shifted``, to 0.1 dB; the noisy pictures are returned."""
    sigma = _number(sigma, "sigma")
    expect_that(sigma > 0, f"sigma: expected a positive number, got {sigma:.3g}.")
    noisy = (y + sigma * noise).clamp(-1, 1)
    hint = "Pictures go from -1 to 1, so the peak of Eq. (1) is 2, and the clamp takes some of the noise away: search "
    hint += "near what Eq. (1) gives."
    got, wanted = (float(psnr(x, y).mean()) for x in (noisy, shifted))
    expect_close(got, wanted, "PSNR of the noisy pictures, in dB", atol=0.1, hint=hint)
    return noisy


def check_hidden(
    hidden: Any, given: FaceSet, seen: Sequence[str], measure: Callable[[str, Tensor, Tensor], dict[str, Tensor]]
) -> dict[str, float]:
    """One factor and a step that numbers of fidelity hardly see: the means of ``measure(factor, edited, given)``, one
    number for each face, over the faces that the step changes."""
    expect(hidden, "hidden", kind=dict)
    expect_that(len(hidden) == 1, f"hidden: expected one factor and its step, got {len(hidden)} entries.")
    (name, step), factors = next(iter(hidden.items())), {factor.name: factor for factor in faces.TABLE}
    expect_that(name in factors, f"hidden: expected a factor of ll.faces.TABLE, got {name!r}.")
    expect_that(name not in seen, f"hidden: expected another factor than {' and '.join(seen)}, got {name}.")
    step, width = _number(step, f"step of {name}"), factors[name].high - factors[name].low
    unit = factors[name].unit
    expect_that(abs(step) <= width, f"step of {name}: expected at most the width of its range, {width:g} {unit}, got "
                f"{step:g}.")
    truth = given.truth(**{name: step})
    changed = (truth.images != given.images).flatten(1).any(1)
    n, all_ = int(changed.sum()), len(changed)
    expect_that(2 * n > all_, f"step of {name}: expected one that changes most faces, got {n} of {all_}; the others "
                "are at the end of its range.")
    found = {k: float(v.mean()) for k, v in measure(name, truth.images[changed], given.images[changed]).items()}
    wrong = [k for k, (sign, bar) in LIMITS.items() if not (found[k] > bar if sign == ">" else found[k] < bar)]
    told = "; ".join(f"{k} {'above' if LIMITS[k][0] == '>' else 'below'} {LIMITS[k][1]:g}, got {found[k]:.3f}"
                     for k in wrong)
    expect_that(not wrong, f"{name} {step:+g}: expected {told}. Of the five numbers {5 - len(wrong)} are right.")
    return found


def check_difference(low: Any, high: Any, a: Tensor, b: Tensor) -> None:
    """Ends of the 95 % bootstrap interval of the mean of a - b, (N,) each, paired by face."""
    from scipy.stats import bootstrap

    low, high = _number(low, "low"), _number(high, "high")
    expect_that(low < high, f"expected low < high, got {low:.3g} and {high:.3g}.")
    d = (a - b).double().numpy()

    def interval(level: float) -> tuple[float, float]:
        drawn = bootstrap([d], lambda v, axis: v.mean(axis), method="percentile", confidence_level=level, rng=0)
        return tuple(drawn.confidence_interval)

    right = interval(0.95)

    def near(ends: Sequence[float], share: float) -> bool:
        return bool(max(abs(low - ends[0]), abs(high - ends[1])) < share * (right[1] - right[0]))

    if near(right, 0.06):  # two sets of 2,000 draws differ by less in 499 of 500 cases
        return
    spread, both = right[1] - right[0], np.sqrt(a.var().item() / len(a) + b.var().item() / len(b))
    if near((-right[1], -right[0]), 0.2):
        hint = "The sign is the other way round: i2s minus ii2s."
    elif near(interval(0.9), 0.06):
        hint = "This is the middle 90 %: the middle 95 % lies between the quantiles .025 and .975."
    elif near(np.quantile(d, [0.025, 0.975]).tolist(), 0.1):
        hint = "These are quantiles of the faces: draw faces with replacement, and take the mean of every draw first."
    elif high - low > 2 * spread and high - low > 2 * both:
        hint = "So wide is the interval when both methods draw faces of their own: subtract face by face first."
    else:
        hint = "Subtract face by face, draw N faces with replacement 2000 times, take the mean of every draw, and of "
        hint += "these means the quantiles .025 and .975."
    wide = "wider" if high - low > spread else "narrower"
    expect_that(False, f"low and high: expected the paired interval of the mean, got one that is {wide} or elsewhere. "
                + hint)


def check_corners(corners: Callable[[Tensor], Tensor]) -> None:
    """FFHQ's crop from four points, (4, 2), to four corners, (4, 2), against ``latentlab.alignment``."""
    for points in POINTS:
        wanted = torch.from_numpy(crop_corners(Landmarks.from_points(points))).double()
        got = corners(torch.tensor(points, dtype=torch.float64))
        expect(got, "corners(points)", (4, 2))
        got = got.detach().double()
        hint = "It is the middle of the eyes plus 0.1 m."
        expect_close(got.mean(0), wanted.mean(0), f"centre of the corners for {points}", atol=1e-3, hint=hint)
        near = torch.cdist(got, wanted).min(1)
        same = bool((near.values < 1e-3).all()) and len(near.indices.unique()) == 4
        hint = "These are the right points in another order: upper left, lower left, lower right, upper right."
        name = f"corners for {points}"
        expect_that(not same or bool((got - wanted).abs().max() < 1e-3), f"{name}: {hint}")
        sides = [float((c[3] - c[0]).norm()) for c in (got, wanted)]
        hint = "x is half of the width: of the length max(2 |e|, 1.8 |m|)."
        expect_close(sides[0], sides[1], f"{name}: the upper side", atol=1e-2, hint=hint)
        hint = "The size is right, the direction is not: in pictures the second coordinate points down."
        expect_close(got, wanted, name, atol=1e-3, hint=hint)


def _number(value: Any, name: str) -> float:
    expect(value, name, (), kind=NUMBER)
    return float(value)
