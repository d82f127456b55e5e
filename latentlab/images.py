"""Pictures as files: any PNG or JPEG to a tensor in [-1, 1] and back."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read_image(path: str | Path, resolution: int) -> tuple[Float[Tensor, "1 3 r r"], list[str]]:
    """Reads a picture of any size and kind as the square tensor that a generator takes.

    Returns the image, (1, 3, resolution, resolution) in [-1, 1], and one sentence for each conversion
    that was needed (EXIF rotation, alpha over white, greyscale, 16 bit, CMYK, centre crop, resize), so
    that the caller can say so. A file that is no picture, or is cut off, raises ``ValueError``.
    """
    picture, notes = open_picture(path)
    side = min(picture.size)
    if picture.size != (side, side):
        notes.append(f"cropped {picture.width}x{picture.height} to its central square")
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    if side != resolution:
        notes.append(f"resized {side} to {resolution} px (Lanczos)")
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1, notes


def open_picture(path: str | Path) -> tuple[Image.Image, list[str]]:
    """A picture file upright and in 8-bit RGB, and one sentence for each conversion that was needed."""
    path = Path(path)
    try:
        with Image.open(path) as opened:
            deep = any(";16" in str(part) for part in opened.tile)  # Pillow narrows 16-bit colour silently
            opened.load()
            picture, notes = _as_rgb(opened)
            notes += ["narrowed 16-bit colour to 8 bit"] if deep and opened.mode.startswith("RGB") else []
            return picture, notes
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}); a PNG or JPEG is wanted") from error


def _as_rgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture upright and in 8-bit RGB, with a sentence for each thing that was changed."""
    notes = []
    upright = ImageOps.exif_transpose(picture)
    if picture.getexif().get(0x0112, 1) != 1:
        notes.append("rotated upright as its EXIF tag says")
    if upright.mode.startswith("I") or upright.mode == "F":
        notes.append("converted 16-bit greyscale to 8-bit RGB")
        values = np.asarray(upright, dtype=np.float64)
        scale = 65535 if values.max() > 255 else 255
        upright = Image.fromarray(np.round(values / scale * 255).clip(0, 255).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        notes.append("laid its transparency over white")
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    elif upright.mode != "RGB" and not notes:
        notes.append(f"converted {upright.mode} to RGB")
    return upright.convert("RGB"), notes


def find_images(path: str | Path) -> list[Path]:
    """The pictures of a folder in the order of their names, or the one file named."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_file():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ValueError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
    return found


def to_uint8(images: Float[Tensor, "n 3 h w"]) -> np.ndarray:
    """Images in [-1, 1] as (N, H, W, 3) bytes; values outside are clipped."""
    pixels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()


def tile(images: Float[Tensor, "n 3 h w"], columns: int, scale: int = 1) -> Image.Image:
    """Lays images out row by row in one picture, each pixel enlarged ``scale`` times."""
    if scale > 1:
        images = F.interpolate(images.float(), scale_factor=scale, mode="nearest")
    pixels = to_uint8(images)
    n, height, width, _ = pixels.shape
    sheet = np.full((-(-n // columns) * height, columns * width, 3), 255, np.uint8)
    for i, cell in enumerate(pixels):
        row, column = divmod(i, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = cell
    return Image.fromarray(sheet)
