"""CLCAE as a method: the three spaces, edits by Eq. 6, and what is refused."""

from dataclasses import replace

import pytest
import torch
from small import small_generator

from latentlab.editing.edit import Direction, State, join
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.seeds import stream


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


@pytest.fixture(scope="module")
def images(G):
    return G(torch.randn(3, G.z_dim, generator=stream(0, "images"))).clamp(-1, 1)


@pytest.fixture(scope="module")
def encoder(G):
    network = build_encoder("clcae", slim_config("clcae", G.config), 2).requires_grad_(False).eval()
    network.set_averages(G.w_avg, G.synthesis(G.broadcast(G.w_avg[None]))[0])
    return network


@pytest.fixture
def direction(G) -> Direction:
    return Direction("some", torch.randn(G.w_dim, generator=stream(0, "direction")))


def test_each_space_draws_what_its_name_says(G, images, encoder):
    found = encoder(images)
    w, w_plus, f = (invert(images, G, "clcae", encoder=encoder, space=space) for space in ("W", "W+", "F"))
    torch.testing.assert_close(w.image, G.synthesis(G.broadcast(found.w)))
    torch.testing.assert_close(w_plus.image, G.synthesis(found.w_plus))
    torch.testing.assert_close(f.image, G.synthesis(found.w_plus, replace={4: found.feature}, replace_rgb=False))
    assert not w.latent.std(1).any() and w.features is None and w_plus.features is None
    assert set(f.features) == {4} and torch.equal(f.latent, w_plus.latent)


def test_an_edit_in_f_is_equation_6(G, images, encoder, direction):
    inv = invert(images, G, "clcae", encoder=encoder, batch_size=2)
    strengths = torch.tensor([1.0, 0.0, -2.0])
    codes = inv.latent + strengths[:, None, None] * direction.vector
    feature = inv.features[4] + G.features(codes)[4] - G.features(inv.latent)[4]
    edited = inv.edited(direction, strengths)
    torch.testing.assert_close(edited.features[4], feature)
    torch.testing.assert_close(edited.image, G.synthesis(codes, replace={4: feature}, replace_rgb=False))
    assert torch.equal(inv.edited(direction, 0.0).features[4], inv.features[4])  # exactly, not up to rounding
    assert torch.equal(inv.edit(direction, 0.0), inv.state.draw(G))


def test_it_is_saved_with_its_feature(G, images, encoder, direction, tmp_path):
    inv = invert(images, G, "clcae", encoder=encoder)
    inv[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G)
    assert torch.equal(again.features[4], inv.features[4][1:2]) and not again.state.replace_rgb
    torch.testing.assert_close(again.image, inv.image[1:2])
    torch.testing.assert_close(again.edit(direction, 1.5), inv.edit(direction, 1.5)[1:2])


def test_an_edit_without_the_original_features_is_refused(G, images, encoder, direction, tmp_path):
    inv = invert(images, G, "clcae", encoder=encoder)
    inv.save(tmp_path / "all.safetensors")
    codes = Inversion.load(tmp_path / "all.safetensors", G, codes_only=True)
    for without in (codes, replace(inv, state=State(inv.latent))):
        with pytest.raises(ValueError, match="edit: expected an inversion in F space with its feature map, got one"):
            without.edit(direction, 1.0)
    in_w_plus = invert(images, G, "clcae", encoder=encoder, space="W+")
    torch.testing.assert_close(in_w_plus.edit(direction, 0.0), codes.image)


def test_bad_input_is_refused(G, images, encoder, unchecked):
    with pytest.raises(ValueError, match="space: expected 'W', 'W\\+' or 'F', got 'S'"):
        invert(images, G, "clcae", encoder=encoder, space="S")
    wrong = State(torch.zeros(1, G.num_ws, G.w_dim), features={4: torch.zeros(1, 16, 4, 8)}, replace_rgb=False)
    with pytest.raises(ValueError, match=r"replace: expected resolutions and shapes of .*, got 4: \(1, 16, 4, 8\)"):
        wrong.draw(G)
    with pytest.raises(ValueError, match="features: expected tensors of length 1"):
        State(torch.zeros(1, G.num_ws, G.w_dim), features={4: torch.zeros(2, 16, 4, 4)})
    with pytest.raises(ValueError, match="encoder: expected a FeatureEncoder, got PspEncoder"):
        invert(images, G, "clcae", encoder=build_encoder("psp", slim_config("psp", G.config)))
    with pytest.raises(ValueError, match="encoder: expected a CodeEncoder, got ClcaeEncoder"):
        invert(images, G, "psp", encoder=encoder)
    style = build_encoder("feature_style", slim_config("feature_style", G.config)).eval()
    with pytest.raises(ValueError, match="space: expected 'W\\+' or 'F', since FeatureStyle has no w, got 'W'"):
        invert(images, G, "clcae", encoder=style, space="W")
    assert invert(images, G, "clcae", encoder=style).features[4].shape == (3, 16, 4, 4)


def test_states_are_joined_part_by_part(G):
    w, n = torch.randn(3, G.num_ws, G.w_dim, generator=stream(0, "w")), G.noise_shapes
    state = State(w, [torch.randn(3, 1, *s, generator=stream(1, str(s))) for s in n],
                  {4: torch.randn(3, 16, 4, 4, generator=stream(2, "f"))}, False)  # fmt: skip
    again = join([state[:1], state[1:]])
    assert not again.replace_rgb and torch.equal(again.w_plus, w) and torch.equal(again.features[4], state.features[4])
    assert all(torch.equal(a, b) for a, b in zip(again.noise, state.noise, strict=True)) and again.styles is None
