"""Checks of the exercises of notebook 08."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentlab.exercises import NUMBER, expect, expect_close, expect_that
from latentlab.seeds import stream

SEEN = 0.02  # of a change of a pixel in [-1, 1] that counts


def check_shrink_layers(shrink_layers: Callable[[Tensor, float], Tensor], d: Tensor, amount: float) -> Tensor:
    """Directions (K, L, D) whose layers are shorter by ``amount``, and 0 where they were shorter than that; they are
    returned."""
    empty = d.clone()
    empty[:, 0] = 0  # a layer without length, by which nothing can be divided
    expect(shrink_layers(empty, amount), "shrink_layers(d, a), d with a layer of zeros", d.shape, like=d)
    shrunk = shrink_layers(d.clone(), amount)
    expect(shrunk, "shrink_layers(d, a)", d.shape, like=d)
    before, after = d.norm(dim=2), shrunk.norm(dim=2)
    short = before <= amount
    sentence = "shrink_layers: expected exact zeros in layers shorter than a; a layer's length is over its D numbers."
    expect_that((after[short] == 0).all(), sentence)
    hint = "Each layer d_kl gets shorter by a; scale it by max(0, 1 - a / |d_kl|)."
    expect_close(after, (before - amount).clamp(min=0), "lengths of the layers", atol=1e-3, hint=hint)
    straight = F.cosine_similarity(shrunk, d, dim=2)[~short]
    expect_close(straight, torch.ones_like(straight), "cosine of each layer with what it was", atol=1e-3,
                 hint="A layer keeps its direction: scale all of its numbers by one factor.")  # fmt: skip
    return shrunk


def check_several(several: Callable[[Mapping[str, float]], Tensor], n: int, names: Sequence[str]) -> None:
    """Targets s (n, K) of some attributes at once, by name. names: of all K attributes."""
    for wanted in ({names[0]: 1.0}, {names[-1]: -0.5, names[0]: 1.5}):
        s = several(wanted)
        expect(s, f"several({wanted})", (n, len(names)))
        right = torch.tensor([wanted.get(name, 0.0) for name in names]).expand(n, -1)
        hint = "Column k has the target of attribute k, in the order of network.config.attributes; the others have 0."
        expect_close(s, right, f"several({wanted})", atol=1e-5, hint=hint)


def check_true_map(true_map: Callable[[Tensor, Tensor, int], Tensor], given: Tensor, truth: Tensor) -> None:
    """Maps (N, 1, r, r): the share of each cell's pixels that the true edit leaves alone."""
    hint = (f"A pixel counts as changed where any of its three colours changes by more than {SEEN}; 1 is a cell "
            "without such a pixel.")  # fmt: skip
    mirrored = (truth.flip(3), given.flip(3))  # other arguments than the variables of the notebook
    for r in (4, 16):
        for (before, after), says in (((given, truth), "given, truth"), (mirrored, "mirrored truth, mirrored given")):
            m, call = true_map(before, after, r), f"true_map({says}, {r})"
            expect(m, call, (len(before), 1, r, r), like=before)
            kept = ((after - before).abs().amax(1, keepdim=True) <= SEEN).to(before)
            expect_close(m, F.avg_pool2d(kept, before.shape[-1] // r), call, atol=1e-3, hint=hint)


def check_matrix(numbers: Callable[[int], int], largest: Any) -> None:
    """How many numbers the matrix of Eq. 6 has at a resolution, and the finest resolution, a power of two, whose matrix
    of 4 bytes a number fits into 1 GiB."""
    for r in (4, 6, 16, 64):
        n = numbers(r)
        expect(n, f"numbers({r})", kind=int)
        expect_that(n == r**4, f"numbers({r}): expected another number, got {n}; M has one for each pair of positions.")
    expect(largest, "largest", kind=int)
    expect_that(largest > 0 and math.log2(largest).is_integer(), f"largest: expected a power of two, got {largest}.")
    sentence = f"largest: expected the finest resolution within 1 GiB, got {largest}: its matrix"
    size = f"has {4 * largest**4 / 2**30:.3g} GiB"
    expect_that(4 * largest**4 <= 2**30, f"{sentence} {size}.")
    expect_that(4 * (2 * largest) ** 4 > 2**30, f"{sentence} {size}, and the next one fits, too.")


def check_outside(outside: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Eq. 8 as a weighted mean: the squared difference of the two changes, each pixel weighed by a map (N, 1, R, R)."""
    plain, edited, x, refined = torch.rand(4, 2, 3, 8, 8, generator=stream(0, "exercises", "outside")).unbind()
    left = torch.zeros(2, 1, 8, 8)
    left[0, ..., :4] = left[1, ..., :2] = 1.0  # areas of two sizes: a mean of the images' means is another number
    each = ((edited - plain) - (refined - x)).square()
    for m in (torch.ones_like(left), left, 0.25 * left + 0.5):
        mine = outside(plain, edited, x, refined, m)
        expect(mine, "outside(plain, edited, x, refined, m)", (), kind=NUMBER)
        hint = "Divide the weighted sum by the sum of the weights: with m = 1 it is the mean of Eq. 8."
        expect_close(mine, (m * each).sum() / (3 * m.sum()), "outside(..)", atol=1e-4, hint=hint)
