"""A folder of pictures as training data: its order, and what is wrong with it."""

import pytest
import torch
from PIL import Image

from latentlab.training.pictures import PictureFolder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """Five grey pictures, which their shade tells apart, one of them in a folder of its own."""
    (tmp_path / "more").mkdir()
    for i in range(5):
        place = tmp_path / "more" if i == 4 else tmp_path
        Image.new("RGB", (40, 32), (50 * i,) * 3).save(place / f"{i}.png")
    return tmp_path


def shades(images: torch.Tensor) -> list[int]:
    return [round(float(x)) for x in (images.mean((1, 2, 3)) + 1) * 127.5 / 50]


def test_every_epoch_shows_every_picture_once(folder):
    data = PictureFolder(folder, 16, seed=3)
    first, second = shades(data(0, 5, CPU)), shades(data(5, 5, CPU))
    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4] and first != second
    assert shades(PictureFolder(folder, 16, seed=3)(2, 3, CPU)) == first[2:]  # a resumed run sees the same
    assert data(0, 2, CPU).shape == (2, 3, 16, 16)


def test_half_of_the_pictures_are_mirrored(tmp_path):
    picture = Image.new("RGB", (16, 16))
    picture.paste((255, 255, 255), (0, 0, 8, 16))
    picture.save(tmp_path / "half.png")
    left = PictureFolder(tmp_path, 16)(0, 40, CPU)[:, 0, 0, 0] > 0
    assert 8 < int(left.sum()) < 32


def test_a_broken_file_is_named_skipped_and_counted(folder):
    (folder / "2.png").write_bytes(b"no picture")
    data = PictureFolder(folder, 16)
    with pytest.warns(UserWarning, match="2.png: expected a picture.*left out, 1 of 5 so far") as told:
        seen = shades(data(0, 10, CPU))
    assert len(told) == 1 and 2 not in seen and list(data.broken) == [folder / "2.png"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected pictures .*got a folder without any"):
        PictureFolder(tmp_path, 16)
    with pytest.raises(ValueError, match="expected a folder of pictures, got .*none"):
        PictureFolder(tmp_path / "nowhere", 16)
    (tmp_path / "1.png").write_bytes(b"")
    data = PictureFolder(tmp_path, 16)
    with pytest.warns(UserWarning, match="1.png"), pytest.raises(ValueError, match="1 files that cannot be read"):
        data(0, 1, CPU)
