"""The widgets without a browser: how the images follow the controls."""

import base64
import io
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

import latentlab as ll
from latentlab.editing.edit import Direction
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.widgets.selections import MixSelection


@pytest.fixture
def G() -> Generator:
    return Generator(GeneratorConfig(16, z_dim=16, w_dim=16, channels=(8, 8, 8))).requires_grad_(False)


@pytest.fixture
def directions() -> dict[str, Direction]:
    draw = torch.Generator().manual_seed(2)
    return {name: Direction(name, torch.randn(16, generator=draw), 1.0) for name in ("smile", "hair_length", "odd")}


@pytest.fixture
def editor(G, directions) -> ll.widgets.Editor:
    latent = torch.cat([MixSelection(seed, psi=1.0).latent(G) for seed in range(3)])
    return ll.widgets.edit(ll.Inversion(ll.State(latent), G.synthesis(latent), G, "known"), directions)


def shown(panel) -> list[bytes]:
    return [picture.value for picture in panel.pictures]


def changed(panel, **values) -> list[bool]:
    """Which images change when controls are set, one by one, as from the browser."""
    before = shown(panel)
    for name, value in values.items():
        panel.controls[name].value = value
    return [a != b for a, b in zip(before, shown(panel), strict=True)]


def test_explore_follows_its_controls(G):
    panel = ll.widgets.explore(G, seed=3)
    assert panel.error.value == "" and panel.error.layout.display == "none" and "ms per frame" in panel.status.value
    assert changed(panel, psi=-1.0) == [True, True, True]
    assert changed(panel, seed=8) == [True, False, True]
    assert changed(panel, seed_b=9) == [False, True, True]
    assert changed(panel, layers=(3, 4)) == [False, False, True]
    assert panel.pictures[2].alt == "Mix: " + panel.state.describe(G)
    assert panel.pictures[1].alt == "Face B: seed 9, psi -1.00, constant noise"
    torch.testing.assert_close(panel.pictures[2].image, MixSelection(8, 9, -1.0, (3, 4)).image(G))
    assert panel.code.value == panel.state.code()


def test_noise_switch(G):
    for conv in G._convs():
        conv.noise_strength.fill_(0.5)
    assert changed(ll.widgets.explore(G), noise=False) == [True, True, True]


def test_images_are_enlarged_jpegs(G):
    picture = ll.widgets.explore(G).pictures[0]
    file = Image.open(io.BytesIO(picture.value))
    assert (file.format, file.size) == ("JPEG", (256, 256))


def test_random_seed(G, monkeypatch):
    panel = ll.widgets.explore(G)
    monkeypatch.setattr("secrets.randbelow", lambda n: n - 1)
    random_a = panel.children[1].children[0].children[1]
    random_a.click()
    assert panel.state.seed == 9999 and panel.pictures[0].alt.startswith("Face A: seed 9999")


def test_reset_restores_all_controls_and_redraws_once(G):
    panel = ll.widgets.explore(G, seed=3, psi=0.5)
    start, states = shown(panel), panel.state
    panel.set(seed=5, psi=1.2, layers=(0, 1), noise=False)
    assert shown(panel) != start
    drawn, refresh = [], panel.refresh
    panel.refresh = lambda: drawn.append(refresh())
    panel.reset_button.click()
    assert shown(panel) == start and panel.state == states and len(drawn) == 1


def test_errors_are_shown_until_the_next_success(G):
    panel = ll.widgets.explore(G)
    before, mapping = shown(panel), G.mapping.forward
    G.mapping.forward = lambda z: mapping(z) * float("nan")
    panel.controls["psi"].value = 0.1
    assert 'role="alert"' in panel.error.value and "ValueError: w_plus: expected finite values" in panel.error.value
    assert panel.error.layout.display is None and shown(panel) == before
    G.mapping.forward = mapping
    panel.controls["psi"].value = 0.2
    assert panel.error.value == "" and panel.error.layout.display == "none" and shown(panel) != before


def test_edit_follows_its_controls(editor):
    torch.testing.assert_close(editor.pictures[1].image, editor.inv.image[:1])
    assert list(editor.controls) == ["face", "layers", "smile", "hair_length"]
    assert changed(editor, smile=2.0) == [False, True]
    assert changed(editor, layers=(2, 4)) == [False, True]
    assert editor.pictures[1].alt == "Edited: face 0, smile +2.0 standard deviations in layers 2 to 3 (8 to 16 px)"
    assert changed(editor, face=1) == [True, True]
    assert editor.pictures[0].alt == "Inversion: face 1 by known"
    scope = {"inv": editor.inv, "edits": editor.edits}
    exec(editor.code.value, scope)
    assert torch.equal(scope["image"], editor.pictures[1].image)
    editor.reset_button.click()
    assert editor.state.strengths == () and editor.state.face == 0
    torch.testing.assert_close(editor.pictures[1].image, editor.inv.image[:1])


def test_a_code_that_leaves_the_range_is_told_until_it_is_back(editor, directions):
    far = replace(directions["smile"], vector=100 * directions["smile"].vector)
    panel = ll.widgets.edit(editor.inv, {"smile": far})
    assert panel.warning.value == ""
    panel.controls["smile"].value = 3.0
    assert "the picture leaves the generator&#x27;s range: the PN+ norm" in panel.warning.value
    assert 'role="alert"' in panel.warning.value and panel.warning in panel.children
    panel.controls["smile"].value = 0.0
    assert panel.warning.value == "" and panel.warning.layout.display == "none"
    panel.set(smile=3.0, layers=(2, 2))
    assert panel.warning.value == ""  # nothing was edited
    panel.set(layers=(0, 6))
    assert panel.warning.value
    panel.reset_button.click()
    assert panel.warning.value == ""


def test_save_button_shows_the_paths(editor, tmp_path):
    editor.stem.value = str(tmp_path / "older")
    editor.controls["smile"].value = 1.0
    editor.save_button.click()
    assert (tmp_path / "older.png").exists() and (tmp_path / "older.safetensors").exists()
    assert str(tmp_path / "older.png") in editor.status.value
    editor.stem.value = str(tmp_path / "no such folder" / "older")
    editor.save_button.click()
    assert 'role="alert"' in editor.error.value and "no such folder" in editor.error.value


def test_shipped_directions_are_the_default():
    G = ll.load("faces-64")
    latent = MixSelection(psi=0.7).latent(G)
    panel = ll.widgets.edit(ll.Inversion(ll.State(latent), G.synthesis(latent), G, "known"), factors=["age", "shirt_a"])
    assert changed(panel, age=1.5) == [False, True] and panel.controls["face"].layout.display == "none"
    scope = {"inv": panel.inv}
    exec(panel.code.value, scope)  # loads the directions itself
    assert torch.equal(scope["image"], panel.pictures[1].image)
    with pytest.raises(ValueError, match="factors: expected names among .*smile.*; got ears"):
        ll.widgets.edit(panel.inv, factors=["ears"])


def test_every_control_has_a_label(G, editor):
    for panel in (ll.widgets.explore(G), editor):
        assert all(control.description for control in panel.controls.values())
        assert "ll-panel" in panel._dom_classes and all(picture.alt for picture in panel.pictures)


def test_output_contains_a_still_image(editor):
    data = editor._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert still.width == 512 and still.height > 256 and "Edited: face 0, no edit" in data["text/plain"]


@pytest.mark.gpu
def test_on_a_gpu(G, directions):
    G = G.to("cuda")
    assert changed(ll.widgets.explore(G), psi=0.1) == [True, True, True]
    latent = MixSelection(psi=1.0).latent(G)
    panel = ll.widgets.edit(ll.Inversion(ll.State(latent), G.synthesis(latent), G, "known"), directions)
    assert changed(panel, smile=1.0) == [False, True] and panel.error.value == ""


def test_widgets_are_imported_on_demand_and_load_no_networks():
    """The package imports ipywidgets only when ``widgets`` is used, and widgets import no networks or weights."""
    probe = (
        "import sys, latentlab as ll; assert 'ipywidgets' not in sys.modules; ll.widgets; "
        "assert 'ipywidgets' in sys.modules; bad = {'latentlab.weights.generators', "
        "'latentlab.judges', 'safetensors'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", probe], check=True)
