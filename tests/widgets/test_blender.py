"""The widget that moves between two inversions, without a browser: its images, numbers and code."""

import math

import pytest
import torch
from small import small_generator

import latentlab as ll
from latentlab.editing.edit import Direction
from latentlab.evaluation import true_edit
from latentlab.faces import real_set
from latentlab.metrics import code_variation, edit_error, psnr
from latentlab.stylegan.generator import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def faces():
    return real_set(16).clean[:3]


def inversion(name: str, G: Generator, seed: int, n: int = 3) -> ll.Inversion:
    w_plus = torch.randn(n, G.num_ws, 16, generator=torch.Generator().manual_seed(seed))
    return ll.Inversion(ll.State(w_plus), G.synthesis(w_plus), G, name)


def generator(seed: int = 0) -> Generator:
    return Generator(GeneratorConfig(16, z_dim=16, w_dim=16, channels=(8, 8, 8)), seed=seed).requires_grad_(False)


@pytest.fixture(scope="module")
def ab() -> tuple[ll.Inversion, ll.Inversion]:
    G = generator()
    return inversion("first", G, 1), inversion("second", G, 2)


@pytest.fixture(scope="module")
def edits() -> dict[str, Direction]:
    draw = torch.Generator().manual_seed(3)
    stds = {"smile": 0.3, "glasses": math.nan, "odd": 1.0}
    return {name: Direction(name, torch.randn(16, generator=draw), std) for name, std in stds.items()}


@pytest.fixture
def panel(ab, faces, edits) -> ll.widgets.Blender:
    return ll.widgets.blend(*ab, faces, edits)


def changed(panel, **values) -> list[bool]:
    before = [picture.image for picture in panel.pictures]
    panel.set(**values)
    assert panel.error.value == ""
    return [not torch.equal(a, b.image) for a, b in zip(before, panel.pictures, strict=True)]


def test_images_follow_the_controls(panel, ab):
    assert [picture.name for picture in panel.pictures] == ["Given", "Between", "Edit", "Truth"]
    torch.testing.assert_close(panel.pictures[1].image, ab[0].image[:1])
    assert changed(panel, t=1.0) == [False, True, True, False]
    torch.testing.assert_close(panel.pictures[1].image, ab[1].image[:1])
    assert changed(panel, strength=2.0) == [False, False, True, True]
    assert changed(panel, factor="odd") == [False, False, True, True]
    assert changed(panel, face=2) == [True, True, True, True]
    panel.reset_button.click()
    assert panel.state == type(panel.state)(0, 0.0, "smile", 1.0)
    assert all(control.description for control in panel.controls.values())


def test_the_numbers_are_right(panel, ab, faces, edits):
    panel.set(face=1, t=0.35, strength=-1.5)
    codes = 0.65 * ab[0].latent[1:2] + 0.35 * ab[1].latent[1:2]
    image, given = ab[0].generator.synthesis(codes), faces[1]
    edited = ab[0].generator.synthesis(codes - 1.5 * edits["smile"].vector)
    truth = true_edit(given, edits["smile"], -1.5)
    error = float(edit_error(image, edited, given.images, truth.images))
    told = f"variation {float(code_variation(codes)):.1f}, PSNR {float(psnr(image, given.images)):.1f} dB"
    _, between, edit, true = (picture.alt for picture in panel.pictures)
    assert between == f"Between: face 1, t 0.35 from first to second: {told}"
    assert edit == f"Edit: smile -1.5: total error {error:.2f} (no edit 1, truth 0)"
    before, after = float(given.factors["smile"]), float(truth.factors["smile"])
    assert true == f"Truth: smile from {before:.2f} to {after:.2f}"
    panel.set(strength=0.0)
    assert "total error" not in panel.pictures[2].alt


def test_truth_of_a_binary_factor_and_of_none(panel, faces, edits):
    panel.set(factor="glasses")  # glasses are there or not, whatever the edit's unit is
    assert torch.equal(panel.pictures[3].image, true_edit(faces[0], edits["glasses"], 1.0).images)
    panel.set(factor="odd")
    assert panel.pictures[3].alt == "Truth: unknown of odd; the given face" and "error" not in panel.pictures[2].alt


@pytest.mark.parametrize("factor", ["smile", "odd"])
def test_the_code_reproduces_it(panel, ab, faces, edits, factor):
    panel.set(face=1, t=0.6, factor=factor, strength=1.5)
    scope = {"a": ab[0], "b": ab[1], "edits": edits, "faces": faces}
    exec(panel.code.value, scope)
    _, between, edit, truth = panel.pictures
    assert torch.equal(scope["image"], between.image) and torch.equal(scope["edited"], edit.image)
    assert f"variation {float(scope['variation']):.1f}, PSNR {float(scope['psnr']):.1f} dB" in between.alt
    assert ("truth" in scope) == (factor == "smile")
    if factor == "smile":
        assert torch.equal(scope["truth"], truth.image) and f"total error {float(scope['error']):.2f}" in edit.alt


def test_a_line_through_w_plus_to_f_space(faces, edits):
    """With three inversions t runs to 2; each station is drawn as it was found, and its feature map is edited along."""
    G = small_generator(1, 32)
    codes, draw = G.broadcast(G.w_avg[None]).repeat(2, 1, 1), torch.Generator().manual_seed(5)
    near = codes + 0.5 * torch.randn(codes.shape, generator=draw)
    states = ll.State(codes), ll.State(near), ll.State(near, features={4: torch.randn(2, 16, 4, 4, generator=draw)},
                                                       replace_rgb=False)  # fmt: skip
    w, w_plus, f = (ll.Inversion(s, s.draw(G), G, "clcae", knobs={"space": n}) for s, n in
                    zip(states, ("W", "W+", "F"), strict=True))  # fmt: skip
    panel = ll.widgets.blend(w, f, edits=edits, through=[w_plus])
    for t, station in ((0.0, w), (1.0, w_plus), (2.0, f)):
        panel.set(t=t, face=1, strength=1.0)
        torch.testing.assert_close(panel.pictures[0].image, station.image[1:], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(panel.pictures[1].image, station[1].edit(edits["smile"]), rtol=1e-4, atol=1e-4)
    assert "t 2.00 from W to W+ to F" in panel.pictures[0].alt
    panel.set(t=1.6)
    half = 0.4 * G.features(near[1:])[4] + 0.6 * f.features[4][1:]
    expected = G.synthesis(near[1:], replace={4: half}, replace_rgb=False)
    torch.testing.assert_close(panel.pictures[0].image, expected, rtol=1e-4, atol=1e-4)
    scope = {"a": w, "b": f, "through": [w_plus], "edits": edits}
    exec(panel.code.value, scope)
    assert torch.equal(scope["image"], panel.pictures[0].image)
    assert torch.equal(scope["edited"], panel.pictures[1].image)


def test_without_faces_there_is_no_truth(ab, edits):
    panel = ll.widgets.blend(*ab, edits=edits)
    assert [picture.name for picture in panel.pictures] == ["Between", "Edit"]
    assert "PSNR" not in panel.pictures[0].alt and "faces" not in panel.code.value
    exec(panel.code.value, {"a": ab[0], "b": ab[1], "edits": edits})


def test_bad_input_is_refused(ab, faces, edits):
    a, b = ab
    with pytest.raises(ValueError, match=r"b: expected codes of the same faces as a's, of shape \(3, 6, 16\), got \(2"):
        ll.widgets.blend(a, b[:2], faces, edits)
    with pytest.raises(ValueError, match="b: expected an inversion with a's generator, "):
        ll.widgets.blend(a, inversion("other", generator(seed=1), 2), faces, edits)
    with pytest.raises(ValueError, match="edits: expected at least one"):
        ll.widgets.blend(a, b, faces, {})
    with pytest.raises(ValueError, match=r"faces: expected those of the inversions, \(3, 3, 16, 16\), got \(2, 3"):
        ll.widgets.blend(a, b, faces[:2], edits)
    with pytest.raises(ValueError, match="expected a generator with shipped edits"):
        ll.widgets.blend(a, b, faces)
