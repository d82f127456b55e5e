"""The latent-space widget without a browser: the position of the point, and the images shown for it."""

import base64
import io

import pytest
import torch
from PIL import Image

import latentlab as ll
from latentlab.plots import FRAME
from latentlab.spaces import statistics_for, w_to_p
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.widgets.spaces import REACH, SPACES, Point


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(GeneratorConfig(16, z_dim=16, w_dim=16, channels=(8, 8, 8))).requires_grad_(False)


@pytest.fixture
def panel(G) -> ll.widgets.Spaces:
    return ll.widgets.spaces(G, dims=(3, 5))


def shown(panel) -> list[bytes]:
    return [picture.value for picture in panel.pictures]


@pytest.mark.parametrize("space", SPACES)
def test_a_point_has_its_coordinates(G, space):
    s = statistics_for(G)
    w = Point(space, (2, 7), (1.5, -0.5)).code(s)
    mean, std, code = {
        "W": (s.w_mean, s.w_covariance.diagonal().sqrt(), w[0]),
        "P": (s.mean, ((s.eigenvectors * s.eigenvalues) @ s.eigenvectors.T).diagonal().sqrt(), w_to_p(w[0])),
        "PN": (torch.zeros(16), torch.ones(16), s.w_to_pn(w[0])),
    }[space]
    expected = torch.zeros(16)
    expected[2], expected[7] = 1.5, -0.5
    torch.testing.assert_close((code - mean.float()) / std.float(), expected, atol=1e-3, rtol=1e-3)


def test_a_click_moves_the_point_and_the_cross(panel):
    start, before = panel.pictures[0].image, shown(panel)
    panel.click(FRAME[0] + 0.7 * FRAME[1], 1 - FRAME[0] - 0.2 * FRAME[1])
    assert panel.state == Point("PN", (3, 5), (round(0.4 * REACH, 1), round(-0.6 * REACH, 1)))
    assert [a != b for a, b in zip(before, shown(panel), strict=True)] == [True, True, True]
    moved = (panel.pictures[0].image != start).any(1)[0]
    rows, columns = moved.float().mean(1).topk(4).indices, moved.float().mean(0).topk(4).indices
    across, up = FRAME[0] + 0.7 * FRAME[1], 1 - FRAME[0] - 0.2 * FRAME[1]
    assert (rows / 512 - up).abs().min() < 0.01 and (columns / 512 - across).abs().min() < 0.01
    panel.click(-1.0, 2.0)  # outside of the map: clamped to its edge
    assert panel.state.at == (-REACH, -REACH)


def test_sliders_and_boxes_move_the_point(panel):
    first = panel.pictures[0].image
    panel.controls["x"].value = 2.0
    assert panel.state.at == (2.0, 0.0) and panel.pictures[0].alt.startswith("Density of codes: PN[3] +2.0, PN[5] +0.0")
    panel.controls["space"].value = "W"
    panel.controls["second"].value = 1
    assert panel.state == Point("W", (3, 1), (2.0, 0.0)) and "W[1] +0.0" in panel.pictures[0].alt
    panel.reset_button.click()
    assert panel.state == Point("PN", (3, 5)) and torch.equal(panel.pictures[0].image, first)
    assert all(control.description for control in panel.controls.values())


def test_the_map_is_dark_where_codes_are_dense(panel):
    left, bottom, side = (round(512 * share) for share in (FRAME[0], FRAME[0], FRAME[1]))
    inside = panel.pictures[0].image[0, :, 512 - bottom - side : 512 - bottom, left : left + side]
    half = side // 2
    middle, corner = inside[:, half - 30 : half - 5, half + 5 : half + 30], inside[:, 5:40, 5:40]  # not on the cross
    assert middle.mean() < 0 and corner.mean() > 0.99


def test_the_nearest_codes_are_nearest(panel, G):
    panel.set(x=1.0, y=1.0)
    v = statistics_for(G).w_to_pn(panel.w)[:, [3, 5]]
    reached = float((v - 1).norm(dim=1).sort().values[3])
    assert f"up to {reached:.2f} away" in panel.pictures[2].caption


def test_its_code_reproduces_the_face(panel, G):
    panel.set(space="P", x=-1.0)
    scope = {"G": G}
    exec(panel.code.value, scope)
    torch.testing.assert_close(panel._faces(scope["w"]), panel.pictures[1].image)
    assert scope["image"].shape == (1, 3, 16, 16)


def test_equal_dimensions_show_an_error(panel):
    before = shown(panel)
    panel.controls["second"].value = 3
    assert 'role="alert"' in panel.error.value and "expected two different dimensions" in panel.error.value
    panel.controls["second"].value = 5
    assert panel.error.value == "" and shown(panel) == before


def test_bad_input_is_refused(G):
    message = "expected two different dimensions below 16 of W or P or PN, got "
    for bad in (Point("Z"), Point("W", (1, 1)), Point("P", (0, 16))):
        with pytest.raises(ValueError, match=message):
            bad.code(statistics_for(G))
    with pytest.raises(ValueError, match=message):
        ll.widgets.spaces(G, space="S")


def test_output_contains_a_still_image(panel):
    still = Image.open(io.BytesIO(base64.b64decode(panel._repr_mimebundle_()["image/png"])))
    assert still.width == 3 * 512 and still.height > 512  # a title over each image
