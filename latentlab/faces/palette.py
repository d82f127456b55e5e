"""Colours of skin, hair, irises and cloth as functions of one to three factors; all RGB in [0, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_SKIN = (
    (0.96, 0.80, 0.72),
    (0.91, 0.71, 0.59),
    (0.82, 0.60, 0.46),
    (0.68, 0.46, 0.32),
    (0.50, 0.32, 0.22),
    (0.34, 0.21, 0.15),
)
_HAIR = ((0.07, 0.06, 0.07), (0.20, 0.12, 0.08), (0.36, 0.22, 0.13), (0.56, 0.39, 0.22), (0.85, 0.68, 0.40))
_IRIS = (
    (0.27, 0.15, 0.07),
    (0.44, 0.27, 0.11),
    (0.40, 0.44, 0.18),
    (0.20, 0.50, 0.62),
    (0.36, 0.62, 0.86),
    (0.52, 0.62, 0.70),
)
_GINGER = (0.72, 0.27, 0.09)
_GREY = (0.80, 0.79, 0.78)


def ramp(t: Float[Tensor, " n"], stops: tuple[tuple[float, float, float], ...]) -> Float[Tensor, "n 3"]:
    """Piecewise linear palette: colours of t in [0, 1], with evenly spaced stops."""
    table = t.new_tensor(stops)
    position = t.clamp(0, 1) * (len(stops) - 1)
    index = position.floor().clamp(max=len(stops) - 2).long()
    return torch.lerp(table[index], table[index + 1], (position - index)[:, None])


def skin(tone: Float[Tensor, " n"], warmth: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Skin colour: light to dark, and rosy (-1) to golden (+1)."""
    tint = tone.new_tensor((-0.01, 0.025, -0.045))
    return (ramp(tone, _SKIN) * (1 + warmth[:, None] * tint)).clamp(0, 1)


def hair(tone: Float[Tensor, " n"], red: Float[Tensor, " n"], grey: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Hair colour: black to blond, pulled towards ginger and then towards grey."""
    colour = torch.lerp(ramp(tone, _HAIR), tone.new_tensor(_GINGER), 0.85 * red[:, None])
    # Dark hair turns iron grey, light hair white.
    target = tone.new_tensor(_GREY) * (0.72 + 0.28 * tone[:, None])
    return torch.lerp(colour, target, 0.92 * grey[:, None])


def iris(t: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Iris colour: brown, hazel, green, blue, grey."""
    return ramp(t, _IRIS)


def cloth(
    light: Float[Tensor, " n"],
    a: Float[Tensor, " n"],
    b: Float[Tensor, " n"],
    span: tuple[float, float],
    chroma: float,
) -> Float[Tensor, "n 3"]:
    """Opponent colours to RGB: lightness within ``span``, a = green to magenta, b = blue to yellow."""
    grey = span[0] + (span[1] - span[0]) * light[:, None]
    axes = a.new_tensor(((0.75, -0.75, 0.45), (0.55, 0.30, -1.0)))
    # Chroma is largest at medium lightness, as in every gamut, so that clamping is rarely needed.
    reach = chroma * (0.45 + 2.2 * grey * (1 - grey))
    return (grey + reach * (a[:, None] * axes[0] + b[:, None] * axes[1])).clamp(0.02, 0.98)
