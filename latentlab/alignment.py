"""FFHQ's alignment: the square crop of a photograph on which face generators were trained.

The crop is laid by eyes and mouth (Karras et al. 2019, arXiv 1812.04948, appendix A). A photograph that is not
cropped so is the usual reason for a bad inversion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

PROFILE = 0.55  # distance of the eyes over that of eyes and mouth; about 1 from the front
SUPERSAMPLING = 4
SURE = 0.25  # least score of dlib's detector; a patch on the suit in NASA's portrait has 0.12, the face 1.16

# Where a frontal face's eyes and mouth corners lie in the box that the cascade finds, in its width and height.
IN_BOX = ((0.29, 0.36), (0.71, 0.36), (0.34, 0.76), (0.66, 0.76))


@dataclass(frozen=True)
class Landmarks:
    """Eyes' centres and mouth's corners of a face, (x, y) in pixels; left and right as they are seen in the picture."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    mouth_left: tuple[float, float]
    mouth_right: tuple[float, float]

    @classmethod
    def from_points(cls, points: Sequence[Sequence[float] | np.ndarray] | np.ndarray) -> "Landmarks":
        """From (4, 2): eyes, mouth corners; (5, 2): the same with the nose in the middle; (68, 2): dlib's points."""
        p = np.asarray(points, dtype=float)
        if p.shape == (68, 2):
            p = np.stack([p[36:42].mean(0), p[42:48].mean(0), p[48], p[54]])
        elif p.shape == (5, 2):
            p = p[[0, 1, 3, 4]]
        if p.shape != (4, 2) or not np.isfinite(p).all():
            raise ValueError(f"landmarks: expected 4, 5 or 68 points (x, y), got the shape {p.shape}; the order is "
                             "left eye, right eye, (nose,) left and right corner of the mouth, as seen")  # fmt: skip
        found = cls(*((float(x), float(y)) for x, y in p))
        eyes, mouth = found.vectors()
        if eyes[0] * mouth[1] - eyes[1] * mouth[0] <= 0:
            raise ValueError("landmarks: expected the left eye first, as seen in the picture, and the mouth below the "
                             "eyes, got them mirrored or on one line")  # fmt: skip
        return found

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """From the left eye to the right one, and from between the eyes to between the mouth's corners."""
        a, b, c, d = map(np.array, (self.left_eye, self.right_eye, self.mouth_left, self.mouth_right))
        return b - a, (c + d) / 2 - (a + b) / 2


def crop_corners(landmarks: Landmarks) -> np.ndarray:
    """Corners (4, 2) of the crop in the picture: upper left, lower left, lower right, upper right."""
    eyes, mouth = landmarks.vectors()
    # Half of the crop's width points along the eyes, and as much against the way to the mouth, turned by 90 degrees.
    x = eyes + np.array([mouth[1], -mouth[0]])
    x *= max(2.0 * np.hypot(*eyes), 1.8 * np.hypot(*mouth)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = (np.array(landmarks.left_eye) + landmarks.right_eye) / 2 + 0.1 * mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def align_face(picture: Image.Image, landmarks: Landmarks, resolution: int = 1024) -> tuple[Image.Image, list[str]]:
    """The aligned crop of a face, ``resolution`` px square, and one sentence for each thing to know about it.

    What lies beyond the picture is its mirror image, more and more blurred, as in FFHQ.
    """
    if resolution < 8:
        raise ValueError(f"resolution: expected at least 8, got {resolution}")
    corners, notes = crop_corners(landmarks), []
    eyes, mouth = landmarks.vectors()
    side = float(np.hypot(*(corners[2] - corners[1])))
    if np.hypot(*eyes) < PROFILE * np.hypot(*mouth):
        notes.append("the eyes are close together, as in a profile, of which generators have seen few")
    if side < resolution / 2:
        notes.append(f"the face has {side:.0f} px, and is enlarged to {resolution}")
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    if (shrink := int(side / resolution / 2)) > 1:
        size = round(picture.width / shrink), round(picture.height / shrink)
        pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
        corners, side = corners * (np.array(size) / picture.size), side / shrink
    pixels, corners, beyond = _cut_out(pixels, corners, side)
    notes += ["the crop reaches beyond the picture, which is mirrored and blurred there"] if beyond else []
    large, data = SUPERSAMPLING * resolution, (corners + 0.5).flatten().tolist()
    cut = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
    cut = cut.transform((large, large), Image.Transform.QUAD, data, Image.Resampling.BILINEAR)
    return cut.resize((resolution, resolution), Image.Resampling.LANCZOS), notes


def _cut_out(pixels: np.ndarray, corners: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray, bool]:
    """The neighbourhood of the crop, padded where it reaches beyond the picture; its corners there; whether it did."""
    height, width = pixels.shape[:2]
    border = max(round(side * 0.1), 3)
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    if (high <= 0).any() or low[0] >= width or low[1] >= height:
        raise ValueError(f"landmarks: expected a face inside of the picture ({width}x{height}), got one outside")
    start = np.clip(low - border, 0, None)
    end = np.minimum(high + border, (width, height))
    pixels, corners = pixels[start[1] : end[1], start[0] : end[0]], corners - start
    height, width = pixels.shape[:2]
    low, high = low - start, high - start
    pad = np.array([*(border - low), *(high - (width, height) + border)]).clip(0)
    if pad.max() <= border - 4:
        return pixels, corners, False
    left, top, right, bottom = np.maximum(pad, round(side * 0.3))
    pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), "reflect")
    y, x = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    inside = np.minimum(np.minimum(x / left, (pixels.shape[1] - 1 - x) / right),
                        np.minimum(y / top, (pixels.shape[0] - 1 - y) / bottom))  # fmt: skip
    outside = (1 - inside)[:, :, None]  # 1 at the edge, 0 where the picture begins
    blur = side * 0.02
    pixels += (gaussian_filter(pixels, (blur, blur, 0)) - pixels) * np.clip(3 * outside + 1, 0, 1)
    pixels += (np.median(pixels, (0, 1)) - pixels) * np.clip(outside, 0, 1)
    return pixels, corners + (left, top), True


def find_faces(picture: Image.Image, predictor: str | Path | None = None) -> list[Landmarks]:
    """Upright faces seen from the front, from left to right. Nothing is downloaded.

    predictor: a file of dlib's 68 landmarks ("shape_predictor_68_face_landmarks.dat"), for which dlib must be
    installed. Without it scikit-image's cascade, which must be installed, finds the box of a face, and eyes and mouth
    are assumed to lie in it where they mostly do: good for a first look, not for measuring. Raises ``ValueError`` where
    a package or the file is missing.
    """
    pixels = np.asarray(picture.convert("RGB"))
    try:
        found = _by_cascade(pixels) if predictor is None else _by_dlib(pixels, Path(predictor))
    except ImportError as error:
        package = "scikit-image" if predictor is None else "dlib-bin"
        raise ValueError(f"finding faces needs `pip install {package}` ({error}); or give landmarks by hand") from error
    return sorted(found, key=lambda face: face.left_eye)


def _by_cascade(pixels: np.ndarray) -> list[Landmarks]:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    shorter = min(pixels.shape[:2])
    factor = min(1.0, 512 / shorter)  # finer than that it only looks longer
    height, width = (round(n * factor) for n in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
    least = max(24, min(height, width) // 10)
    boxes = Cascade(lbp_frontal_face_cascade_filename()).detect_multi_scale(
        img=small, scale_factor=1.2, step_ratio=1, min_size=(least, least), max_size=(height, width)
    )
    return [Landmarks.from_points([((box["c"] + x * box["width"]) / factor, (box["r"] + y * box["height"]) / factor)
                                   for x, y in IN_BOX]) for box in boxes]  # fmt: skip


def _by_dlib(pixels: np.ndarray, predictor: Path) -> list[Landmarks]:
    import dlib

    if not predictor.is_file():
        raise ValueError(f"{predictor}: expected dlib's file of 68 landmarks, got none; it is at "
                         "http://dlib.net/files/shape_predictor_68_face_landmarks.dat.bz2")  # fmt: skip
    try:
        places = dlib.shape_predictor(str(predictor))
    except RuntimeError as error:
        raise ValueError(f"{predictor}: expected dlib's file of 68 landmarks, got another file ({error})") from error
    boxes, _, _ = dlib.get_frontal_face_detector().run(pixels, 1, SURE)
    shapes = [[(p.x, p.y) for p in places(pixels, box).parts()] for box in boxes]
    if wrong := [len(points) for points in shapes if len(points) != 68]:
        raise ValueError(f"{predictor}: expected dlib's file of 68 landmarks, got one of {wrong[0]}")
    return [Landmarks.from_points(points) for points in shapes]


def choose_face(faces: Sequence[Landmarks], which: int | None = None) -> Landmarks:
    """The one face of a picture, or number ``which``, counted from 1 at the left; else ``ValueError`` with advice."""
    if not faces:
        raise ValueError("no face seen from the front was found: it may be a profile, too small or too dark; give eyes "
                         "and mouth by hand")  # fmt: skip
    if which is None and len(faces) > 1:
        at = ", ".join(f"{i} at ({face.left_eye[0]:.0f}, {face.left_eye[1]:.0f})" for i, face in enumerate(faces, 1))
        raise ValueError(f"{len(faces)} faces were found, from left to right: {at}; choose one by its number")
    if which is not None and not 1 <= which <= len(faces):
        raise ValueError(f"face: expected 1 to {len(faces)}, got {which}")
    return faces[(which or 1) - 1]
