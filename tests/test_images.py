"""Pictures of every kind become the same tensor, and what was changed is said."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from latentlab.images import find_images, read_image, tile, to_uint8


@pytest.fixture
def picture() -> Image.Image:
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.arange(64)[None] * 4
    ramp[..., 1] = np.arange(64)[:, None] * 4
    ramp[..., 2] = 90
    return Image.fromarray(ramp)


def test_png_round_trip_is_exact(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    images, notes = read_image(tmp_path / "a.png", 64)
    assert images.shape == (1, 3, 64, 64) and notes == []
    assert np.array_equal(to_uint8(images)[0], np.asarray(picture))


@pytest.mark.parametrize(
    ("mode", "suffix", "word"),
    [("RGBA", "png", "transparency"), ("LA", "png", "transparency"), ("L", "png", "L to RGB"),
     ("CMYK", "jpg", "CMYK"), ("P", "png", "P to RGB"), ("I;16", "png", "16-bit")],
)  # fmt: skip
def test_other_modes_are_converted_and_told(tmp_path, picture, mode, suffix, word):
    if mode == "I;16":
        other = Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16)) * 257)
    else:
        other = picture.convert("L").convert(mode) if mode == "LA" else picture.convert(mode)
    other.save(tmp_path / f"a.{suffix}")
    images, notes = read_image(tmp_path / f"a.{suffix}", 64)
    assert images.shape == (1, 3, 64, 64) and images.abs().max() <= 1
    assert word in " ".join(notes)
    if mode == "I;16":
        assert np.allclose(to_uint8(images)[0, ..., 0], np.asarray(picture.convert("L")), atol=1)


def test_sixteen_bit_colour_is_told(tmp_path, picture):
    """Pillow writes no such file, so the PNG is put together by hand."""
    rows = np.asarray(picture).astype(">u2") * 257
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    )
    images, notes = read_image(tmp_path / "a.png", 64)
    assert notes == ["narrowed 16-bit colour to 8 bit"]
    assert np.allclose(to_uint8(images)[0], np.asarray(picture), atol=1)


def test_alpha_lies_over_white(tmp_path):
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png", 16)[0], torch.ones(1, 3, 16, 16))


def test_exif_rotation_is_undone(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    picture.save(tmp_path / "a.png", exif=exif)
    images, notes = read_image(tmp_path / "a.png", 64)
    assert "EXIF" in notes[0]
    assert np.array_equal(to_uint8(images)[0], np.asarray(picture.rotate(-90)))


def test_any_size_is_cropped_and_resized(tmp_path, picture):
    picture.resize((300, 200)).save(tmp_path / "a.jpg")
    images, notes = read_image(tmp_path / "a.jpg", 64)
    assert images.shape == (1, 3, 64, 64)
    assert "central square" in notes[0] and "200 to 64" in notes[1]


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_unreadable_pictures_are_told(tmp_path, picture, damage):
    path = tmp_path / "a.png"
    picture.save(path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(ValueError, match="not a readable picture"):
        read_image(path, 64)


def test_folders(tmp_path, picture):
    with pytest.raises(ValueError, match="no pictures"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_images(tmp_path / "nowhere")
    for name in ("b.PNG", "a.jpeg", "note.txt"):
        picture.save(tmp_path / name, format="png")
    assert [p.name for p in find_images(tmp_path)] == ["a.jpeg", "b.PNG"]


def test_tile_lays_out_rows():
    images = torch.stack([torch.full((3, 4, 4), v) for v in (-1.0, 0.0, 1.0)])
    sheet = np.asarray(tile(images, columns=2, scale=2))
    assert sheet.shape == (16, 16, 3)
    assert sheet[0, 0, 0] == 0 and sheet[0, 8, 0] == 128 and sheet[8, 0, 0] == 255
