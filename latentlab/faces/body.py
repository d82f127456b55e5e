"""Painting of background, neck, shirt and ears."""

from __future__ import annotations

import torch
from torch import Tensor

from latentlab.faces.canvas import Canvas
from latentlab.faces.geometry import bump, coverage, normalised, step
from latentlab.faces.scene import Head, Scene


def background(scene: Scene) -> Tensor:
    """Colours of the background, (N, 3, R, R): a plain wall, lighter towards the light and the centre."""
    x, y = scene.grid.x, scene.grid.y
    lx, ly, _ = scene.light.view(3, -1, 1, 1, 1)
    return scene.background * (1 + 0.12 * lx * x + 0.10 * y - 0.10 * (x * x + y * y))


def _neck_axis(scene: Scene) -> Tensor:
    """Horizontal position of the neck at every height, (N, 1, R, 1): it joins the tilted head to the body."""
    top = scene.place(0.0, -0.45, -0.12)
    x, y = top[:, 0].view(-1, 1, 1, 1), top[:, 1].view(-1, 1, 1, 1)
    return x * (1 - 0.75 * step(y - scene.grid.y, 0.0, 0.6))


def paint_neck(canvas: Canvas, scene: Scene, head: Head) -> None:
    """Paints the neck: a cylinder with the shadow of the chin."""
    x = scene.grid.x - _neck_axis(scene)
    half = 0.255 * (0.6 + 0.4 * scene.width) + 0.02 * scene("jaw_width") + 0.05 * step(-scene.grid.y, 0.75, 1.0)
    nx = (x / half).clamp(-0.97, 0.97)
    nz = (1 - nx * nx).sqrt()
    shade = scene.shade((nx, torch.zeros_like(nx), nz)).expand(-1, -1, scene.grid.resolution, -1)
    shadow = 0.62 * (1 - step(head.hit.distance, -0.02, 0.22))
    colour = scene.skin * (shade * (1 - shadow))
    # The shadow on skin is warm, not grey.
    colour[:, 0] += 0.03 * shadow[:, 0]
    cover = coverage(x.abs() - half, scene.pixel * 0.75) * step(-scene.grid.y, -0.25, 0.0)
    canvas.paint("neck", colour, cover.expand(-1, -1, scene.grid.resolution, -1))


def paint_shirt(canvas: Canvas, scene: Scene) -> None:
    """Paints the shirt: shoulders with a round collar."""
    x, y = scene.grid.x - 0.25 * _neck_axis(scene), scene.grid.y
    centre = 0.3 * _neck_axis(scene)
    slope = -0.70 - 0.30 * x.abs() ** 1.6 - 0.25 * (x.abs() - 0.62).clamp(min=0)
    shoulders = y - slope
    neckline = 1 - (((scene.grid.x - centre) / 0.335) ** 2 + ((y + 0.70) / 0.20) ** 2).sqrt()
    distance = torch.maximum(shoulders, neckline * 0.2)
    cover = coverage(distance, scene.pixel * 0.75)
    nx = (0.75 * x).clamp(-0.85, 0.85)
    ny = 0.5 + 0.3 * (y + 0.9)
    shade = scene.shade((nx.expand_as(cover), ny.expand_as(cover), torch.full_like(cover, 0.72)))
    collar = 1 - 0.35 * coverage((neckline * 0.2 + 0.03).abs() - 0.012, scene.pixel * 0.75)
    fold = 1 - 0.14 * bump(x.abs() - 0.5 - 0.4 * (y + 1), y + 1.0, 0.05, 0.14)
    canvas.paint("shirt", scene.shirt * (shade * collar * fold), cover)


def paint_ears(canvas: Canvas, scene: Scene, head: Head) -> None:
    """Paints both ears, hidden where the head is nearer to the viewer."""
    # Long hair presses the ears to the head, so that they do not poke through it.
    out = 0.55 - 0.06 * step(scene("hair_length"), 0.2, 0.42)
    for sign in (-1.0, 1.0):
        ear = scene.ellipsoid((sign * out * scene.width, -0.02, -0.06), (0.075, 0.155, 0.10))
        normal = normalised(ear.normal)
        _, v, w = scene.to_head(ear.front)
        hollow = bump(w + 0.05, v + 0.01, 0.055, 0.085)
        colour = scene.skin * (scene.shade(normal) * (0.95 - 0.42 * hollow))
        colour[:, 1:] *= 0.94  # ears are a little redder than the face
        nearer = step(ear.front - head.hit.front, -0.02, 0.02) * head.cover
        cover = coverage(ear.distance, scene.pixel * 0.75) * (1 - head.cover + nearer)
        canvas.paint("ears", colour, cover)
