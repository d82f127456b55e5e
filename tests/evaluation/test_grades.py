"""No reported grade comes from the networks in ``losses``: with those made useless, every grade stays the same."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from latentlab.evaluation import evaluate, load_judges, tables
from latentlab.faces import FaceSet, real_set
from latentlab.images import read_image, tile
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS, invert
from latentlab.jobs.inversions import invert_files
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.weights.generators import load


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return real_set()[:2]


@pytest.fixture(scope="module")
def found(faces: FaceSet) -> Inversion:
    return invert(faces.images, load("faces-64"), "ii2s", steps=3)


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every loader of ``losses`` fail, wherever a module of latentlab holds it."""

    def poisoned(*_: Any, **__: Any) -> None:
        raise AssertionError("a network of losses was loaded to grade")

    loaders = (load_perceptual, load_identity, load_attributes)
    for name, module in list(sys.modules.items()):
        if name.startswith("latentlab"):
            for key, value in list(vars(module).items()):
                if any(value is loader for loader in loaders):
                    monkeypatch.setattr(module, key, poisoned)


def command_line(found: Inversion, faces: FaceSet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pandas.DataFrame:
    source = folder / "in"
    source.mkdir(exist_ok=True)
    for i, image in enumerate(faces.images):
        tile(image[None], columns=1).save(source / f"{i}.png")
    monkeypatch.setattr("latentlab.jobs.inversions.invert", lambda *_, **__: found)
    return invert_files(source, folder / "out", edits=[("smile", 2.0)])


def evaluation(found: Inversion, faces: FaceSet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pandas.DataFrame:
    return evaluate([found], faces, edits=[("smile", 1.0)], invert=lambda name, x: found)


def benchmark(found: Inversion, faces: FaceSet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pandas.DataFrame:
    monkeypatch.setattr(tables, "real_set", lambda: FakeSet(faces))
    monkeypatch.setattr(tables, "invert", lambda *_, **__: found)
    return tables.measure_inversions(["ii2s"])


class FakeSet:
    def __init__(self, faces: FaceSet) -> None:
        self.clean = self.strange = faces


@pytest.mark.parametrize("reporter", [command_line, evaluation, benchmark])
def test_grades_do_not_depend_on_the_losses(
    reporter: Callable, found: Inversion, faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = reporter(found, faces, tmp_path, monkeypatch)
    poison(monkeypatch)
    with pytest.raises(AssertionError, match="was loaded to grade"):
        METHODS["ii2s"](faces.images, found.generator, steps=1)  # so the poison works
    monkeypatch.setattr(found, "trace", {term: values * torch.nan for term, values in found.trace.items()})
    after = reporter(found, faces, tmp_path, monkeypatch)
    pandas.testing.assert_frame_equal(before, after)
    assert any(column.startswith("perceptual (") for column in after)


def test_the_command_line_reports_the_judges(found: Inversion, faces: FaceSet, tmp_path, monkeypatch):
    table, judges = command_line(found, faces, tmp_path, monkeypatch), load_judges()
    images = torch.cat([read_image(tmp_path / "in" / f"{i}.png", 64)[0] for i in range(2)])
    with torch.no_grad():
        distance = judges.perceptual(found.image.clamp(-1, 1), images)
        similarity = 1 - judges.identity(found.image.clamp(-1, 1), images)
        losses = load_perceptual()(found.image.clamp(-1, 1), images)
    assert table[f"perceptual ({judges.backbone})"].tolist() == pytest.approx(distance.tolist(), rel=1e-4)
    assert table[f"identity ({judges.backbone})"].tolist() == pytest.approx(similarity.tolist(), rel=1e-4)
    assert (distance - losses).abs().min() > 1e-3  # the two families differ, or this test shows nothing
