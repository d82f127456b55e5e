"""Painting of the facial features in the head frame: eyes, brows, mouth, nose, wrinkles, beard."""

from __future__ import annotations

import torch
from torch import Tensor

from latentlab.faces.canvas import Canvas
from latentlab.faces.geometry import bump, coverage, step
from latentlab.faces.scene import EYE_HEIGHT, MOUTH_HEIGHT, Head, Scene


class Face:
    """Coordinates for the features; ``side`` is |u|, so that the left and right ones are painted at once."""

    def __init__(self, scene: Scene, head: Head) -> None:
        self.scene, self.head = scene, head
        self.u, self.v = head.u, head.v
        self.sign = torch.sign(self.u)
        self.side = self.u.abs()
        # Nothing is painted on the back of the head.
        self.front = step(head.w, 0.0, 0.12)
        self.soft = 0.75 * scene.pixel
        self.eye_x = (0.222 + 0.032 * scene("eye_spacing")) * (0.5 + 0.5 * scene.width)
        self.eye_scale = 1 + 0.17 * scene("eye_size")


def paint_face(canvas: Canvas, face: Face) -> None:
    """Paints all features, from the skin outwards, over the complexion."""
    _wrinkles(canvas, face)
    _nose(canvas, face)
    _beard(canvas, face)
    _mouth(canvas, face)
    _eyes(canvas, face)
    _brows(canvas, face)


def paint_complexion(canvas: Canvas, face: Face) -> None:
    """Paints rosy cheeks and the soft shadow of the eye sockets."""
    scene = face.scene
    smile = scene("smile").clamp(min=0)
    cheeks = bump(face.side - 0.29, face.v + 0.17 - 0.03 * smile, 0.14, 0.11)
    rosy = (scene.skin * scene.skin.new_tensor((1.02, 0.72, 0.70)).view(1, 3, 1, 1)).clamp(max=1)
    canvas.tint(rosy, cheeks * (0.34 + 0.12 * smile))
    socket = bump(face.side - face.eye_x * 0.92, face.v - EYE_HEIGHT - 0.03, 0.2, 0.13)
    canvas.darken(socket * 0.2)


def _lid(face: Face) -> tuple[Tensor, Tensor, Tensor]:
    """Horizontal position within the eye (-1..1 between its corners), heights of upper and lower lid."""
    scene = face.scene
    half = 0.148 * face.eye_scale
    t = (face.side - face.eye_x) / half
    arch = (1 - t * t).clamp(min=-0.5)
    # A smile lifts the lower lid, age lowers the outer half of the upper one.
    smile, age = scene("smile"), scene("age")
    upper = (0.098 - 0.012 * smile - 0.012 * age - 0.014 * age * t) * face.eye_scale * arch
    lower = -(0.066 - 0.024 * smile.clamp(min=0)) * face.eye_scale * arch
    tilt = 0.012 * t
    return t, upper + EYE_HEIGHT + tilt, lower + EYE_HEIGHT + tilt


def _eyes(canvas: Canvas, face: Face) -> None:
    scene, v = face.scene, face.v
    t, upper, lower = _lid(face)
    soft, thickness = face.soft, 0.019
    inside = torch.maximum(v - upper, lower - v)
    opening = coverage(inside, soft) * face.front
    white = scene.skin.new_tensor((0.95, 0.94, 0.93)).view(1, 3, 1, 1)
    canvas.paint("eyes", torch.lerp(white, scene.skin, 0.06), opening)
    x = face.u - face.sign * face.eye_x - 0.058 * scene("gaze_x")
    y = v - EYE_HEIGHT - 0.012 - 0.03 * scene("gaze_y")
    radius = (x * x + y * y).sqrt()
    size = 0.081 * face.eye_scale
    ring = scene.iris * (0.45 + 0.75 * step(size - radius, 0.0, 0.03))
    canvas.paint("eyes", ring, coverage(radius - size, soft) * opening)
    canvas.paint("eyes", torch.zeros_like(scene.iris), coverage(radius - 0.45 * size, soft) * opening)
    glint = ((x + 0.026).square() + (y - 0.03).square()).sqrt() - 0.021
    canvas.paint("eyes", torch.ones_like(scene.iris), coverage(glint, soft) * opening * 0.9)
    # The shadow of the upper lid on the eyeball, then the lashes and the lower rim.
    canvas.darken(step(v - upper, -0.05, 0.01) * opening * 0.35)
    within = step(1.12 - t.abs(), 0.0, 0.2) * face.front
    lash = coverage((v - upper - 0.006).abs() - thickness, soft) * within
    canvas.paint("eyes", scene.skin * 0.12 + 0.02, lash * 0.9)
    rim = coverage((v - lower + 0.006).abs() - 0.008, soft) * within
    canvas.tint(scene.skin * 0.5, rim * 0.55)
    crease = coverage((v - upper - 0.052).abs() - 0.006, soft) * step(1.0 - t.abs(), 0.0, 0.4) * face.front
    canvas.tint(scene.skin * 0.6, crease * (0.4 + 0.3 * scene("age")))


def _brows(canvas: Canvas, face: Face) -> None:
    scene = face.scene
    t = (face.side - face.eye_x - 0.005) / 0.175
    slope = 0.04 * scene("brow_angle") - 0.012
    middle = EYE_HEIGHT + 0.192 + slope * t - 0.045 * t * t + 0.012 * scene("smile").abs()
    # Thick inside, thin outside.
    half = (0.028 + 0.013 * scene("brow_thickness")) * (1 - 0.28 * t)
    ends = (t.abs() - 1) * 0.175
    shape = torch.maximum((face.v - middle).abs() - half, ends)
    canvas.paint("brows", scene.brow, coverage(shape, 1.15 * face.soft) * face.front * 0.92)


def _nose(canvas: Canvas, face: Face) -> None:
    """Nostrils and the shadow below the tip; the nose itself belongs to the surface of the head."""
    scene = face.scene
    size, wide = scene("nose_size"), scene("nose_width")
    height = -0.165 - 0.032 * size
    under = bump(face.side, face.v - height + 0.085, 0.13 + 0.035 * wide, 0.035) * face.front
    canvas.paint("nose", scene.skin * 0.62, under * 0.5)
    nostril = bump(face.side - 0.052 - 0.018 * wide, face.v - height + 0.055, 0.028, 0.02) * face.front
    canvas.paint("nose", scene.skin * 0.22, nostril * 0.85)


def _mouth(canvas: Canvas, face: Face) -> None:
    scene, v, soft = face.scene, face.v, face.soft
    smile, opened = scene("smile"), scene("mouth_open")
    happy = smile.clamp(min=0)
    half = 0.178 + 0.036 * scene("mouth_width") + 0.04 * happy - 0.012 * opened
    t = face.u / half
    arch = (1 - t * t).clamp(min=-0.6)
    curve = MOUTH_HEIGHT + 0.105 * smile * (t * t - 0.45).clamp(max=0.8)
    gap = (0.19 * opened + 0.05 * happy * happy) * arch
    top, bottom = curve + 0.2 * gap, curve - 0.8 * gap
    # Upper lip with a cupid's bow, fuller lower lip.
    bow = 0.012 * bump(face.u, face.u, 0.05, 0.05)
    root = arch.clamp(min=0).sqrt()
    lips = torch.maximum(v - top - 0.044 * root + bow, bottom - 0.056 * root - v)
    ends = (t.abs() - 1) * half
    cover = coverage(torch.maximum(lips, ends), soft) * face.front
    red = scene.skin.new_tensor((0.90, 0.50, 0.49)).view(1, 3, 1, 1)
    colour = scene.skin * red * (0.93 + 0.12 * step(v - curve, 0.03, -0.05))
    canvas.paint("mouth", colour, cover)
    inside = torch.maximum(v - top, bottom - v)
    hole = coverage(torch.maximum(inside, ends), soft) * face.front
    canvas.paint("mouth", scene.skin.new_tensor((0.23, 0.06, 0.07)).view(1, 3, 1, 1), hole * step(gap, -0.001, 0.012))
    seam = coverage((v - curve).abs() - 0.009, soft) * step(1.1 - t.abs(), 0.0, 0.15) * face.front
    canvas.paint("mouth", scene.skin * 0.3, seam * (1 - step(gap, 0.005, 0.03)) * 0.8)
    teeth = torch.maximum(inside, top - 0.058 - v) + 0.006
    teeth = coverage(torch.maximum(teeth, ends + 0.02), soft) * face.front * step(gap, 0.01, 0.035)
    canvas.paint("mouth", scene.skin.new_tensor((0.95, 0.94, 0.90)).view(1, 3, 1, 1), teeth)
    tongue = bump(face.u, v - bottom - 0.02, 0.09, 0.04) * hole * step(gap, 0.06, 0.12)
    canvas.paint("mouth", scene.skin.new_tensor((0.72, 0.32, 0.33)).view(1, 3, 1, 1), tongue)


def _wrinkles(canvas: Canvas, face: Face) -> None:
    """Forehead lines, crow's feet, laughter lines and bags under the eyes, all growing with age."""
    scene, v, side = face.scene, face.v, face.side
    amount = step(scene("age"), 0.2, 0.95)
    dark = scene.skin * 0.46
    waves = torch.sin((v - 0.05 * torch.cos(5 * face.u)) * 66)
    forehead = step(waves, 0.15, 1.0) * bump(face.u, v - 0.36, 0.33, 0.10)
    feet = step(torch.sin((v - EYE_HEIGHT) * 75 / (0.6 + 1.5 * (side - face.eye_x)).clamp(min=0.5)), 0.0, 1.0)
    feet = feet * bump(side - face.eye_x - 0.215, v - EYE_HEIGHT, 0.055, 0.07)
    bag = bump(v - EYE_HEIGHT + 0.105 - 0.05 * ((side - face.eye_x) / 0.15) ** 2, side - face.eye_x, 0.016, 0.13)
    x = 0.105 + 0.42 * (-0.14 - v) - 0.35 * (-0.14 - v).clamp(min=0) ** 2
    fold = bump(side - x, v + 0.28, 0.018, 0.13)
    lines = (forehead * 0.75).maximum(feet * 0.8).maximum(bag * 0.75)
    fold = fold * (0.9 * amount + 0.3 * scene("smile").clamp(min=0) * (1 - amount))
    lines = (lines * amount).maximum(fold) * face.front
    canvas.paint("wrinkles", dark, lines * 0.85)


def _beard(canvas: Canvas, face: Face) -> None:
    """Beard, from stubble (a faint shade) to a full beard with strands."""
    scene, v, side = face.scene, face.v, face.side
    amount = scene("beard")
    # The line of the beard: below the nose in the middle, low on the cheeks, up to the ears at the sides.
    cheek = -0.27 - 0.16 * bump(side - 0.2, side - 0.2, 0.17, 0.17) + 0.5 * (side - 0.33).clamp(min=0)
    shape = v - cheek.clamp(max=0.0)
    cover = coverage(shape, 0.03) * face.front
    lip = bump(face.u, v - MOUTH_HEIGHT + 0.095, 0.06, 0.03)
    strands = 0.86 + 0.14 * torch.sin(side * 46 + torch.sin(v * 16) * 1.2)
    opacity = 0.42 * step(amount, 0.0, 0.25) + 0.53 * step(amount, 0.2, 0.8)
    canvas.paint("beard", scene.beard * strands, cover * opacity * (1 - 0.35 * lip))
