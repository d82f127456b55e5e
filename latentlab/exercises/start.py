"""Checks of the exercises of notebook 00."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latentlab.editing.edit import Edit
from latentlab.exercises import expect, expect_close, expect_that
from latentlab.inversion.result import Inversion
from latentlab.metrics import edit_error


def check_mixing(mixed: Any, w_plus: Tensor, G: nn.Module) -> None:
    """A code with the layers 0 to 3 of face 0 and the others of face 1."""
    expect(mixed, "mixed", (1, G.num_ws, G.w_dim), like=w_plus)
    expect_close(mixed[0, :4], w_plus[0, :4], "mixed[0, :4]", hint="The coarse layers are those of face 0.")
    expect_close(mixed[0, 4:], w_plus[1, 4:], "mixed[0, 4:]", hint="The other layers are those of face 1.")


def check_return(there_and_back: Any, inv: Inversion, edit: Edit) -> None:
    """The pictures of an edit by 2, and of the same edit taken back."""
    expect(there_and_back, "there_and_back", kind=(tuple, list))
    expect_that(len(there_and_back) == 2, f"there_and_back: expected two pictures, got {len(there_and_back)}.")
    there, back = there_and_back
    for name, mine in (("the picture after +2", there), ("the picture after -2", back)):
        expect(mine, name, inv.image.shape, like=inv.image)
    expect_close(there, inv.edit(edit, 2.0), "the picture after +2", atol=1e-3, hint="It is inv.edit(edits['age'], 2).")
    hint = "Edit the edited inversion by the same amount, with the other sign."
    expect_close(back, inv.image, "the picture after -2", atol=1e-3, hint=hint)


def check_line(line: Callable[[Tensor, Tensor, int], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Seven codes at equal distances from ``a`` to ``b``, which are returned."""
    expect(line(a, b, 3), "line(a, b, 3)", (3, *a.shape), like=a)
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
    hint = "Eq. (5): |D - D*| / |D*|, each norm over all numbers of one picture."
    expect_close(mine, edit_error(x, edited, y, truth), "total_error(..)", atol=1e-3, hint=hint)
    expect_close(error(x, x, y, truth), torch.ones(len(x)), "total_error of no edit", hint="It is 1.")
    right = x + (truth - y)
    expect_close(error(x, right, y, truth), torch.zeros(len(x)), "total_error of the truth", hint="It is 0.")
