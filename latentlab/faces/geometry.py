"""Intersection of orthographic rays with ellipsoids, and anti-aliased coverage.

Camera frame: x right, y up, z towards the viewer; the image spans [-1, 1] in x and y. The head frame has the same
axes for a face that looks into the camera. Maps are (N, 1, R, R), numbers per face (N, 1, 1, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Pixel centres, ``x`` (1, 1, 1, R) and ``y`` (1, 1, R, 1), and the size of a pixel."""

    x: Tensor
    y: Tensor
    resolution: int
    pixel: float


def make_grid(resolution: int, device: torch.device) -> Grid:
    """The grid of a square image."""
    axis = (torch.arange(resolution, device=device, dtype=torch.float32) + 0.5) * (2 / resolution) - 1
    return Grid(axis.view(1, 1, 1, -1), -axis.view(1, 1, -1, 1), resolution, 2 / resolution)


def rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotation from head frame to camera frame, (N, 3, 3), from angles in degrees (N,)."""
    (sy, cy), (sp, cp), (sr, cr) = (
        (torch.sin(a * (math.pi / 180)), torch.cos(a * (math.pi / 180))) for a in (yaw, pitch, roll)
    )
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)
    turn = torch.stack((cy, zero, sy, zero, one, zero, -sy, zero, cy), -1).view(-1, 3, 3)
    nod = torch.stack((one, zero, zero, zero, cp, sp, zero, -sp, cp), -1).view(-1, 3, 3)
    tilt = torch.stack((cr, -sr, zero, sr, cr, zero, zero, zero, one), -1).view(-1, 3, 3)
    return tilt @ nod @ turn


@dataclass(frozen=True)
class Hit:
    """Intersection of the rays with a surface.

    ``distance``: signed distance to the silhouette, negative inside; ``front``, ``back``: depth z of the near
    and far side; ``normal``: three maps, outward, not normalised.
    """

    distance: Tensor
    front: Tensor
    back: Tensor
    normal: tuple[Tensor, Tensor, Tensor]


def ellipsoid(grid: Grid, frame: Tensor, centre: Tensor, radii: Tensor) -> Hit:
    """Intersects all rays with an ellipsoid of axes ``frame`` (N, 3, 3), ``centre`` and ``radii`` (N, 3)."""
    a = ((frame / radii[:, None] ** 2) @ frame.transpose(1, 2)).view(-1, 3, 3, 1, 1, 1)
    a13, a23, a33 = a[:, 0, 2], a[:, 1, 2], a[:, 2, 2]
    # Schur complement: the silhouette is the ellipse p' M p = 1.
    m11, m12, m22 = a[:, 0, 0] - a13 * a13 / a33, a[:, 0, 1] - a13 * a23 / a33, a[:, 1, 1] - a23 * a23 / a33
    cx, cy, cz = centre.view(-1, 3, 1, 1, 1).unbind(1)
    # x is a row and y a column of pixels, so each sum of the two is one broadcast operation.
    x, y = grid.x - cx, grid.y - cy
    gx, gy = m11 * x + m12 * y, m12 * x + m22 * y
    middle = (cz - a13 / a33 * x) - a23 / a33 * y
    form = (m11 * x * x + m22 * y * y).addcmul_(2 * m12 * x, y).clamp_(min=1e-6)
    slope = (gx * gx).addcmul_(gy, gy).add_(1e-6)
    distance = (form - form.sqrt()).mul_(slope.rsqrt_())
    depth = (1 - form).mul_(1 / a33)
    # Outside of the silhouette the surface continues steeply backwards, so that blended surfaces have no seam.
    root = depth.abs().sqrt_().copysign_(depth)
    normal = (gx.addcmul_(a13, root), gy.addcmul_(a23, root), root * a33)
    return Hit(distance, middle + root, middle - root, normal)


def blend(first: Hit, second: Hit, softness: float) -> Hit:
    """Smooth union of two surfaces: nearest depth, blended normals, union of the silhouettes."""
    delta = (second.front - first.front).mul_(1 / softness)
    weight = torch.sigmoid(delta)
    front = first.front + softness * torch.nn.functional.softplus(delta)
    normal = tuple(torch.lerp(p, q, weight) for p, q in zip(first.normal, second.normal, strict=True))
    return Hit(
        smooth_min(first.distance, second.distance, softness),
        front,
        torch.minimum(first.back, second.back),
        normal,
    )


def smooth_min(a: Tensor, b: Tensor, softness: float) -> Tensor:
    """Polynomial smooth minimum: a union of signed distances with a rounded seam."""
    h = (softness - (a - b).abs()).clamp_(min=0)
    return torch.minimum(a, b) - h * h * (0.25 / softness)


def normalised(normal: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Unit normals; for those that point away from the viewer (outside of silhouettes) z is set to 0."""
    nx, ny, nz = normal
    nz = nz.clamp(min=0)
    scale = (nx * nx).addcmul_(ny, ny).addcmul_(nz, nz).add_(1e-8).rsqrt_()
    return nx * scale, ny * scale, nz * scale


def coverage(distance: Tensor, width: float | Tensor) -> Tensor:
    """Coverage in [0, 1] from a signed distance (negative inside): a smooth step over ``2 * width``."""
    t = (distance * (-0.5 / width)).add_(0.5).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def step(value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Smooth step of a map or a number: 0 below ``low``, 1 above ``high``."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bump(u: Tensor, v: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """A soft spot, close to exp(-(u/width)² - (v/height)²) but exactly 0 from a radius of 2 on.

    The exponential would fill most of the picture with denormal numbers, which are many times slower.
    """
    u, v = u * (1 / width), v * (1 / height)
    t = (u * u).addcmul(v, v).mul_(-0.25).add_(1).clamp_(min=0)
    t *= t
    return t.mul_(t)
