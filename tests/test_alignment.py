"""FFHQ's crop: on a public-domain portrait, and by the properties that define it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from latentlab.alignment import Landmarks, align_face, choose_face, crop_corners, find_faces
from latentlab.cli import main

# Eileen Collins' portrait by NASA, as scikit-image ships it: eyes and mouth corners read off by hand.
BY_HAND = [(203.4, 100.6), (246.6, 103.0), (204.4, 140.0), (243.6, 141.0)]


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return Image.fromarray(data.astronaut())


def upright(eyes: float = 40, mouth: float = 44, x: float = 100, y: float = 90) -> Landmarks:
    points = [(x - eyes / 2, y), (x + eyes / 2, y), (x - 15, y + mouth), (x + 15, y + mouth)]
    return Landmarks.from_points(points)


def test_the_crop_is_ffhqs():
    """Half its side is max(2 |eyes|, 1.8 |mouth|), its centre a tenth of the way from the eyes to the mouth."""
    for eyes, mouth in ((40, 44), (30, 50)):
        corners = crop_corners(upright(eyes, mouth))
        half = max(2.0 * eyes, 1.8 * mouth)
        centre = np.array([100, 90 + 0.1 * mouth])
        np.testing.assert_allclose(corners, centre + half * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]))


def test_the_crop_lies_between_eyes_and_mouth():
    """With the mouth to one side, its axis is the mean of the eyes' and of the mouth's, turned by 90 degrees."""
    face = Landmarks.from_points([(80, 90), (120, 90), (95, 134), (125, 134)])  # eyes (40, 0), to the mouth (10, 44)
    x = np.array([40 + 44, 0 - 10]) / np.hypot(84, 10) * 1.8 * np.hypot(10, 44)
    y = np.array([-x[1], x[0]])
    corners = np.array([101, 94.4]) + np.stack([-x - y, -x + y, x + y, x - y])
    np.testing.assert_allclose(crop_corners(face), corners)


def test_the_crop_turns_and_grows_with_the_face():
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]) * 1.7
    face = upright()
    points = np.array([face.left_eye, face.right_eye, face.mouth_left, face.mouth_right])
    turned = Landmarks.from_points(points @ turn.T)
    np.testing.assert_allclose(crop_corners(turned), crop_corners(face) @ turn.T)


def where_it_was(landmarks: Landmarks, point: tuple[float, float], resolution: int) -> np.ndarray:
    """A point of the picture in pixels of the crop."""
    upper_left, lower_left, _, upper_right = crop_corners(landmarks)
    axes = np.stack([upper_right - upper_left, lower_left - upper_left], 1)
    return np.linalg.solve(axes, np.array(point) - upper_left) * resolution - 0.5


@pytest.mark.parametrize("size", [256, 2000])  # 2000: the picture is first made smaller
def test_points_come_where_the_geometry_says(size):
    """Four coloured dots in a turned face, found again in the crop."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    points = (np.array([(-20, 0), (20, 0), (-15, 44), (15, 44)]) @ turn.T + (128, 110)) * size / 256
    pixels = np.zeros((size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    for (px, py), colour in zip(points, colours, strict=True):
        pixels[(x - px) ** 2 + (y - py) ** 2 < (3 * size / 256) ** 2] = colour
    face = Landmarks.from_points(points)
    aligned, _ = align_face(Image.fromarray(pixels), face, 128)
    got = np.asarray(aligned).astype(float)
    for point, colour in zip(points, colours, strict=True):
        weight = np.clip(255 - np.abs(got - colour).sum(2), 0, None)
        y, x = np.mgrid[:128, :128]
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        assert np.abs(found - where_it_was(face, point, 128)).max() < 1.0


def test_the_portrait_is_aligned(portrait):
    aligned, notes = align_face(portrait, Landmarks.from_points(BY_HAND), 256)
    assert aligned.size == (256, 256) and notes == []
    again, _ = align_face(aligned, Landmarks.from_points([where_it_was(Landmarks.from_points(BY_HAND), p, 256)
                                                          for p in BY_HAND]), 256)  # fmt: skip
    difference = np.abs(np.asarray(aligned, float) - np.asarray(again, float))
    assert difference[40:-40, 40:-40].mean() < 3  # an aligned picture stays as it is


def test_the_edge_is_mirrored_and_blurred(portrait):
    """Within the picture nothing is changed but close to the edge; beyond it there is no black."""
    inner = portrait.crop((150, 60, 300, 180))
    face = Landmarks.from_points(np.array(BY_HAND) - (150, 60))
    aligned, notes = align_face(inner, face, 256)
    whole, _ = align_face(portrait, Landmarks.from_points(BY_HAND), 256)
    assert any("beyond the picture" in note for note in notes)
    difference = np.abs(np.asarray(aligned, float) - np.asarray(whole, float)).mean(2)
    assert difference[110:150, 110:150].mean() < 12 and np.asarray(aligned)[-5:].mean() > 40


def test_faces_are_found_and_their_crop_is_near(portrait):
    (face,) = find_faces(portrait)
    got, want = crop_corners(face), crop_corners(Landmarks.from_points(BY_HAND))
    side = np.hypot(*(want[1] - want[0]))
    assert np.abs(got.mean(0) - want.mean(0)).max() < 0.1 * side
    assert abs(np.hypot(*(got[1] - got[0])) / side - 1) < 0.15
    assert choose_face([face]) is face


def test_several_faces_none_and_a_profile(portrait):
    two = Image.fromarray(np.concatenate([np.asarray(portrait)] * 2, 1))
    faces = find_faces(two)
    assert len(faces) == 2 and faces[1].left_eye[0] - faces[0].left_eye[0] == pytest.approx(512, abs=15)
    with pytest.raises(ValueError, match=r"2 faces were found, from left to right: 1 at .* choose one"):
        choose_face(faces)
    assert choose_face(faces, 2) is faces[1]
    with pytest.raises(ValueError, match="face: expected 1 to 2, got 3"):
        choose_face(faces, 3)
    for nobody in (data.coffee(), data.camera()):  # the photographer is seen from the side
        with pytest.raises(ValueError, match="no face seen from the front.*profile.*by hand"):
            choose_face(find_faces(Image.fromarray(nobody)))
    _, notes = align_face(portrait, upright(eyes=15, mouth=40, x=225, y=110), 64)
    assert any("profile" in note for note in notes)


@pytest.mark.parametrize("points, says", [
    ([(1, 2)] * 3, r"got the shape \(3, 2\)"), ([(1, 2)] * 4, "on one line"),
    ([(0, 0), (1, np.nan), (0, 1), (1, 1)], "shape"),
    ([BY_HAND[i] for i in (1, 0, 3, 2)], "mirrored"), ([BY_HAND[i] for i in (2, 3, 0, 1)], "mirrored")])  # fmt: skip
def test_impossible_landmarks_are_refused(points, says):
    with pytest.raises(ValueError, match=f"landmarks: expected .*{says}"):
        Landmarks.from_points(points)


def test_faces_outside_of_the_picture_are_refused(portrait):
    with pytest.raises(ValueError, match=r"inside of the picture \(512x512\)"):
        align_face(portrait, upright(x=5000), 64)


def test_points_of_other_detectors():
    five = [*BY_HAND[:2], (225, 120), *BY_HAND[2:]]
    many = np.zeros((68, 2))
    many[36:42], many[42:48], many[48], many[54] = BY_HAND
    assert Landmarks.from_points(five) == Landmarks.from_points(BY_HAND)
    np.testing.assert_allclose(crop_corners(Landmarks.from_points(many)), crop_corners(Landmarks.from_points(BY_HAND)))


def test_dlib_serves_where_it_is(tmp_path, portrait, monkeypatch):
    """A stand-in for dlib, which is no dependency: a box finder and a predictor read from a file."""
    points = [SimpleNamespace(x=0, y=0)] * 36
    points += [SimpleNamespace(x=x, y=y) for p, n in zip(BY_HAND[:2], (6, 6), strict=True) for x, y in [p] * n]
    points += [SimpleNamespace(x=x, y=y) for x, y in [BY_HAND[2]] * 6 + [BY_HAND[3]] * 14]
    dlib = SimpleNamespace(
        get_frontal_face_detector=lambda: SimpleNamespace(run=lambda pixels, up, least: (["box"], [1.0], [0])),
        shape_predictor=lambda path: lambda pixels, box: SimpleNamespace(parts=lambda: points))  # fmt: skip
    monkeypatch.setitem(sys.modules, "dlib", dlib)
    file = tmp_path / "shape.dat"
    with pytest.raises(ValueError, match="expected dlib's file of 68 landmarks"):
        find_faces(portrait, file)
    file.touch()
    (face,) = find_faces(portrait, file)
    np.testing.assert_allclose(crop_corners(face), crop_corners(Landmarks.from_points(BY_HAND)))
    del points[5:]  # dlib has a predictor of five as well, which are others than the five of other detectors
    with pytest.raises(ValueError, match="expected dlib's file of 68 landmarks, got one of 5"):
        find_faces(portrait, file)
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(ValueError, match="pip install dlib-bin"):
        find_faces(portrait, file)
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ValueError, match="pip install scikit-image.*by hand"):
        find_faces(portrait)


def test_dlib_itself_finds_the_portrait_and_no_patch(tmp_path, portrait):
    """Where dlib is installed, with a small predictor that is trained on the portrait: its real file cannot be had."""
    dlib = pytest.importorskip("dlib")
    pixels = np.asarray(portrait)
    points = [(225, 110)] * 36 + [BY_HAND[0]] * 6 + [BY_HAND[1]] * 6 + [BY_HAND[2]] * 6 + [BY_HAND[3]] * 14
    parts = [dlib.point(round(x), round(y)) for x, y in points]
    shape = dlib.full_object_detection(dlib.rectangle(175, 76, 265, 166), parts)
    options = dlib.shape_predictor_training_options()
    options.tree_depth, options.cascade_depth, options.num_trees_per_cascade_level = 2, 4, 40
    dlib.train_shape_predictor([pixels], [[shape]], options).save(str(tmp_path / "68.dat"))
    face = choose_face(find_faces(portrait, tmp_path / "68.dat"))
    got, want = crop_corners(face), crop_corners(Landmarks.from_points(BY_HAND))
    assert np.abs(got - want).max() < 0.1 * np.hypot(*(want[1] - want[0]))


def test_the_command_line_aligns(tmp_path, portrait, capsys):
    photo, out = tmp_path / "photo.png", tmp_path / "out" / "face.png"
    portrait.save(photo)
    points = [f"{x},{y}" for x, y in BY_HAND]
    assert main(["align", str(photo), "--points", *points, "--resolution", "64", "--out", str(out)]) == 0
    want, _ = align_face(portrait, Landmarks.from_points(BY_HAND), 64)
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(want))
    assert main(["align", str(photo), "--resolution", "256", "--out", str(out)]) == 0
    assert "assumed from the face's box" in capsys.readouterr().out
    Image.fromarray(data.coffee()).save(photo)
    assert main(["align", str(photo)]) == 2
    assert "no face seen from the front" in capsys.readouterr().err
