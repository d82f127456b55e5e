"""The widget that compares ways of editing, without a browser: its images, errors and code."""

import math

import pytest
import torch

import latentlab as ll
from latentlab.editing.edit import Direction
from latentlab.evaluation import true_edit
from latentlab.faces import real_set
from latentlab.metrics import edit_error
from latentlab.stylegan.generator import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def faces():
    return real_set(16).clean[:3]


@pytest.fixture(scope="module")
def inv(faces) -> ll.Inversion:
    G = Generator(GeneratorConfig(16, z_dim=16, w_dim=16, channels=(8, 8, 8))).requires_grad_(False)
    w_plus = torch.randn(3, G.num_ws, 16, generator=torch.Generator().manual_seed(1))
    return ll.Inversion(ll.State(w_plus), G.synthesis(w_plus), G, "known")


@pytest.fixture(scope="module")
def ways() -> dict[str, dict[str, Direction]]:
    draw = torch.Generator().manual_seed(2)

    def direction(name: str, std: float) -> Direction:
        return Direction(name, torch.randn(16, generator=draw), std)

    first = {"smile": direction("smile", math.nan), "glasses": direction("glasses", 0.5), "odd": direction("odd", 1.0)}
    return {"first": first, "second": {"smile": direction("smile", 0.3)}, "third": {"smile": direction("smile", 0.6)}}


@pytest.fixture
def panel(inv, ways, faces) -> ll.widgets.Comparer:
    return ll.widgets.compare(inv, ways, faces)


def changed(panel, **values) -> list[bool]:
    before = [picture.image for picture in panel.pictures]
    panel.set(**values)
    assert panel.error.value == ""
    return [not torch.equal(a, b.image) for a, b in zip(before, panel.pictures, strict=True)]


def test_images_follow_the_controls(panel, inv, ways):
    assert [picture.name for picture in panel.pictures] == ["Inversion", "Left", "Right", "Truth"]
    assert changed(panel, strength=2.0) == [False, True, True, True]
    assert changed(panel, right="third") == [False, False, True, True]
    assert changed(panel, layers=(2, 4)) == [False, True, True, False]
    assert changed(panel, face=2) == [True, True, True, True]
    edit = ll.restrict(ways["third"]["smile"], range(2, 4))
    torch.testing.assert_close(panel.pictures[2].image, inv[2].edit(edit, 2.0))
    assert changed(panel, layers=(3, 3)) == [False, True, True, False]
    torch.testing.assert_close(panel.pictures[1].image, inv[2].image)
    panel.reset_button.click()
    assert panel.state.face == 0 and (panel.state.left, panel.state.right) == ("first", "second")
    assert all(control.description for control in panel.controls.values())


def test_total_errors_and_truth(panel, inv, ways, faces):
    panel.set(right="third", strength=-1.5, face=1)
    truth = faces[1].truth(smile=-1.5 * 0.6)  # the left way does not say what its strength 1 is: the right one's
    assert torch.equal(panel.pictures[3].image, truth.images)
    for picture, way in zip(panel.pictures[1:3], ("first", "third"), strict=True):
        error = edit_error(inv[1].image, inv[1].edit(ways[way]["smile"], -1.5), faces[1].images, truth.images)
        words = f"{way}, smile -1.5 in all layers: total error {float(error):.2f} (no edit 1, truth 0)"
        assert picture.alt == f"{picture.name}: {words}"
    before, after = float(faces.factors["smile"][1]), float(truth.factors["smile"])
    assert panel.pictures[3].alt == f"Truth: smile from {before:.2f} to {after:.2f}"
    panel.set(strength=0.0)
    assert "total error" not in panel.pictures[1].alt and "which changes nothing" in panel.pictures[3].alt


def test_truth_of_a_binary_factor_and_of_none(inv, ways, faces):
    panel = ll.widgets.compare(inv, {"a": ways["first"], "b": ways["first"]}, faces)
    panel.set(factor="glasses", strength=1.0)
    assert torch.equal(panel.pictures[3].image, true_edit(faces[0], ways["first"]["glasses"], 1.0).images)
    panel.set(factor="odd")
    assert panel.pictures[3].alt == "Truth: unknown of odd; the given face" and "error" not in panel.pictures[1].alt
    panel.set(factor="smile")  # neither way says what its strength 1 is
    assert panel.pictures[3].alt == "Truth: unknown of smile; the given face" and panel.error.value == ""


@pytest.mark.parametrize("layers", [(0, 6), (1, 3), (2, 2)])
@pytest.mark.parametrize("right", ["second", "first"])
def test_the_code_reproduces_it(panel, inv, ways, faces, layers, right):
    panel.set(face=1, right=right, strength=1.5, layers=layers)
    scope = {"inv": inv, "ways": ways, "faces": faces}
    exec(panel.code.value, scope)
    _, left, right_, truth = (picture.image for picture in panel.pictures)
    assert torch.equal(scope["left"], left) and torch.equal(scope["right"], right_)
    if right == "second":
        assert torch.equal(scope["truth"], truth)
        pairs = zip(scope["errors"], panel.pictures[1:3], strict=True)
        assert all(f"total error {float(error):.2f}" in picture.alt for error, picture in pairs)
    else:
        assert "truth" not in panel.code.value


def test_only_what_changes_is_computed(panel, inv, monkeypatch):
    calls, edit = [], ll.Inversion.edit
    monkeypatch.setattr(ll.Inversion, "edit", lambda self, e, s: calls.append(e.name) or edit(self, e, s))
    panel.set(right="third")
    assert len(calls) == 1
    panel.set(strength=2.0)
    assert len(calls) == 3


def test_without_faces_there_is_no_truth(inv, ways):
    panel = ll.widgets.compare(inv, ways)
    assert [picture.name for picture in panel.pictures] == ["Inversion", "Left", "Right"]
    assert "error" not in panel.pictures[1].alt and "truth" not in panel.code.value


def test_bad_input_is_told(panel, inv, ways, faces):
    panel.set(factor="glasses")
    assert "expected one with an edit of glasses, got &#x27;second&#x27;, which has smile" in panel.error.value
    with pytest.raises(ValueError, match="ways: expected name -> factor -> Edit .*: {'a': 0}"):
        ll.widgets.compare(inv, {"a": {}})
    with pytest.raises(ValueError, match=r"faces: expected those of the inversion, \(3, 3, 16, 16\), got \(2, 3"):
        ll.widgets.compare(inv, ways, faces[:2])
