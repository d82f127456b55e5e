"""Checks of answers to the notebooks' exercises, with sentences as errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NotYet(AssertionError):
    """An answer that is not right yet. Jupyter shows its sentence without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's protocol for exceptions that print themselves
        return [f"Not yet. {self}"]


NUMBER = (float, int, np.number, Tensor)  # what an answer that is one number may be


def expect(
    value: Any,
    name: str,
    shape: Sequence[int] | None = None,
    *,
    kind: type | tuple[type, ...] = Tensor,
    dtype: torch.dtype | None = None,
    like: Tensor | None = None,
) -> None:
    """Checks that an answer is there, of the right type, shape, dtype and device, and finite.

    kind: its type. shape: of a tensor; -1 stands for any size. dtype, like: the dtype, and a tensor whose device it
    must have (default: the CPU). Raises ``NotYet`` with one sentence that says what was expected and what was given.
    """
    if value is None:
        raise NotYet(f"{name}: expected an answer, got None; put your code in the place of None.")
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(with_article(k) for k in kinds)
        raise NotYet(f"{name}: expected {wanted}, got {with_article(type(value))}.")
    if not isinstance(value, Tensor):
        return
    if shape is not None:
        given, wanted = tuple(value.shape), tuple(shape)
        if len(given) != len(wanted) or any(w not in (-1, g) for g, w in zip(given, wanted, strict=True)):
            any_size = "; -1 stands for any size" * (-1 in wanted)
            raise NotYet(f"{name}: expected shape {wanted}, got {given}{any_size}.")
    if dtype is not None and value.dtype != dtype:
        raise NotYet(f"{name}: expected dtype {dtype}, got {value.dtype}; .to({dtype}) converts it.")
    device = like.device if like is not None else torch.device("cpu")
    if value.device.type != device.type:
        raise NotYet(f"{name}: expected a tensor on {device.type}, got one on {value.device.type}; .to(..) moves it.")
    if value.is_floating_point() and not value.isfinite().all():
        raise NotYet(f"{name}: expected finite values, got NaN or infinity.")


def expect_close(value: Any, wanted: Any, name: str, *, atol: float = 1e-4, hint: str = "") -> None:
    """Checks that numbers agree with those wanted, up to ``atol``. hint: what to look at; shown instead of the numbers
    that were wanted, which would give the answer away. Raises ``NotYet``."""
    given = torch.as_tensor(value).detach().double()
    target = torch.as_tensor(wanted).detach().double()
    if given.shape != target.shape:
        raise NotYet(f"{name}: expected shape {tuple(target.shape)}, got {tuple(given.shape)}.")
    away = float((given - target).abs().max())
    if not away <= atol:
        told = f"{float(given):.4g}" if given.ndim == 0 else f"values that are up to {away:.3g} away"
        if given.ndim:
            expected = f"the right values within {atol:g}"
        else:
            expected = "a larger number" if given < target else "a smaller number" if given > target else "a number"
        raise NotYet(f"{name}: expected {expected}, got {told}." + f" {hint}" * bool(hint))


def expect_that(holds: Any, sentence: str) -> None:
    """Raises ``NotYet`` with the sentence unless the condition holds (in all places, if it is a tensor)."""
    if not bool(torch.as_tensor(holds).all()):
        raise NotYet(sentence)


def with_article(kind: type) -> str:
    """The name of a type behind its article: an int, a float."""
    return f"{'an' if kind.__name__[0] in 'aeiouAEIOU' else 'a'} {kind.__name__}"
