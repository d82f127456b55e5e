"""Checks of the exercises of notebook 04."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from latentlab.editing.interfacegan import find_boundaries
from latentlab.editing.samples import Samples
from latentlab.exercises import expect, expect_close, expect_that
from latentlab.metrics import edit_gain


def check_errors(errors: Any) -> None:
    """Total errors of D = .1 D*, of D = 2 D*, and of a D orthogonal to D* of the same length."""
    expect(errors, "errors", kind=(tuple, list, Tensor))
    expect_that(len(errors) == 3, f"errors: expected three numbers, got {len(errors)}.")
    hint = "It is |D - D*| / |D*|; draw D and D* as arrows."
    for name, mine, right in zip(("first", "second", "third"), errors, (0.9, 1.0, 2**0.5), strict=True):
        expect_close(float(mine), right, f"the {name} error", atol=0.02, hint=hint)


def check_best_length(best_length: Callable, D: Tensor, D_true: Tensor) -> tuple[Tensor, Tensor]:
    """The factor s that makes |s D - D*| smallest, and the error that is left; both are returned."""
    found = best_length(D, D_true)
    expect(found, "best_length(D, D_true)", kind=(tuple, list))
    expect_that(len(found) == 2, f"best_length: expected the factor and the error, got {len(found)} results.")
    for name, value in zip(("the factor", "the error"), found, strict=True):
        expect(value, name, (len(D),), like=D)
    tried = torch.linspace(-1, 3, 401)
    errors = torch.stack([(s * D - D_true).flatten(1).norm(dim=1) for s in tried]) / D_true.flatten(1).norm(dim=1)
    hint = "The derivative of |s D - D*|^2 by s is 0 there; each picture has a factor of its own."
    expect_close(found[0], tried[errors.argmin(0)], "the factor", atol=0.02, hint=hint)
    hint = "It is |s D - D*| / |D*| at that factor."
    expect_close(found[1], errors.min(0).values, "the error", atol=0.01, hint=hint)
    return found[0], found[1]


def check_hold_all(hold_all: Callable, normals: dict[str, Tensor], samples: Samples, share: float) -> Tensor:
    """A normal without its part in the span of others, of unit length; it is returned. normals: the first one is
    edited, the others are held."""
    name, *held = normals
    n, others = normals[name], torch.stack([normals[other] for other in held], 1)
    mine = hold_all(n, others)
    expect(mine, "hold_all(n, N)", n.shape, like=n)
    expect_close(float(mine.norm()), 1.0, "its length", atol=1e-3, hint="A normal has length 1.")
    hint = "Solve (N^T N) a = N^T n; Eq. (5) for one after the other brings back parts of the first."
    along = mine @ (others / others.norm(dim=0))
    expect_close(along, torch.zeros(len(held)), "its part along the held normals", atol=1e-3, hint=hint)
    theirs = find_boundaries(samples, [name], held=held, share=share)[name].vector
    cosine = float(torch.cosine_similarity(mine, theirs, dim=0))
    expect_close(cosine, 1.0, "its cosine with the library's direction", atol=1e-3, hint=hint)
    return mine


def check_score(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Scores of pictures, one for each, which are returned."""
    scores = score(images)
    expect(scores, "score(images)", (len(images),), like=images)
    expect_that(float(scores.std()) > 0, "score: expected values that differ between pictures, got one value for all.")
    alone = score(images[:1])
    hint = "A picture's score does not depend on the others."
    expect_close(alone, scores[:1], "the score of one picture", atol=1e-3, hint=hint)
    turned = score(images.flip(0)).flip(0)  # the order of the pictures is no score
    expect_close(turned, scores, "the score of one picture in another place", atol=1e-3, hint=hint)
    return scores


def check_two_means(two_means: Callable[[Tensor, Tensor, float], Tensor], w: Tensor, y: Tensor) -> Tensor:
    """The difference of the means of the samples with the highest and the lowest share of scores; it is returned."""
    for share in (0.5, 0.05):
        mine, count = two_means(w, y, share), int(share * len(w))
        expect(mine, f"two_means(w, y, {share:g})", w.shape[1:], like=w)
        order = y.argsort()
        right = w[order[-count:]].mean(0) - w[order[:count]].mean(0)
        hint = "Sort by y; int(share n) samples on each side; the higher mean minus the lower one."
        expect_close(mine, right, f"two_means(w, y, {share:g})", atol=1e-3, hint=hint)
    return mine


def check_gain(gain: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], D: Tensor, D_true: Tensor) -> None:
    """Gain and residual of changes D against the true changes."""
    found = gain(D, D_true)
    expect(found, "gain_and_residual(D, D_true)", kind=(tuple, list))
    expect_that(len(found) == 2, f"gain_and_residual: expected two results, got {len(found)}.")
    zero = torch.zeros_like(D)
    for name, mine, right in zip(("gain", "residual"), found, edit_gain(zero, D, zero, D_true), strict=True):
        expect(mine, name, (len(D),), like=D)
        hint = "gain = <D, D*> / |D*|^2; the residual is the length of D - gain D*, divided by |D*|."
        expect_close(mine, right, name, atol=1e-3, hint=hint)
