"""Checks of the exercises of notebook 00."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latentlab.exercises import expect, expect_close
from latentlab.metrics import edit_error


def check_mixing(mixed: Any, w_plus: Tensor, G: nn.Module) -> None:
    """A code with the layers 0 to 3 of face 0 and the others of face 1."""
    expect(mixed, "mixed", (1, G.num_ws, G.w_dim), like=w_plus)
    expect_close(mixed[0, :4], w_plus[0, :4], "mixed[0, :4]", hint="The coarse layers are those of face 0.")
    expect_close(mixed[0, 4:], w_plus[1, 4:], "mixed[0, 4:]", hint="The other layers are those of face 1.")


def check_return(there_and_back: Any, image: Tensor) -> None:
    """The picture of an edit that was taken back."""
    expect(there_and_back, "there_and_back", image.shape, like=image)
    hint = "Edit the edited inversion by the same amount, with the other sign."
    expect_close(there_and_back, image, "there_and_back", atol=1e-3, hint=hint)


def check_line(line: Callable[[Tensor, Tensor, int], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Seven codes at equal distances from ``a`` to ``b``, which are returned."""
    walk = line(a, b, 7)
    expect(walk, "line(a, b, 7)", (7, *a.shape), like=a)
    ends = torch.stack([a, b])
    expect_close(walk[[0, -1]], ends, "first and last code", atol=1e-3, hint="They are a and b themselves.")
    steps = ((b - a) / 6).expand(6, *a.shape)
    expect_close(walk.diff(dim=0), steps, "steps", atol=1e-2, hint="All of them are equal.")
    return walk


def check_total_error(error: Callable[..., Tensor], x: Tensor, edited: Tensor, y: Tensor, truth: Tensor) -> None:
    """Eq. (5) of the notebook for each face: of an edit, of no edit, and of the truth itself."""
    mine = error(x, edited, y, truth)
    expect(mine, "total_error(..)", (len(x),), like=x)
    hint = "The norms are over all numbers of one picture."
    expect_close(mine, edit_error(x, edited, y, truth), "total_error(..)", atol=1e-3, hint=hint)
    expect_close(error(x, x, y, truth), torch.ones(len(x)), "total_error of no edit", hint="It is 1.")
    right = x + (truth - y)
    expect_close(error(x, right, y, truth), torch.zeros(len(x)), "total_error of the truth", hint="It is 0.")
