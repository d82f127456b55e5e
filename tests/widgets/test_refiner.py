"""The widget of the two branches, without a browser: its images, captions and code."""

from dataclasses import replace

import pytest
import torch
from small import small_generator

import latentlab as ll
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.faces import real_set
from latentlab.inversion.two_branch import TwoBranchEditor, invert_two_branch
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.plots import overlay
from latentlab.seeds import stream

NAMES = ("smile", "hair_length")


@pytest.fixture(scope="module")
def faces():
    return real_set(32).clean[:2]


@pytest.fixture(scope="module")
def inv(faces) -> ll.Inversion:
    """By networks whose weights are random, so that every part changes something."""
    G = small_generator(1, 32)
    encoder = build_encoder("e4e", slim_config("e4e", G.config)).requires_grad_(False).eval()
    shape = TwoBranchConfig(NAMES, G.num_ws, G.w_dim, (4, 8), G.config.channels[:2], encoder.config.widths[3])
    network = TwoBranch(shape).requires_grad_(False)
    for i, weight in enumerate(network.parameters()):
        weight.add_(0.3 * torch.randn(weight.shape, generator=stream(i, "trained")))
    base = ll.invert(faces.images, G, "e4e", encoder=encoder)
    return invert_two_branch(faces.images, G, base=base, network=network, encoder=encoder)


@pytest.fixture
def panel(inv, faces) -> ll.widgets.Refiner:
    return ll.widgets.refine(inv, faces)


def changed(panel, **values) -> list[bool]:
    before = [picture.image for picture in panel.pictures]
    panel.set(**values)
    assert panel.error.value == ""
    return [not torch.equal(a, b.image) for a, b in zip(before, panel.pictures, strict=True)]


def test_images_follow_the_controls(panel, inv, faces):
    assert [picture.name for picture in panel.pictures] == ["Given", "Style only", "Refined", "Relevance map"]
    given, style, refined, over = (picture.image for picture in panel.pictures)
    assert torch.equal(given, faces.images[:1])
    torch.testing.assert_close(style, inv.generator.synthesis(inv.latent[:1]))
    torch.testing.assert_close(refined, inv.image[:1])
    assert not torch.allclose(style, refined, atol=1e-2)  # the content is in it
    assert changed(panel, smile=1.5) == [False, True, True, True]
    assert changed(panel, map=4) == [False, False, False, True]
    assert changed(panel, hair_length=-1.0, smile=0.0) == [False, True, True, True]
    assert changed(panel, face=1) == [True, True, True, True]
    panel.reset_button.click()
    assert torch.equal(panel.pictures[2].image, refined) and torch.equal(panel.pictures[3].image, over)
    assert all(control.description for control in panel.controls.values())


def test_targets_of_several_attributes_are_one_sum(panel, inv):
    panel.set(face=1, smile=1.5, hair_length=-3.0)
    network, base, edits = inv.editor.network, inv.state.kept["code"][1:], inv.editor.edits
    codes = base + network.style_shift(torch.tensor([[1.5, -3.0]]))
    _, style, refined, over = (picture.image for picture in panel.pictures)
    torch.testing.assert_close(style, inv.generator.synthesis(codes))
    expected = inv[1].edited(edits["smile"], 1.5).edited(edits["hair_length"], -3.0)
    torch.testing.assert_close(refined, expected.image)
    m = inv.editor.relevance(expected.state, inv.generator)[8]
    torch.testing.assert_close(over, overlay(refined, m))
    words = "smile +1.5, hair_length -3.0 standard deviations"
    assert panel.pictures[2].alt == f"Refined: face 1, {words} in all layers"
    assert f"8 x 8, {float(m.mean()):.0%} content" in panel.pictures[3].alt


@pytest.mark.parametrize("values", [{}, {"face": 1, "smile": 1.5, "map": 4}])
def test_the_code_reproduces_it(panel, inv, values):
    panel.set(**values)
    scope = {"inv": inv}
    exec(panel.code.value, scope)
    _, style, refined, over = (picture.image for picture in panel.pictures)
    for name, image in {"style_only": style, "image": refined, "overlaid": over}.items():
        assert torch.equal(scope[name], image), name


def test_without_faces_there_is_no_given_picture(inv):
    panel = ll.widgets.refine(inv)
    assert [picture.name for picture in panel.pictures] == ["Style only", "Refined", "Relevance map"]
    assert panel.error.value == "" and all(picture.image is not None for picture in panel.pictures)


def test_bad_input_is_refused(inv, faces):
    with pytest.raises(ValueError, match="inv: expected an inversion by two_branch, got one by e4e"):
        state = ll.State(inv.latent)
        ll.widgets.refine(ll.Inversion(state, state.draw(inv.generator), inv.generator, "e4e"))
    with pytest.raises(ValueError, match=r"faces: expected those of the inversion, \(2, 3, 32, 32\), got \(1, 3"):
        ll.widgets.refine(inv, faces[:1])
    with pytest.raises(ValueError, match="inv: expected two branches with a content branch, got directions alone"):
        ll.widgets.refine(replace(inv, editor=TwoBranchEditor(inv.editor.network.style_branch())), faces)
