"""Hair: a shell around the skull, open in front, with strands, and its part behind the neck."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentlab.faces.canvas import Canvas
from latentlab.faces.geometry import blend, bump, coverage, normalised, smooth_min, step
from latentlab.faces.scene import Scene


@dataclass(frozen=True)
class Hair:
    """Colour (N, 3, R, R) and coverage (N, 1, R, R) of the hair in front of and behind the head.

    ``distance`` is the signed distance to the edge of the front part.
    """

    front_colour: Tensor
    front: Tensor
    distance: Tensor
    back_colour: Tensor
    back: Tensor


def build_hair(scene: Scene) -> Hair:
    """Shape and shading of the hair of all faces."""
    length, age = scene("hair_length"), scene("age")
    volume = 0.022 + 0.085 * step(length, 0.0, 0.45) - 0.012 * age
    top = scene.ellipsoid(
        (0.0, 0.18 + 0.25 * volume, -0.09),
        (0.545 * scene.width + 0.8 * volume, 0.60 * scene.height + volume, 0.66 + 0.5 * volume),
    )
    # Long hair widens and falls below the jaw; when short, this part hides inside the head.
    long = step(length, 0.15, 0.95)
    curtain = scene.ellipsoid(
        (0.0, -0.12 - 0.30 * long, -0.12),
        (0.40 * scene.width + 0.26 * long, 0.45 + 0.52 * long, 0.46 + 0.16 * long),
    )
    shell = blend(top, curtain, 0.12)
    u, v, w = scene.to_head(shell.front)
    distance = _outline(scene, u, v, w)
    distance = torch.maximum(distance, shell.distance)
    normal = normalised(shell.normal)
    strands = _strands(u, v, w)
    shade = scene.shade(normal, ambient=0.42, direct=0.72) * (1 + 0.16 * strands)
    gloss = scene.gloss(normal) * (0.8 + 0.5 * strands)
    colour = scene.hair * shade + gloss * (0.10 + 0.14 * scene.hair)
    # Hair near the opening lies flat and is darker, which separates it from the skin.
    colour = colour * (0.72 + 0.28 * step(-distance, 0.0, 0.09))
    # Cropped hair fades into the skin.
    front = coverage(distance, scene.pixel + 0.03 * (1 - step(length, 0.0, 0.35)))
    _, behind_v, _ = scene.to_head(shell.back)
    end = _bottom(scene) - 0.12 - behind_v
    back = coverage(torch.maximum(shell.distance, end), scene.pixel)
    return Hair(colour, front, distance, scene.hair * (0.36 + 0.08 * strands), back)


def _bottom(scene: Scene) -> Tensor:
    """Height at which the hair ends at the sides, in the head frame."""
    return 0.12 - 1.10 * step(scene("hair_length"), 0.05, 1.0)


def _outline(scene: Scene, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Signed distance (negative on hair) to the edges of the hair in the head frame."""
    fringe, age = scene("fringe"), scene("age")
    # A side parting sweeps the hairline, the fringe lowers it to the brows, age raises it at the temples.
    sweep = 0.05 * torch.sin(3.2 * u + 0.6) + 0.13 * fringe * u
    temple = u.abs() - 0.22
    recede = 0.10 * age * age * bump(temple, temple, 0.17, 0.17) + 0.03 * age
    line = 0.495 - 0.225 * fringe + sweep + recede * (1 - fringe) - (0.42 - 0.2 * fringe) * u * u
    crown = line - v
    side = w - 0.22 - 0.10 * scene("hair_length")
    end = _bottom(scene) - 0.45 * (-w).clamp(min=0) - v
    side = -smooth_min(-side, -end, 0.12)
    return smooth_min(crown, side, 0.22)


def _strands(u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Smooth stripes along the strands, about -1 to 1: meridians from an off-centre crown."""
    phi = torch.atan2(u - 0.08, w + 0.30)
    return 0.62 * torch.sin(13 * phi + 1.5 * v) + 0.38 * torch.sin(22 * phi - 2.5 * v + 1.0)


def paint_back(canvas: Canvas, hair: Hair) -> None:
    """Paints the hair behind head and neck."""
    canvas.paint("hair", hair.back_colour, hair.back)


def paint_front(canvas: Canvas, hair: Hair) -> None:
    """Paints the hair in front of the head."""
    canvas.paint("hair", hair.front_colour, hair.front)
