"""Checks of the exercises of notebook 01."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentlab.exercises import expect, expect_close, expect_that
from latentlab.stylegan import ops
from latentlab.stylegan.generator import GeneratorConfig, describe_styles


def check_louder(codes: Any, styles: Sequence[Tensor], k: int) -> None:
    """Styles of which number ``k`` is ten times as large, and no other is changed."""
    expect(codes, f"styles with number {k} x 10", kind=(list, tuple))
    expect_that(len(codes) == len(styles), f"styles: expected {len(styles)} of them, got {len(codes)}.")
    for i, (s, usual) in enumerate(zip(codes, styles, strict=True)):
        name = f"style {i}"
        expect(s, name, usual.shape, like=usual)
        hint = f"Only number {k} changes, by ten times. (If your code changed the given styles, compute them again.)"
        expect_close(s, (10 if i == k else 1) * usual, name, atol=1e-3, hint=hint)


def check_count(num_ws: Any, numbers: Any, channels: Sequence[int]) -> None:
    """Layers of W+ and numbers of S of a generator with codes of 512 numbers."""
    layers = describe_styles(GeneratorConfig(4 * 2 ** (len(channels) - 1), 512, 512, 8, tuple(channels)))
    for name, value in (("num_ws", num_ws), ("numbers", numbers)):
        expect(value, name, kind=int)
    hint = "A toRGB shares its layer with the next conv0."
    expect_close(num_ws, 1 + max(layer.w_index for layer in layers), "num_ws", hint=hint)
    hint = "A style has one number for each channel that the layer reads."
    expect_close(numbers, sum(layer.channels for layer in layers), "numbers", hint=hint)


def check_gradients(saturating: Any, nonsaturating: Any, t: Tensor) -> None:
    """Derivatives of -softplus(t) and of softplus(-t)."""
    expect(saturating, "pull_saturating", ())
    expect(nonsaturating, "pull_nonsaturating", ())
    p = torch.sigmoid(t.detach())
    expect_close(saturating, -p, "pull_saturating", atol=1e-6, hint="It is the derivative of -softplus(t).")
    expect_close(nonsaturating, p - 1, "pull_nonsaturating", hint="It is the derivative of softplus(-t).")


def check_down(down: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A filter that halves pictures: what is flat stays, what alternates goes."""
    small = down(x)
    expect(small, "down(x)", (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2), like=x)
    inner = (..., slice(2, -2), slice(2, -2))
    flat, sign = torch.ones(1, 1, 16, 16), torch.tensor([1.0, -1.0]).repeat(8)
    expect_close(down(flat)[inner], torch.ones(1, 1, 4, 4), "a flat picture", hint="It stays as it is: h sums to 1.")
    board = down(torch.outer(sign, sign)[None, None])
    expect_close(board[inner], torch.zeros(1, 1, 4, 4), "a chequerboard", hint="The filter removes it.")
    h = x.new_tensor([1, 3, 3, 1]) / 8
    wanted = F.conv2d(F.pad(x, (1, 1, 1, 1)).flatten(0, 1)[:, None], torch.outer(h, h)[None, None], stride=2)[:, 0]
    hint = "Pad by 1, filter, then keep every second pixel, from the first on."
    expect_close(small, wanted.unflatten(0, x.shape[:2]), "down(x)", hint=hint)


def check_without(without: Callable[[Sequence[Tensor], int], Tensor], shares: Sequence[Tensor], whole: Tensor) -> None:
    """The picture without the share of one resolution, for each of them."""
    for k, rest in enumerate(shares):
        picture, name = without(shares, k), f"without(shares, {k})"
        expect(picture, name, whole.shape, like=whole)
        while rest.shape[-1] < whole.shape[-1]:
            rest = ops.fir_up(rest)
        expect_close(picture, whole - rest, name, atol=1e-2, hint="up is linear: the share is missing, enlarged.")
