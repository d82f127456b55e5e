"""The selections behind the widgets: codes, images, descriptions and code."""

from dataclasses import replace

import pytest
import torch

from latentlab.editing.edit import Direction, State
from latentlab.faces import MAIN_NAMES
from latentlab.images import read_image, to_uint8
from latentlab.inversion.result import Inversion
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.widgets.selections import EditSelection, MixSelection, describe_layers, pick_factors


@pytest.fixture(scope="module")
def G() -> Generator:
    """16 px, L = 6, with a mean of W that is not zero and visible noise."""
    G = Generator(GeneratorConfig(16, z_dim=16, w_dim=16, channels=(8, 8, 8))).requires_grad_(False)
    draw = torch.Generator().manual_seed(1)
    G.w_avg.copy_(torch.randn(16, generator=draw))
    for conv in G._convs():
        conv.noise_strength.fill_(0.1)
    return G


@pytest.fixture(scope="module")
def directions() -> dict[str, Direction]:
    draw = torch.Generator().manual_seed(2)
    return {name: Direction(name, torch.randn(16, generator=draw), 1.0) for name in ("smile", "yaw", "odd")}


@pytest.fixture(scope="module")
def inv(G) -> Inversion:
    latent = torch.cat([MixSelection(seed, psi=1.0).latent(G) for seed in range(3)])
    return Inversion(State(latent), G.synthesis(latent), G, "known")


def test_code_b_is_used_in_its_layers_only(G):
    mix = MixSelection(3, 4, psi=0.6, layers=(2, 5))
    a, b, both = mix.unmixed.latent(G)[0], mix.other.latent(G)[0], mix.latent(G)[0]
    assert [torch.equal(both[i], b[i]) for i in range(6)] == [False, False, True, True, True, False]
    assert [torch.equal(both[i], a[i]) for i in range(6)] == [True, True, False, False, False, True]
    assert torch.equal(replace(mix, layers=(0, 6)).image(G), mix.other.image(G))
    assert torch.equal(replace(mix, layers=(3, 3)).image(G), mix.unmixed.image(G))


def test_psi_zero_is_the_average_face(G):
    average = G.synthesis(G.broadcast(G.w_avg[None]))
    assert torch.equal(MixSelection(3, 4, psi=0.0, layers=(1, 3)).image(G), average)
    assert not torch.equal(MixSelection(3, 4, psi=0.1, layers=(1, 3)).image(G), average)


def test_noise_can_be_left_out(G):
    latent = MixSelection(5).latent(G)
    assert torch.equal(MixSelection(5, noise=False).image(G), G.synthesis(latent, noise="none"))
    assert not torch.equal(MixSelection(5, noise=False).image(G), MixSelection(5).image(G))


@pytest.mark.parametrize(
    "mix",
    [MixSelection(), MixSelection(7, 2**31 - 1, -0.35, (1, 4), noise=False), MixSelection(1, 2, 1.5, (0, 6))],
)
def test_the_code_of_a_mix_reproduces_it(G, mix):
    scope = {"G": G}
    exec(mix.code(), scope)
    assert torch.equal(scope["image"], mix.image(G))


@pytest.mark.parametrize("layers", [(-1, 2), (4, 3), (0, 7)])
def test_bad_layers_are_refused(G, inv, directions, layers):
    message = r"layers: expected \(start, stop\) with 0 <= start <= stop <= 6, got \(" + str(layers[0])
    with pytest.raises(ValueError, match=message):
        MixSelection(layers=layers).image(G)
    with pytest.raises(ValueError, match=message):
        EditSelection(0, layers, (("smile", 1.0),)).image(inv, directions)


def test_no_edit_is_the_inversion(inv, directions):
    for face in range(3):
        torch.testing.assert_close(EditSelection(face, (0, 6)).image(inv, directions), inv[face].image)
        unchanged = EditSelection(face, (2, 2), (("smile", 3.0),)).image(inv, directions)  # an edit of no layers
        torch.testing.assert_close(unchanged, inv[face].image)


def test_edits_add_up_in_their_layers_only(inv, directions):
    edited = EditSelection(0, (1, 4), (("smile", 2.0), ("yaw", -1.0))).inversion(inv, directions)
    step = (edited.latent - inv[0].latent)[0]
    torch.testing.assert_close(step[2], 2 * directions["smile"].vector - directions["yaw"].vector)
    assert step.any(dim=1).tolist() == [False, True, True, True, False, False]
    single = EditSelection(1, (0, 6), (("yaw", 1.5),)).image(inv, directions)
    torch.testing.assert_close(single, inv[1].edit(directions["yaw"], 1.5))


@pytest.mark.parametrize("layers", [(1, 5), (2, 2)])
@pytest.mark.parametrize("strengths", [(), (("smile", 2.5),), (("odd", -0.3), ("yaw", 1.0))])
def test_the_code_of_an_edit_reproduces_it(inv, directions, strengths, layers):
    edit = EditSelection(2, layers, strengths)
    scope = {"inv": inv, "edits": directions}
    exec(edit.code(inv, shipped=False), scope)
    assert torch.equal(scope["image"], edit.image(inv, directions))


def test_saves_image_and_inversion_and_overwrites_nothing(G, inv, directions, tmp_path):
    edit = EditSelection(1, (0, 4), (("smile", 2.0),))
    picture, latent = edit.save(inv, directions, tmp_path / "face")
    again, _ = edit.save(inv, directions, tmp_path / "face")
    assert (picture.name, latent.name, again.name) == ("face.png", "face.safetensors", "face-2.png")
    read = Inversion.load(latent, G)
    torch.testing.assert_close(read.latent, edit.inversion(inv, directions).latent)
    assert read.knobs == {"edits": [{"edit": "smile", "strength": 2.0, "layers": [0, 1, 2, 3]}]}
    pixels = to_uint8(edit.image(inv, directions))
    assert (to_uint8(read_image(picture, 16)[0]) == pixels).all()
    with pytest.raises(ValueError, match="stem: expected a file name without its suffix, .*, got '/'"):
        edit.save(inv, directions, "/")


def test_factors_are_picked(directions):
    assert pick_factors(directions, None) == ["smile", "yaw"]  # the main ones among them
    assert pick_factors({"odd": directions["odd"]}, None) == ["odd"]
    assert pick_factors(directions, ["odd", "smile"]) == ["odd", "smile"]
    assert pick_factors(dict.fromkeys([*MAIN_NAMES, "odd"], directions["odd"]), None) == list(MAIN_NAMES)
    with pytest.raises(ValueError, match="factors: expected names among smile, yaw, odd; got nose"):
        pick_factors(directions, ["smile", "nose"])
    with pytest.raises(ValueError, match="edits: expected at least one"):
        pick_factors({}, None)


def test_layers_in_words(G):
    assert describe_layers(G, (0, 6)) == "all layers"
    assert describe_layers(G, (3, 4)) == "layer 3 (16 px)"
    assert describe_layers(G, (2, 2)) == "no layers"
    mix = MixSelection(1, 2, 0.7, (3, 6))
    assert mix.describe(G) == "seed 1, layers 3 to 5 (16 px) from seed 2, psi 0.70, constant noise"
    edit = EditSelection(0, (0, 2), (("yaw", -1.0),))
    assert edit.describe(G) == "yaw -1.0 standard deviations in layers 0 to 1 (4 to 8 px)"
