"""Glasses: a frame in a plane in front of the eyes, a bridge, temples to the ears, a glint on the lenses."""

from __future__ import annotations

import torch
from torch import Tensor

from latentlab.faces.canvas import Canvas
from latentlab.faces.features import Face
from latentlab.faces.geometry import coverage, step
from latentlab.faces.scene import EYE_HEIGHT, Head, Scene

_PLANE = 0.585  # depth of the lenses in the head frame
_HALF_WIDTH, _HALF_HEIGHT, _ROUND = 0.178, 0.140, 0.10


def paint_frame(canvas: Canvas, scene: Scene, face: Face) -> None:
    """Paints lenses, rims and bridge; faces without glasses have zero coverage."""
    worn = scene("glasses")
    u, v = _lens_plane(scene)
    eye = face.eye_x + 0.006
    side = u.abs() - eye
    y = v - EYE_HEIGHT - 0.005
    # A rounded rectangle.
    dx, dy = side.abs() - (_HALF_WIDTH - _ROUND), y.abs() - (_HALF_HEIGHT - _ROUND)
    lens = (dx.clamp(min=0) ** 2 + dy.clamp(min=0) ** 2).sqrt() + torch.maximum(dx, dy).clamp(max=0) - _ROUND
    rim = lens.abs() - 0.020
    bridge = torch.maximum((y - 0.045 + 0.6 * u * u).abs() - 0.018, u.abs() - eye + _HALF_WIDTH)
    soft = 0.75 * scene.pixel
    glass = coverage(lens, soft) * worn
    stripe = step(torch.sin(9 * (u + 0.8 * y) + 0.7), 0.55, 0.95)
    white = torch.ones_like(scene.skin)
    canvas.tint(white, glass * (0.05 + 0.17 * stripe))
    # A highlight on the upper rim keeps the frame visible on dark skin.
    colour = _ink(scene) + 0.20 * step(y, -0.02, 0.16)
    canvas.paint("glasses", colour, coverage(torch.minimum(rim, bridge), soft) * worn)


def paint_temples(canvas: Canvas, scene: Scene, head: Head, face: Face) -> None:
    """Paints the temples, the rods from the frame to the ears."""
    for sign in (-1.0, 1.0):
        cover = _temple(scene, head, face.eye_x + 0.006, sign)
        canvas.paint("glasses", _ink(scene), cover * scene("glasses"))


def _ink(scene: Scene) -> Tensor:
    """Colour of the frame: nearly black, a little lighter on dark skin so that it stays visible."""
    return 0.05 + 0.05 * scene("skin_tone") + torch.zeros_like(scene.skin)


def _lens_plane(scene: Scene) -> tuple[Tensor, Tensor]:
    """Head-frame coordinates where the rays meet the plane of the lenses."""
    r = scene.frame
    # z such that the head-frame depth is _PLANE: r02 (x - ox) + r12 (y - oy) + r22 z = _PLANE.
    x = scene.grid.x - scene.origin[:, 0].view(-1, 1, 1, 1)
    y = scene.grid.y - scene.origin[:, 1].view(-1, 1, 1, 1)
    r = [[r[:, i, j].view(-1, 1, 1, 1) for j in range(3)] for i in range(3)]
    z = (_PLANE - r[0][2] * x - r[1][2] * y) / r[2][2]
    return r[0][0] * x + r[1][0] * y + r[2][0] * z, r[0][1] * x + r[1][1] * y + r[2][1] * z


def _temple(scene: Scene, head: Head, eye: Tensor, sign: float) -> Tensor:
    """Coverage of one temple: a rod from the frame to the ear, hidden where the head is nearer."""
    start = scene.place(sign * (eye + _HALF_WIDTH), EYE_HEIGHT + 0.05, _PLANE)
    stop = scene.place(sign * 0.56 * scene.width, EYE_HEIGHT + 0.03, 0.0)
    a, b = (p.view(-1, 3, 1, 1, 1).unbind(1) for p in (start, stop))
    x, y = scene.grid.x - a[0], scene.grid.y - a[1]
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = ((x * dx + y * dy) / (dx * dx + dy * dy + 1e-4)).clamp(0, 1)
    distance = ((x - t * dx) ** 2 + (y - t * dy) ** 2).sqrt() - 0.016
    depth = a[2] + t * (b[2] - a[2])
    hidden = step(head.hit.front - depth, 0.0, 0.05) * head.cover
    return coverage(distance, 0.75 * scene.pixel) * (1 - hidden)
