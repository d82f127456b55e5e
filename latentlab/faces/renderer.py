"""Rendering of faces from factors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.faces import body, glasses, hair
from latentlab.faces.canvas import Canvas
from latentlab.faces.details import Details
from latentlab.faces.factors import Factors
from latentlab.faces.features import Face, paint_complexion, paint_face
from latentlab.faces.geometry import Grid, make_grid, step
from latentlab.faces.scene import Scene, build_head
from latentlab.faces.strange import paint_details

PARTS = (
    "skin", "ears", "neck", "hair", "brows", "eyes", "nose", "mouth", "beard", "wrinkles", "glasses", "shirt",
    "background", "detail",
)  # fmt: skip
# Faces are drawn in chunks whose maps fit into the caches of a CPU, and fill a GPU.
_CHUNK_PIXELS = {"cpu": 16 * 64 * 64, "cuda": 512 * 64 * 64}


@torch.no_grad()
def render(
    factors: Factors,
    resolution: int = 64,
    masks: bool = False,
    supersample: int = 1,
    details: Details | None = None,
) -> Float[Tensor, "n 3 r r"] | tuple[Float[Tensor, "n 3 r r"], dict[str, Float[Tensor, "n 1 r r"]]]:
    """Renders faces: (N, 3, R, R) float32 in [-1, 1], on the device of the factors.

    masks: also return the fraction of each pixel that shows each of ``PARTS``, {part: (N, 1, R, R)} in [0, 1]. They
    add up to 1, except that a coloured light hides nothing: its part "detail" comes on top of the others.
    supersample: render at this many times the resolution and average. details: one out-of-domain detail per face.
    """
    _check(factors, resolution, supersample, details)
    size = resolution * supersample
    chunk = max(1, _CHUNK_PIXELS.get(factors.device.type, 16 * 64 * 64) // size**2)
    grid = make_grid(size, factors.device)
    images, parts = [], []
    for start in range(0, len(factors), chunk):
        rows = slice(start, start + chunk)
        worn = None if details is None else details[rows].to(factors.device)
        canvas = _draw(factors[rows], grid, masks, worn)
        images.append(_shrink(canvas.image.clamp_(0, 1), supersample))
        if canvas.parts is not None:
            parts.append({name: _shrink(part, supersample) for name, part in canvas.parts.items()})
    image = torch.cat(images).mul_(2).sub_(1)
    return (image, _join(parts, images)) if masks else image


def _check(factors: Factors, resolution: int, supersample: int, details: Details | None) -> None:
    if resolution < 16:
        raise ValueError(f"resolution: expected at least 16, got {resolution}")
    if supersample < 1:
        raise ValueError(f"supersample: expected at least 1, got {supersample}")
    if len(factors) == 0:
        raise ValueError("factors: expected at least one face, got none")
    if details is not None and len(details) != len(factors):
        raise ValueError(f"details: expected one for each of {len(factors)} faces, got {len(details)}")


def _shrink(maps: Tensor, factor: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(maps, factor) if factor > 1 else maps


def _join(parts: list[dict[str, Tensor]], images: list[Tensor]) -> dict[str, Tensor]:
    """Concatenates the masks of all chunks; a part that a chunk does not show is 0 there."""
    return {
        name: torch.cat(
            [p[name] if name in p else torch.zeros_like(i[:, :1]) for p, i in zip(parts, images, strict=True)]
        )
        for name in PARTS
    }


def _draw(factors: Factors, grid: Grid, masks: bool, details: Details | None) -> Canvas:
    """Paints one chunk of faces from back to front."""
    scene = Scene(factors, grid)
    head = build_head(scene)
    locks = hair.build_hair(scene)
    canvas = Canvas("background", body.background(scene), grid, masks)
    paint_details("background", canvas, scene, head, details)
    hair.paint_back(canvas, locks)
    body.paint_neck(canvas, scene, head)
    body.paint_shirt(canvas, scene)
    paint_details("shirt", canvas, scene, head, details)
    face = Face(scene, head)
    skin = Canvas("skin", scene.skin, grid, masks)
    paint_complexion(skin, face)
    paint_details("complexion", skin, scene, head, details)
    paint_face(skin, face)
    # The hair casts a shadow on the skin below its edge.
    shade = scene.shade(head.normal) * (1 - 0.3 * (1 - step(locks.distance, 0.0, 0.13)))
    skin.image.mul_(shade).add_(0.10 * scene.gloss(head.normal))
    # Roll off the highlights: clipping only the red channel would turn light skin yellow.
    skin.image.sub_((skin.image - 0.75).clamp_(0, 0.5).square_())
    canvas.paste(skin, head.cover)
    body.paint_ears(canvas, scene, head)
    glasses.paint_temples(canvas, scene, head, face)
    hair.paint_front(canvas, locks)
    paint_details("hair", canvas, scene, head, details)
    glasses.paint_frame(canvas, scene, face)
    paint_details("all", canvas, scene, head, details)
    return canvas
