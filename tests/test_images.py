"""Pictures of every kind and size become the same tensor, and each conversion is reported."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from latentlab import images as module
from latentlab.images import add_titles, find_images, read_image, tile, tile_titled, to_uint8


def write_png(path: Path, width: int, height: int, rows: Iterable[bytes], *, depth: int, colour: int) -> None:
    """Writes a PNG row by row. colour: 0 greyscale, 2 RGB."""
    packer = zlib.compressobj(1)
    data = b"".join([*(packer.compress(b"\0" + row) for row in rows), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    )


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
def test_other_modes_are_converted_and_reported(tmp_path, picture, mode, suffix, word):
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


def test_sixteen_bit_colour_is_reported(tmp_path, picture):
    """Pillow cannot write such a file."""
    rows = np.asarray(picture).astype(">u2") * 257
    write_png(tmp_path / "a.png", 64, 64, (row.tobytes() for row in rows), depth=16, colour=2)
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


MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16")


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("mode", MODES)
def test_a_large_picture_is_read_like_a_small_one(tmp_path, picture, monkeypatch, mode, orientation):
    """In bands of a few rows, reduced by 3 before the Lanczos filter; each in all modes and orientations."""
    wide = picture.resize((390, 200), Image.Resampling.BICUBIC)
    if mode in ("RGBA", "LA"):
        wide.putalpha(wide.getchannel(0))
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    deep = np.asarray(wide.convert("L")).astype(np.uint16) * 257
    other = Image.fromarray(deep) if mode == "I;16" else wide.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    other.save(file, exif=exif)
    expected, notes = read_image(file, 16)
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "BAND", 1_000)
    found, same_notes = read_image(file, 16)
    assert (found - expected).abs().mean() < 0.02 and (found - expected).abs().max() < 0.1 + 0.3 * (mode == "1")
    assert same_notes[:-1] == notes[:-1] and same_notes[-1] == "resized 200 to 16 px (while reading, then Lanczos)"


def test_pictures_of_hundreds_of_megapixels_are_read(tmp_path):
    """225 megapixels, of which Pillow raises an exception, and 108, of which it warns."""
    limit = Image.MAX_IMAGE_PIXELS
    half = b"\xff" * (15_000 // 16) + b"\0" * (15_000 // 16 + 1)
    write_png(tmp_path / "a.png", 15_000, 15_000, [half] * 15_000, depth=1, colour=0)
    images, notes = read_image(tmp_path / "a.png", 64)
    assert (images[..., :31] > 0.9).all() and (images[..., 33:] < -0.9).all()
    assert notes == ["converted 1 to RGB", "resized 15000 to 64 px (while reading, then Lanczos)"]
    Image.new("L", (12_000, 9_000), 255).save(tmp_path / "a.jpg")
    images, notes = read_image(tmp_path / "a.jpg", 64)
    assert (images == 1).all() and "cropped 12000x9000 to its central square" in notes
    assert Image.MAX_IMAGE_PIXELS == limit


def test_absurd_sizes_are_refused_in_a_line(tmp_path):
    """By the size in the header: there are no pixels to decode."""
    write_png(tmp_path / "a.png", 40_000, 40_000, [], depth=8, colour=2)
    with pytest.raises(ValueError) as refused:
        read_image(tmp_path / "a.png", 64)
    expected = "expected at most 1,000 megapixels, got 40000x40000 (1,600); downscale or crop the picture first"
    assert str(refused.value) == f"{tmp_path}/a.png: {expected}"
    with pytest.raises(ValueError, match="cannot be read"):
        (tmp_path / "b.png").write_bytes(b"no picture")
        read_image(tmp_path / "b.png", 64)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # Pillow's own limit, for the rest of the process


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_unreadable_pictures_are_refused(tmp_path, picture, damage):
    path = tmp_path / "a.png"
    picture.save(path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(ValueError, match="a.png: expected a picture, .*, got a file that cannot be read"):
        read_image(path, 64)


def test_folders(tmp_path, picture):
    with pytest.raises(ValueError, match="expected a folder with pictures .* got one without any"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_images(tmp_path / "nowhere")
    for name in ("b.PNG", "a.jpeg", "note.txt"):
        picture.save(tmp_path / name, format="png")
    assert [p.name for p in find_images(tmp_path)] == ["a.jpeg", "b.PNG"]


def test_titled_rows_have_their_own_titles():
    images = torch.zeros(3, 3, 96, 96)
    sheet = np.asarray(tile_titled(images, ["a", "b", "c"], columns=2).convert("L")).astype(int)
    band = sheet.shape[0] // 2 - 96
    assert sheet.shape[1] == 2 * 96 and band > 0
    upper, lower = sheet[:band], sheet[band + 96 : 2 * band + 96]
    for title in (upper[:, :96], upper[:, 96:], lower[:, :96]):
        assert title.min() < 100 < title.max()
    assert (lower[:, 96:] == 255).all() and (sheet[-96:, 96:] == 255).all()  # no fourth image, and no title
    assert (sheet[band : band + 96] < 200).all() and not np.array_equal(upper[:, :96], lower[:, :96])


def test_a_long_title_takes_several_lines_in_letters_of_readable_size():
    images = torch.zeros(2, 3, 256, 256)
    words = "Left: regression, smile +2.0 in all layers: total error 1.16"
    short, long_ = (np.asarray(tile_titled(images, ["a", title], columns=2).convert("L")) for title in ("b", words))
    band, wrapped = short.shape[0] - 256, long_.shape[0] - 256
    assert wrapped > band
    written = (long_[:wrapped, 256:] < 128).any(1)
    lines = int((np.diff(written.astype(int)) == 1).sum())
    assert lines >= 2 and (long_[:wrapped, [256, 257, -2, -1]] == 255).all()  # nothing is cut at the sides


def test_titles_can_have_greek_letters_in_a_font_that_has_them():
    sheet = Image.new("RGB", (256, 256))
    file = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    drawn = {title: np.asarray(add_titles(sheet, [title], file)) for title in "λψ"}
    missing = {title: np.asarray(add_titles(sheet, [title])) for title in "λψ"}  # the same box for both
    assert not np.array_equal(drawn["λ"], drawn["ψ"]) and np.array_equal(missing["λ"], missing["ψ"])


def test_tile_lays_out_rows():
    images = torch.stack([torch.full((3, 4, 4), v) for v in (-1.0, 0.0, 1.0)])
    sheet = np.asarray(tile(images, columns=2, scale=2))
    assert sheet.shape == (16, 16, 3)
    assert sheet[0, 0, 0] == 0 and sheet[0, 8, 0] == 128 and sheet[8, 0, 0] == 255


def test_titles_stand_over_their_columns_and_shrink_until_they_fit():
    sheet = Image.new("RGB", (3 * 256, 128), "red")
    titled = {}
    for name, last in {"short": "b", "long": "an edit with a rather long name +2"}.items():
        titled[name] = np.asarray(add_titles(sheet, ["a", "", last]))
        band = titled[name].shape[0] - 128
        assert (titled[name][band:] == (255, 0, 0)).all() and 8 < band < 64
        ink = [np.flatnonzero((part < 128).any((0, 2))) for part in np.split(titled[name][:band], 3, axis=1)]
        assert not len(ink[1]) and abs(ink[0].mean() - 128) < 8  # centred
        assert 0 < ink[2].min() and ink[2].max() < 255  # within its column
    assert titled["long"].shape[0] < titled["short"].shape[0]  # one size for all
    with pytest.raises(ValueError, match="titles: expected one for each column of a sheet 768 px wide, got 5"):
        add_titles(sheet, list("abcde"))
