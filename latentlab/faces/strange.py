"""Painting of the out-of-domain details of ``details.py``, each at its own stage of the image.

Every function takes the amount ``a`` (N, 1, 1, 1), 0 for faces without the detail, and random ``choices`` (N, 6) in
[0, 1]. The fraction of each pixel that a detail covers is recorded as the part "detail".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from latentlab.faces.canvas import Canvas
from latentlab.faces.details import Details
from latentlab.faces.geometry import coverage, normalised, smooth_min, step
from latentlab.faces.scene import EYE_HEIGHT, Head, Scene


def vivid(hue: Tensor, value: float = 0.9) -> Tensor:
    """Saturated colours (N, 3, 1, 1) from hues (N,) in [0, 1]."""
    phase = hue[:, None] + hue.new_tensor((0.0, 1 / 3, 2 / 3))
    wheel = (0.5 + 0.62 * torch.cos(2 * math.pi * phase)).clamp(0.04, 1)
    return (value * wheel).view(-1, 3, 1, 1)


def _opacity(a: Tensor) -> Tensor:
    """Opacity of a detail: it grows up to half of the default strangeness and is 1 from there on."""
    return (2 * a).clamp(max=1)


def _column(choices: Tensor, i: int) -> Tensor:
    return choices[:, i].view(-1, 1, 1, 1)


def _pattern(u: Tensor, v: Tensor, choices: Tensor, scale: float, soft: float) -> Tensor:
    """Stripes, checks or dots (by choice 2) in the plane (u, v), in [0, 1]."""
    angle = math.pi * _column(choices, 3)
    p = scale * (u * torch.cos(angle) + v * torch.sin(angle))
    q = scale * (v * torch.cos(angle) - u * torch.sin(angle))
    wave, cross = torch.sin(p), torch.sin(q)
    kind = _column(choices, 2)
    edge = scale * soft
    stripes, checks, dots = (step(m, -edge, edge) for m in (wave, wave * cross, wave + cross - 0.7))
    return torch.where(kind < 1 / 3, stripes, torch.where(kind < 2 / 3, checks, dots))


def _patterned_background(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    first, second = vivid(choices[:, 0]), vivid(choices[:, 0] + 0.3 + 0.4 * choices[:, 1], 0.75)
    ink = _pattern(scene.grid.x, scene.grid.y, choices, 13.0, scene.pixel)
    strength = (0.6 * a).clamp(max=1)
    canvas.paint("detail", torch.lerp(canvas.image, torch.lerp(first, second, ink), strength), _presence(a, ink))


def _patterned_shirt(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    ink = _pattern(scene.grid.x, scene.grid.y, choices, 24.0, scene.pixel)
    cloth = torch.lerp(vivid(choices[:, 0]), vivid(choices[:, 0] + 0.5, 0.95), ink)
    strength = (0.85 * a).clamp(max=1)
    canvas.paint("detail", torch.lerp(canvas.image, cloth, strength), _presence(a, ink) * canvas.last)


def _presence(a: Tensor, like: Tensor) -> Tensor:
    """A map of ones for faces that have the detail, of zeros for the others."""
    return (a > 0).to(like.dtype).expand(len(a), 1, *like.shape[2:])


def _face_paint(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    """Two bands over cheeks and nose and a stripe down the forehead; wider for larger amounts."""
    soft, wide = scene.pixel, 0.045 + 0.02 * a
    front = step(head.w, 0.05, 0.15)
    slant = 0.35 * (_column(choices, 2) - 0.5) * head.u.abs()
    band = (head.v + 0.10 + slant).abs() - wide
    lower = (head.v + 0.27 + slant).abs() - 0.7 * wide
    lower = torch.maximum(lower, 0.13 - head.u.abs())
    stripe = torch.maximum(head.u.abs() - 0.8 * wide, EYE_HEIGHT + 0.05 - head.v)
    cover = coverage(torch.minimum(band, torch.minimum(lower, stripe)), soft) * front * _opacity(a)
    other = step(head.v, -0.20, -0.19)
    canvas.paint("detail", torch.lerp(vivid(choices[:, 1], 0.95), vivid(choices[:, 0], 0.95), other), cover * 0.92)


def _ear_rings(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    """Large discs below the ears, in front of the hair, hidden only behind the head."""
    for sign in (-1.0, 1.0):
        radius = 0.09 + 0.06 * a
        ball = scene.ellipsoid((sign * 0.60 * scene.width, -0.21 - radius, 0.05), (radius, radius, 0.6 * radius))
        normal = normalised(ball.normal)
        ring = step((ball.distance + 0.5 * radius).abs(), 0.14 * radius, 0.26 * radius)
        gold = scene.skin.new_tensor((0.98, 0.80, 0.28)).view(1, 3, 1, 1)
        colour = torch.lerp(gold, vivid(choices[:, 0]), ring) * scene.shade(normal, 0.6, 0.6)
        colour = colour + 0.6 * scene.gloss(normal)
        # When the head is turned, the ring on the far side disappears behind the cheek.
        hidden = step(head.hit.front - ball.front, 0.0, 0.06) * head.cover
        cover = coverage(ball.distance, 0.75 * scene.pixel) * (1 - hidden) * _opacity(a)
        canvas.paint("detail", colour, cover)


def _hat(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    """A crown with a band, and a brim around it."""
    grown = 0.85 + 0.15 * a
    line = 0.42
    crown = scene.ellipsoid((0.0, 0.36, -0.09), (0.66 * scene.width, 0.60 * scene.height * grown, 0.74))
    brim = scene.ellipsoid((0.0, line, -0.04), (0.84 * grown * scene.width, 0.075, 0.92 * grown))
    _, v, _ = scene.to_head(crown.front)
    cloth, ribbon = vivid(choices[:, 0], 0.8), vivid(choices[:, 0] + 0.35 + 0.3 * choices[:, 1], 0.85)
    soft = 0.75 * scene.pixel
    band = step(v, line + 0.19, line + 0.17)
    colour = torch.lerp(cloth, ribbon, band) * scene.shade(normalised(crown.normal))
    canvas.paint("detail", colour, coverage(torch.maximum(crown.distance, line - v), soft) * _opacity(a))
    colour = cloth * (0.85 * scene.shade(normalised(brim.normal)))
    canvas.paint("detail", colour, coverage(brim.distance, soft) * _opacity(a))


def _capsule(x: Tensor, y: Tensor, start: tuple, stop: tuple, radius: float) -> Tensor:
    """Signed distance to a capsule, a line segment with round ends, in the plane."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    px, py = x - start[0], y - start[1]
    t = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return ((px - t * dx) ** 2 + (py - t * dy) ** 2).sqrt() - radius


# Four fingers and a thumb: start, end and radius, relative to the centre of the palm.
_FINGERS = (
    ((-0.14, 0.10), (-0.21, 0.44), 0.058), ((-0.045, 0.14), (-0.065, 0.54), 0.060),
    ((0.05, 0.14), (0.075, 0.51), 0.058), ((0.14, 0.09), (0.20, 0.38), 0.050),
    ((-0.13, -0.10), (-0.34, 0.10), 0.060),
)  # fmt: skip


def _hand(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    """A raised hand with spread fingers in front of one cheek; larger for larger amounts."""
    side = torch.where(_column(choices, 0) < 0.5, -1.0, 1.0)
    size = 0.78 + 0.22 * a
    angle = 0.5 * (_column(choices, 1) - 0.5)
    x = (scene.grid.x - side * (0.30 + 0.12 * _column(choices, 2))) * side / size
    y = (scene.grid.y + 0.50 - 0.1 * _column(choices, 3)) / size
    x, y = x * torch.cos(angle) + y * torch.sin(angle), y * torch.cos(angle) - x * torch.sin(angle)
    palm = _capsule(x, y, (0.0, 0.02), (0.0, -0.09), 0.165)
    wrist = _capsule(x, y, (0.02, -0.1), (0.10, -1.2), 0.125)
    hand = smooth_min(palm, wrist, 0.08)
    shade = 0.0
    for start, stop, radius in _FINGERS:
        finger = _capsule(x, y, start, stop, radius)
        shade = shade + 0.35 * step((finger.abs() - 0.004) * size, 2 * scene.pixel, 0.0) * step(
            finger - hand, 0.05, 0.0
        )
        hand = smooth_min(hand, finger, 0.03)
    # The rim is darker, as on a rounded body.
    round_ = 0.62 + 0.44 * step(-hand, 0.0, 0.07)
    side_light = 1 + 0.12 * scene.light[0].view(-1, 1, 1, 1) * x * side
    colour = scene.skin * (round_ * side_light * (1 - shade.clamp(0, 0.35)))
    canvas.paint("detail", colour, coverage(hand * size, 0.75 * scene.pixel) * _opacity(a))


def _coloured_light(canvas: Canvas, scene: Scene, head: Head, a: Tensor, choices: Tensor) -> None:
    """Coloured light from one side. It hides nothing, so its part "detail" is added to the others."""
    side = torch.where(_column(choices, 1) < 0.5, -1.0, 1.0)
    reach = step(side * scene.grid.x + 0.25 * scene.grid.y, -0.55, 0.65).expand(-1, 1, scene.grid.resolution, -1)
    lit = canvas.image * (0.25 + 1.15 * vivid(choices[:, 0])) + 0.10 * vivid(choices[:, 0])
    amount = reach * (0.8 * a).clamp(max=1)
    canvas.tint(lit, amount)
    if canvas.parts is not None:
        canvas.parts["detail"] = canvas.parts.get("detail", 0) + reach * (a > 0)


# Name -> (stage after which it is painted, function). A stage is named after what was painted last.
DRAWN: dict[str, tuple[str, Callable[[Canvas, Scene, Head, Tensor, Tensor], None]]] = {
    "patterned background": ("background", _patterned_background),
    "patterned shirt": ("shirt", _patterned_shirt),
    "face paint": ("complexion", _face_paint),
    "ear rings": ("hair", _ear_rings),
    "hat": ("hair", _hat),
    "hand": ("all", _hand),
    "coloured light": ("all", _coloured_light),
}


def paint_details(stage: str, canvas: Canvas, scene: Scene, head: Head, details: Details | None) -> None:
    """Paints the details that follow ``stage``; ``None`` stands for faces without details."""
    if details is None:
        return
    for name, (when, draw) in DRAWN.items():
        if when == stage and name in details.names:
            draw(canvas, scene, head, details.worn(name), details.choices)
