"""Reading pictures into tensors in [-1, 1], and writing tensors as pictures."""

import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LARGE = 2**24  # pixels; a larger picture is downscaled while it is read
MOST = 10**9  # pixels that are decoded, at up to 4 bytes each
BAND = 2**22  # pixels that are converted at a time
SMALLEST = 8  # pixels, the size of the smallest title
LINE = 30  # characters of a line of a wrapped title
ORIENTATION = 0x0112  # the EXIF tag, and what turns a picture with each of its values upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LIMIT = threading.Lock()


class _TooLarge(ValueError):
    """The picture has more pixels to decode than ``MOST``."""


def read_image(path: str | Path, resolution: int) -> tuple[Float[Tensor, "1 3 r r"], list[str]]:
    """Reads a picture of any size and kind as the square tensor that a generator takes.

    Returns the image, (1, 3, resolution, resolution) in [-1, 1], and a phrase for each conversion that was needed
    (EXIF rotation, alpha over white, greyscale, 16 bit, CMYK, centre crop, resize), for the caller to report.
    Pictures over 16 megapixels are downscaled while they are read: a JPEG is decoded at 1/2, 1/4 or 1/8 of its
    size, any other file is decoded whole (up to 4 bytes a pixel) and averaged over blocks. A file that is no
    picture, is truncated, or has more than a gigapixel to decode raises ``ValueError``.
    """
    path = Path(path)
    try:
        with _without_pixel_limit(), Image.open(path) as opened:
            picture, notes = _central_square(opened, resolution)
    except (FileNotFoundError, _TooLarge):
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error
    if picture.width != resolution:
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1, notes


def open_picture(path: str | Path) -> tuple[Image.Image, list[str]]:
    """A whole picture upright and in 8-bit RGB, and a phrase for each conversion that was needed; errors as in
    ``read_image``."""
    path = Path(path)
    try:
        with _without_pixel_limit(), Image.open(path) as opened:
            _check_size(opened, *opened.size)
            narrowed = any(";16" in str(part) for part in opened.tile)
            picture = ImageOps.exif_transpose(opened)
            turned = opened.getexif().get(ORIENTATION, 1) in UPRIGHT
            deep = picture.mode.startswith("I") or picture.mode == "F"
            white = 65535 if deep and np.asarray(picture).max() > 255 else 255
            found, notes = _as_rgb(picture, white)
            notes += ["narrowed 16-bit colour to 8 bit"] if narrowed and opened.mode.startswith("RGB") else []
            return found, ["rotated upright as its EXIF tag says"] * turned + notes
    except (FileNotFoundError, _TooLarge):
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: expected a picture, e.g. a PNG or JPEG, got a file that cannot be read ({error})")


def _check_size(opened: Image.Image, width: int, height: int) -> None:
    """Refuses what has more than ``MOST`` pixels to decode; ``width`` and ``height`` are those of the file."""
    if (pixels := opened.width * opened.height) > MOST:
        raise _TooLarge(
            f"{opened.filename}: expected at most {MOST / 1e6:,.0f} megapixels, got {width}x{height} "
            f"({pixels / 1e6:,.0f}); downscale or crop the picture first"
        )


@contextmanager
def _without_pixel_limit() -> Iterator[None]:
    """Lifts Pillow's own limit (a warning at 89 megapixels, an exception at twice that), which is a global."""
    with _LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _central_square(opened: Image.Image, resolution: int) -> tuple[Image.Image, list[str]]:
    """The central square of a picture, upright, in 8-bit RGB, and a phrase for each conversion. That of a large
    picture is downscaled by an integer factor, to no less than four times the resolution."""
    (width, height), factor = opened.size, 1
    narrowed = any(";16" in str(part) for part in opened.tile)  # 16-bit colour, which Pillow reads as 8-bit
    if large := width * height > LARGE:
        opened.draft(None, (4 * resolution, 4 * resolution))  # JPEG decodes fewer pixels; other formats ignore it
    drafted = opened.size != (width, height)
    _check_size(opened, width, height)
    opened.load()
    if not drafted:
        width, height = opened.size  # loading turns a TIFF upright
    if large:
        factor = max(1, min(opened.size) // (4 * resolution))
    picture, notes = _reduced(opened, factor)
    if (turn := UPRIGHT.get(opened.getexif().get(ORIENTATION, 1))) is not None:
        notes.insert(0, "rotated upright as its EXIF tag says")
        picture = picture.transpose(turn)
        width, height = (height, width) if opened.getexif()[ORIENTATION] >= 5 else (width, height)
    notes += ["narrowed 16-bit colour to 8 bit"] if narrowed and opened.mode.startswith("RGB") else []
    if width != height:
        notes.append(f"cropped {width}x{height} to its central square")
    if (side := min(width, height)) != resolution:
        how = "while reading, then Lanczos" if drafted or factor > 1 else "Lanczos"
        notes.append(f"resized {side} to {resolution} px ({how})")
    return picture, notes


def _reduced(picture: Image.Image, factor: int) -> tuple[Image.Image, list[str]]:
    """The central square in RGB, averaged over ``factor`` x ``factor`` blocks. It is cut into bands of rows, so that
    no second copy of a large picture is made."""
    side = min(picture.size) // factor * factor
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    rows = max(1, BAND // (side * factor)) * factor
    bands = [(left, top + y, left + side, top + min(y + rows, side)) for y in range(0, side, rows)]
    white = 255
    if picture.mode.startswith("I") or picture.mode == "F":
        white = 65535 if max(np.asarray(picture.crop(band)).max() for band in bands) > 255 else 255
    square = Image.new("RGB", (side // factor, side // factor))
    for band in bands:
        part, notes = _as_rgb(picture.crop(band), white)
        square.paste(part.reduce(factor), (0, (band[1] - top) // factor))
    return square, notes


def _as_rgb(picture: Image.Image, white: int) -> tuple[Image.Image, list[str]]:
    """The picture in 8-bit RGB, and a phrase for each conversion. white: the value of white in integers or floats."""
    notes = []
    if picture.mode.startswith("I") or picture.mode == "F":
        notes.append("converted 16-bit greyscale to 8-bit RGB")
        values = np.asarray(picture, dtype=np.float64)
        picture = Image.fromarray(np.round(values / white * 255).clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        notes.append("laid its transparency over white")
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    elif picture.mode != "RGB" and not notes:
        notes.append(f"converted {picture.mode} to RGB")
    return picture.convert("RGB"), notes


def find_images(path: str | Path) -> list[Path]:
    """The picture files of a folder in the order of their names, or the one file that ``path`` names."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a picture or a folder of pictures, got a path that does not exist")
    if path.is_file():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ValueError(f"{path}: expected a folder with pictures ({', '.join(SUFFIXES)}), got one without any")
    return found


def to_uint8(images: Float[Tensor, "n 3 h w"]) -> np.ndarray:
    """Images in [-1, 1] as an array (N, H, W, 3) of uint8; values outside are clipped."""
    pixels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()


def tile(images: Float[Tensor, "n 3 h w"], columns: int, scale: int = 1) -> Image.Image:
    """Arranges images row by row in one picture, each pixel enlarged ``scale`` times."""
    if scale > 1:
        images = F.interpolate(images.float(), scale_factor=scale, mode="nearest")
    pixels = to_uint8(images)
    n, height, width, _ = pixels.shape
    sheet = np.full((-(-n // columns) * height, columns * width, 3), 255, np.uint8)
    for i, cell in enumerate(pixels):
        row, column = divmod(i, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = cell
    return Image.fromarray(sheet)


def add_titles(sheet: Image.Image, titles: Sequence[str], font: Path | None = None) -> Image.Image:
    """The sheet with a white band above it that has one title for each of its equally wide columns.

    All titles have the same size, the largest at which every line of each fits over its column; a line of more than
    some fifty characters is cut. font: a TrueType file; Pillow's own font has no Greek letters. ``ValueError`` for a
    sheet that has no such columns.
    """
    if not titles or sheet.width % len(titles):
        raise ValueError(f"titles: expected one for each column of a sheet {sheet.width} px wide, got {len(titles)}")
    width = sheet.width // len(titles)
    usual = max(SMALLEST, width // 12)
    lines = [title.split("\n") for title in titles]
    load = ImageFont.load_default if font is None else partial(ImageFont.truetype, font)
    longest = max(load(size=usual).getlength(line) for title in lines for line in title)
    letters = load(size=max(SMALLEST, int(min(usual, usual * 0.95 * width / max(longest, 1)))))
    height = round((0.4 + 1.2 * max(map(len, lines))) * letters.size)
    titled = Image.new("RGB", (sheet.width, sheet.height + height), "white")
    titled.paste(sheet, (0, height))
    for column, title in enumerate(titles):
        band = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(band).text((width / 2, height / 2), title, "black", letters, anchor="mm", align="center")
        titled.paste(band, (column * width, 0))
    return titled


def tile_titled(
    images: Float[Tensor, "n 3 h w"], titles: Sequence[str], columns: int, font: Path | None = None
) -> Image.Image:
    """Arranges images row by row in one picture, each row below a band with the titles of its images, wrapped.

    font: as in ``add_titles``.
    """
    rows = []
    for start in range(0, len(images), columns):
        row = slice(start, start + columns)
        names = [textwrap.fill(title, LINE) for title in titles[row]]
        names += [""] * (columns - len(names))  # the last row may be shorter
        rows.append(add_titles(tile(images[row], columns), names, font))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for i, row in enumerate(rows):
        sheet.paste(row, (0, sum(above.height for above in rows[:i])))
    return sheet
