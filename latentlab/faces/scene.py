"""Quantities shared by all parts of a face: pose, proportions, colours, light, and the surface of the head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentlab.faces import palette
from latentlab.faces.factors import Factors
from latentlab.faces.geometry import Grid, Hit, blend, coverage, ellipsoid, normalised, rotation, step

EYE_HEIGHT = 0.03  # of the eyes above the centre of the head, in the head frame
MOUTH_HEIGHT = -0.385


class Scene:
    """Quantities per face, (N, 1, 1, 1), or (N, 3, 1, 1) for colours, that all parts are built from."""

    def __init__(self, factors: Factors, grid: Grid) -> None:
        self.factors, self.grid = factors, grid
        self.pixel = grid.pixel
        self.frame = rotation(factors["yaw"], factors["pitch"], factors["roll"])
        self.width = 1 + 0.115 * self("face_width")
        self.height = 1 + 0.085 * self("face_height")
        # As in FFHQ, the image is aligned to the face: half of its movement with the pose is undone.
        pivot = factors.values.new_tensor((0.0, -0.15, 0.55))
        self.origin = 0.5 * (factors.values.new_tensor((0.0, -0.15, 0.0)) - self.frame @ pivot)
        self.origin[:, 2] = 0
        self.light = _light(factors["light_azimuth"], factors["light_elevation"])
        self.greyness = 1 - (1 - factors["hair_grey"]) * (1 - 0.7 * step(factors["age"], 0.55, 1.0))
        self._colours()

    def __call__(self, name: str) -> Tensor:
        """A factor as (N, 1, 1, 1)."""
        return self.factors[name].view(-1, 1, 1, 1)

    def _colours(self) -> None:
        f = self.factors
        self.skin = _colour(palette.skin(f["skin_tone"], f["skin_warmth"]))
        self.hair = _colour(palette.hair(f["hair_tone"], f["hair_red"], self.greyness))
        # Brows and beard keep some colour when the hair greys.
        self.brow = _colour(palette.hair(0.8 * f["hair_tone"], f["hair_red"], 0.6 * self.greyness)) * 0.8
        self.beard = _colour(palette.hair(0.9 * f["hair_tone"], f["hair_red"], 0.85 * self.greyness))
        self.iris = _colour(palette.iris(f["iris_colour"]))
        self.background = _colour(
            palette.cloth(f["background_light"], f["background_a"], f["background_b"], (0.20, 0.84), 0.20)
        )
        self.shirt = _colour(palette.cloth(f["shirt_light"], f["shirt_a"], f["shirt_b"], (0.08, 0.88), 0.29))

    def place(self, x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Tensor:
        """A point of the head frame in the camera frame, (N, 3)."""
        return torch.einsum("nij,nj->ni", self.frame, self._rows((x, y, z))) + self.origin

    def ellipsoid(self, centre: tuple, radii: tuple) -> Hit:
        """Intersects the rays with an ellipsoid given in the head frame."""
        return ellipsoid(self.grid, self.frame, self.place(*centre), self._rows(radii))

    def _rows(self, numbers: tuple) -> Tensor:
        """Three numbers, each one number for all faces or (N, 1, 1, 1), as (N, 3)."""
        n, like = len(self.factors), self.origin
        return torch.stack([c.reshape(n) if torch.is_tensor(c) else like.new_full((n,), c) for c in numbers], 1)

    def to_head(self, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates in the head frame of the points at depth z, (N, 1, R, R), of each pixel."""
        r = self.frame.view(-1, 3, 3, 1, 1, 1)
        o = self.origin.view(-1, 3, 1, 1, 1)
        x, y = self.grid.x - o[:, 0], self.grid.y - o[:, 1]
        return tuple((r[:, 0, j] * x + r[:, 1, j] * y).addcmul_(r[:, 2, j], depth) for j in range(3))

    def shade(self, normal: tuple[Tensor, Tensor, Tensor], ambient: float = 0.49, direct: float = 0.70) -> Tensor:
        """Lambert shading with a soft terminator and ambient light that is brighter from above; about 0.4 to 1.15."""
        nx, ny, nz = normal
        lx, ly, lz = self.light.view(3, -1, 1, 1, 1)
        facing = (nx * lx).addcmul_(ny, ly).addcmul_(nz, lz)
        facing = facing.mul_(1 / 1.3).add_(0.3 / 1.3).clamp_(min=0)
        return facing.mul_(direct).add_(ambient).add_(ny, alpha=0.07)

    def gloss(self, normal: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Blinn-Phong highlight in [0, 1]: the cosine of the half angle to the power of 16."""
        nx, ny, nz = normal
        half = self.light + self.light.new_tensor((0.0, 0.0, 1.0)).view(3, 1)
        hx, hy, hz = (half / half.norm(dim=0)).view(3, -1, 1, 1, 1)
        return (nx * hx).addcmul_(ny, hy).addcmul_(nz, hz).clamp_(min=0).square_().square_().square_().square_()


def _colour(rgb: Tensor) -> Tensor:
    return rgb.view(-1, 3, 1, 1)


def _light(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vectors towards the light, (3, N)."""
    a, e = azimuth * (math.pi / 180), elevation * (math.pi / 180)
    return torch.stack((torch.sin(a) * torch.cos(e), torch.sin(e), torch.cos(a) * torch.cos(e)))


@dataclass(frozen=True)
class Head:
    """Skull, jaw and nose: silhouette, depth, unit normals and head-frame coordinates of the visible surface."""

    hit: Hit
    normal: tuple[Tensor, Tensor, Tensor]
    u: Tensor
    v: Tensor
    w: Tensor
    cover: Tensor


def build_head(scene: Scene) -> Head:
    """The head: a smooth union of ellipsoids for skull, jaw and nose."""
    width, height = scene.width, scene.height
    beard, mouth = scene("beard"), scene("mouth_open")
    skull = scene.ellipsoid((0.0, 0.17, -0.08), (0.545 * width, 0.60 * height, 0.64))
    jaw = (0.445 + 0.055 * scene("jaw_width") + 0.02 * beard) * width
    chin = 0.50 * height + 0.03 * mouth + 0.04 * beard
    jaw = scene.ellipsoid((0.0, -0.22, 0.05), (jaw, chin, 0.50 + 0.02 * beard))
    size, wide = scene("nose_size"), scene("nose_width")
    bridge = scene.ellipsoid((0.0, -0.04, 0.50), (0.065 + 0.012 * wide, 0.19, 0.125 + 0.025 * size))
    tip = scene.ellipsoid(
        (0.0, -0.165 - 0.032 * size, 0.55),
        (0.105 + 0.030 * wide + 0.012 * size, 0.078 + 0.018 * size, 0.135 + 0.045 * size),
    )
    hit = blend(skull, jaw, 0.09)
    hit = blend(blend(hit, bridge, 0.03), tip, 0.025)
    u, v, w = scene.to_head(hit.front)
    return Head(hit, normalised(hit.normal), u, v, w, coverage(hit.distance, scene.pixel * 0.75))
