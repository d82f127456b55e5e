"""The descent widget without a browser: images, numbers and curves belong to the recorded codes."""

import base64
import io
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

import latentlab as ll
from latentlab.plots import ACROSS, PANELS, descent
from latentlab.spaces import statistics_for
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.widgets.selections import MixSelection, StepSelection


@pytest.fixture(scope="module")
def G() -> Generator:
    """16 px, with visible noise."""
    G = Generator(GeneratorConfig(16, z_dim=16, w_dim=16, channels=(8, 8, 8))).requires_grad_(False)
    for conv in G._convs():
        conv.noise_strength.fill_(0.1)
    return G


@pytest.fixture(scope="module")
def truth(G) -> torch.Tensor:
    return torch.cat([MixSelection(seed).image(G) for seed in (3, 4)]).clamp(-1, 1)


@pytest.fixture(scope="module")
def inv(G, truth) -> ll.Inversion:
    return ll.invert(truth, G, "ii2s", variant="paper", steps=5, record=2)


@pytest.fixture
def panel(inv, truth) -> ll.widgets.Scrubber:
    return ll.widgets.scrub(inv, truth)


def changed(panel, **values) -> list[bool]:
    before = [picture.value for picture in panel.pictures]
    panel.set(**values)
    return [a != b.value for a, b in zip(before, panel.pictures, strict=True)]


@pytest.mark.parametrize("method", ["ii2s", "sg2_w", "pulse"])  # the last two optimise noise maps too
def test_shows_the_recorded_codes(G, truth, method):
    inv = ll.invert(truth, G, method, steps=3, record=2)
    panel = ll.widgets.scrub(inv)
    for k, step in enumerate([0, 2, 3]):
        for face in (0, 1):
            panel.set(step=step, face=face)
            assert panel.state == StepSelection(step, face) and panel.error.value == ""
            shown = panel.pictures[0].image
            torch.testing.assert_close(shown[0], inv.synthesize(inv.path[k])[face])
            scope = {"inv": inv}
            exec(panel.code.value, scope)
            assert torch.equal(scope["image"], shown)
    torch.testing.assert_close(shown[0], inv.image[1])


def test_the_numbers_are_right(panel, inv, truth, G):
    for k, step in enumerate(inv.path_steps):
        panel.set(step=step, face=1)
        found = inv.synthesize(inv.path[k])[1].clamp(-1, 1)
        decibels = 10 * math.log10(4 / float((found - truth[1]).square().mean()))
        norm = float(statistics_for(G).w_to_pn(inv.path[k, 1]).square().mean())
        _, middle, plot = (picture.alt for picture in panel.pictures)
        assert middle == f"Found: face 1 after {step} of 5 steps, PSNR {decibels:.1f} dB"
        assert plot == f"Descent: after {step} steps, pn_norm |v|²/D {norm:.3g} (1 is typical)"


def test_images_follow_the_controls(panel, inv, truth):
    assert panel.state == StepSelection(5, 0) and panel.pictures[0].alt == "Target: face 0"
    first = [picture.value for picture in panel.pictures]
    assert changed(panel, step=2) == [False, True, True]
    assert changed(panel, face=1) == [True, True, True]
    assert torch.equal(panel.pictures[0].image, truth[1:])
    panel.reset_button.click()
    assert [picture.value for picture in panel.pictures] == first
    assert all(control.description for control in panel.controls.values()) and "ms per frame" in panel.status.value


def test_play_runs_over_the_recorded_steps(panel, inv):
    steps = panel.controls["step"]
    assert (panel.play.min, panel.play.max, panel.play.value) == (0, 3, 3) and panel.play.interval == 500
    assert (panel.link.source, panel.link.target) == ((panel.play, "value"), (steps, "index"))
    steps.index = 1  # as the link does in the browser
    assert panel.state.step == 2
    long = replace(inv, path=inv.path[:1].expand(1000, -1, -1, -1), path_steps=list(range(1000)))
    assert ll.widgets.scrub(long).play.interval == 100


def test_the_mark_is_at_the_step(panel, inv):
    for face, step in ((0, 0), (1, 2), (0, 5)):
        panel.set(step=step, face=face)
        terms = {name: inv.trace[name][:, face] for name in ("mse", "perceptual")}
        bare = descent(terms, inv.path_steps, panel.distance.values[:, face])
        rows, columns = torch.nonzero((panel.pictures[2].image != bare).any(1)[0]).float().mul(1 / 512).unbind(1)
        x = ACROSS[0] + ACROSS[1] * step / 5
        assert (columns - x).abs().max() < 0.01
        inside = [(1 - rows >= bottom - 0.01) & (1 - rows <= bottom + height + 0.01) for bottom, height in PANELS]
        assert bool((inside[0] | inside[1]).all()) and all(bool(rows.any()) for rows in inside)


def test_curves_and_mark_use_the_same_axes():
    image = descent({"mse": torch.tensor([0.1, 0.01])}, [0, 10], torch.tensor([1.0, 3.0]))[0]
    purple = torch.tensor([148, 103, 189])[:, None, None] / 127.5 - 1
    rows, columns = torch.nonzero((image - purple).abs().amax(0) < 0.05).float().div(512).unbind(1)
    assert abs(columns.min() - ACROSS[0]) < 0.01 and abs(columns.max() - sum(ACROSS)) < 0.01
    (_, (bottom, height)), up = PANELS, 1 - rows
    assert bottom < up.min() < up.max() < bottom + height and up[columns.argmax()] > up[columns.argmin()]


def test_one_face_without_truth_or_trace(inv):
    panel = ll.widgets.scrub(replace(inv[1], trace={}))
    assert panel.controls["face"].layout.display == "none" and panel.error.value == ""
    assert [picture.name for picture in panel.pictures] == ["Found", "Descent"] and "PSNR" not in panel.pictures[0].alt
    torch.testing.assert_close(panel.pictures[0].image, inv.image[1:])


def test_along_another_quantity(inv, truth):
    panel = ll.widgets.scrub(replace(inv, trace={}), truth, along="λ")
    assert panel.controls["step"].description == "λ"
    assert "face 0 at λ 5, PSNR" in panel.pictures[1].alt and "at λ 5, pn_norm" in panel.pictures[2].alt
    bare = descent({}, inv.path_steps, panel.distance.values[:, 0], "λ")
    marked = torch.nonzero((panel.pictures[2].image != bare).any(1)[0])[:, 0].div(512)
    assert 1 - marked.min() < sum(PANELS[1]) + 0.01  # no mark in the upper panel, which is not drawn


def test_another_distance(inv, truth):
    values = torch.arange(8.0).view(4, 2) / 1000 + 0.001
    panel = ll.widgets.scrub(inv, truth, distance=("SNCD", values, 0.002))
    panel.set(step=2, face=1)
    assert panel.pictures[2].alt == "Descent: after 2 steps, SNCD 0.004 (0.002 is typical)"
    terms = {name: inv.trace[name][:, 1] for name in ("mse", "perceptual")}
    bare = descent(terms, inv.path_steps, values[:, 1], name="SNCD", typical=0.002)[0]
    off_the_mark = (panel.pictures[2].image[0] != bare).any(0).nonzero()[:, 1].unique()
    assert len(off_the_mark) == 3 and not torch.equal(bare, descent(terms, inv.path_steps, values[:, 1])[0])


def test_bad_input_is_refused(G, inv, truth):
    with pytest.raises(ValueError, match="inversion: expected one with a path, got none; invert with record=10"):
        ll.widgets.scrub(replace(inv, path=None, path_steps=[]), truth)
    with pytest.raises(ValueError, match="truth: expected one image for each of 2 faces, got 1"):
        ll.widgets.scrub(inv, truth[:1])
    with pytest.raises(ValueError, match=r"distance: expected values of shape \(4, 2\), .* got \(2, 2\)"):
        ll.widgets.scrub(inv, truth, distance=("SNCD", torch.ones(2, 2), 1.0))
    with pytest.raises(ValueError, match="expected shape \\(N, 3, 16, 16\\)"):
        ll.widgets.scrub(inv, truth[..., :8, :8])
    with pytest.raises(ValueError, match="step: expected a recorded one .0, 2, 4, 5., got 3"):
        StepSelection(3).image(inv)
    with pytest.raises(ValueError, match="recorded one .none, since the inversion was made without record=., got 3"):
        StepSelection(3).image(replace(inv, path=None, path_steps=[]))


def test_output_contains_a_still_image(panel):
    data = panel._repr_mimebundle_()
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert still.width == 3 * 512 and still.height > 512 and "Found: face 0 after 5 of 5 steps" in data["text/plain"]
