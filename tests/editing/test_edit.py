"""States and edits: every part of a state is drawn, edited, saved and loaded."""

from dataclasses import replace

import pytest
import torch
from small import small_generator
from torch import nn

import latentlab as ll
from latentlab.editing.edit import Direction, Edit, State, apply_edit, restrict
from latentlab.editing.stylespace import StyleDirection
from latentlab.inversion.result import Inversion
from latentlab.stylegan.generator import Generator


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator()


@pytest.fixture(scope="module")
def state(G) -> State:
    """Two images with every part that a state can have, each different from the generator's own."""
    draw = torch.Generator().manual_seed(0)
    w_plus = torch.randn(2, G.num_ws, G.w_dim, generator=draw)
    noise = [torch.randn(2, 1, *shape, generator=draw) for shape in G.noise_shapes]
    styles = [s + 0.1 * torch.randn(s.shape, generator=draw) for s in G.styles(w_plus)]
    features = {8: torch.randn(2, 16, 8, 8, generator=draw)}
    tuned = {
        name: p + 0.1 * torch.randn(2, *p.shape, generator=draw)
        for name, p in G.named_parameters()
        if name.startswith("blocks.16.conv1") and p.ndim
    }
    return State(w_plus, noise, features, False, styles, tuned)


@pytest.fixture(scope="module")
def direction(G) -> Direction:
    return Direction("smile", torch.randn(G.w_dim, generator=torch.Generator().manual_seed(1)), 0.4)


PARTS = {
    "codes": {},
    "noise": ["noise"],
    "features": ["features"],
    "styles": ["styles"],
    "tuned": ["tuned"],
    "all": ["noise", "features", "styles", "tuned", "replace_rgb"],
}


def having(state: State, parts: str) -> State:
    return State(state.w_plus, **{name: getattr(state, name) for name in PARTS[parts]})


def test_every_part_changes_the_image(G, state):
    plain = G.synthesis(state.w_plus)
    assert torch.equal(having(state, "codes").draw(G), plain)
    for parts in PARTS:
        picture = having(state, parts).draw(G)
        assert torch.equal(picture, plain) == (parts == "codes")
        torch.testing.assert_close(having(state, parts)[1].draw(G), picture[1:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(replace(state, replace_rgb=True).draw(G), state.draw(G))


def test_tuned_weights_equal_a_generator_with_these_weights(G, state):
    """Each image equals that of a copy of the generator with its weights; the generator itself is not changed."""
    before = {k: v.clone() for k, v in G.state_dict().items()}
    pictures = having(state, "tuned").draw(G)
    for i, picture in enumerate(pictures):
        copy = small_generator()
        copy.load_state_dict(before | {k: v[i] for k, v in state.tuned.items()})
        torch.testing.assert_close(picture, copy.synthesis(state.w_plus[i : i + 1])[0], rtol=1e-4, atol=1e-5)
        found = having(state, "tuned").feature_maps(G)[16][i]
        torch.testing.assert_close(found, copy.features(state.w_plus[i : i + 1])[16][0], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())


def test_edits_of_styles_start_from_those_of_the_tuned_weights(G, state, direction):
    """Also where affine layers were tuned: strength 0 changes nothing, and a change of codes moves their own styles."""
    name = "blocks.8.conv0.affine.weight"
    weights = G.state_dict()[name]
    tuned = {name: weights + 0.3 * torch.randn(2, *weights.shape, generator=torch.Generator().manual_seed(2))}
    held = State(state.w_plus, tuned=tuned)
    before, still = held.draw(G), torch.zeros(2)
    edit = StyleDirection("some", tuple(torch.ones(layer.channels) for layer in G.style_layers), layers=(1,))
    torch.testing.assert_close(apply_edit(edit, held, still, G).draw(G), before)
    torch.testing.assert_close(apply_edit(restrict(edit, [1]), held, still, G).draw(G), before)
    assert not torch.allclose(State(held.w_plus, styles=G.styles(held.w_plus), tuned=tuned).draw(G), before, atol=1e-3)
    styled = replace(held, styles=held.own_styles(G))
    moved = apply_edit(direction, styled, torch.ones(2), G).draw(G)
    torch.testing.assert_close(moved, apply_edit(direction, held, torch.ones(2), G).draw(G), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", PARTS)
def test_no_part_hides_an_edit(G, state, direction, parts):
    """An edit changes the images about as much as those of the codes alone; strength 0 changes nothing."""
    held, plain = having(state, parts), having(state, "codes")
    strengths = torch.tensor([2.0, 0.0])
    moved = (apply_edit(direction, held, strengths, G).draw(G) - held.draw(G)).abs().mean((1, 2, 3))
    alone = (apply_edit(direction, plain, strengths, G).draw(G) - plain.draw(G)).abs().mean((1, 2, 3))
    assert moved[0] > 0.4 * alone[0] and moved[1] < 1e-5
    # Without ``carry``, held styles and feature maps hide most of the edit.
    not_carried = replace(held, w_plus=direction(held, strengths, G).w_plus).draw(G) - held.draw(G)
    if parts in ("features", "styles", "all"):
        assert not_carried.abs().mean((1, 2, 3))[0] < 0.7 * moved[0]


def test_a_held_feature_map_changes_like_the_generators_own(G, state, direction):
    """CLCAE, Eq. 6, computed by hand."""
    held, strengths = having(state, "features"), torch.tensor([1.0, -2.0])
    w = held.w_plus + strengths[:, None, None] * direction.vector
    expected = held.features[8] + G.features(w)[8] - G.features(held.w_plus)[8]
    after = apply_edit(direction, held, strengths, G)
    torch.testing.assert_close(after.features[8], expected)
    own = replace(held, features={8: G.features(held.w_plus)[8]})  # holding the codes' own map changes nothing
    torch.testing.assert_close(apply_edit(direction, own, strengths, G).draw(G), G.synthesis(w), rtol=1e-4, atol=1e-5)
    styled = State(held.w_plus, styles=G.styles(held.w_plus))
    picture = apply_edit(direction, styled, strengths, G).draw(G)
    torch.testing.assert_close(picture, G.synthesis(w), rtol=1e-4, atol=1e-5)


class Recolour(Edit):
    """An edit without a vector: it scales the styles of the last layer and sets the feature maps itself."""

    name, unit, std, space, layers, source = "colour", "relative change", 1.0, "S", None, "a test"

    def __call__(self, state: State, strengths: torch.Tensor, G: nn.Module) -> State:
        styles = list(G.styles(state.w_plus) if state.styles is None else state.styles)
        styles[-1] = styles[-1] * (1 + strengths[:, None])
        return replace(state, styles=styles, features={r: 2 * f for r, f in (state.features or {}).items()} or None)


def test_an_edit_need_not_be_a_vector(G, state):
    held, strengths = having(state, "features"), torch.tensor([0.5, 0.0])
    after = apply_edit(Recolour(), held, strengths, G)
    assert torch.equal(after.features[8], 2 * held.features[8])  # a map that the edit has changed stays as it is
    assert torch.equal(after.w_plus, held.w_plus) and not torch.allclose(after.draw(G), held.draw(G))
    inv = Inversion(held, held.draw(G), G, "known")
    torch.testing.assert_close(inv.edit(Recolour(), strengths), after.draw(G))
    last = restrict(Recolour(), [G.style_layers[-1].w_index])
    again = apply_edit(last, having(state, "styles"), strengths, G)
    whole = apply_edit(Recolour(), having(state, "styles"), strengths, G)
    assert torch.equal(again.styles[-1], whole.styles[-1])
    none = apply_edit(restrict(Recolour(), [0]), having(state, "styles"), strengths, G)
    assert all(torch.equal(a, b) for a, b in zip(none.styles, state.styles, strict=True))


def test_an_edit_of_styles_is_restricted_where_none_were_held(G, state):
    plain, strengths = having(state, "codes"), torch.tensor([0.5, 0.5])
    own = G.styles(plain.w_plus)
    none = apply_edit(restrict(Recolour(), [0]), plain, strengths, G)
    assert all(torch.equal(a, b) for a, b in zip(none.styles, own, strict=True))
    last = apply_edit(restrict(Recolour(), [G.style_layers[-1].w_index]), plain, strengths, G)
    assert torch.equal(last.styles[0], own[0]) and not torch.allclose(last.styles[-1], own[-1])


def test_an_edit_can_be_restricted_to_layers(unchecked, G, state, direction):
    plain, strengths = having(state, "codes"), torch.tensor([1.0, 1.0])
    some, all_ = restrict(direction, [1, 2]), direction(plain, strengths, G).w_plus
    moved = some(plain, strengths, G).w_plus
    assert torch.equal(moved[:, 1:3], all_[:, 1:3]) and torch.equal(moved[:, 3:], plain.w_plus[:, 3:])
    assert (some.name, some.std, some.layers, some.space) == ("smile", 0.4, (1, 2), "W+")
    assert restrict(direction, slice(1, 3)).layers == (1, 2) and restrict(some, [2, 3]).layers == (2,)
    for layers in ([], 3, slice(2, None)):
        with pytest.raises(ValueError, match="layers: expected several numbers, or a slice with an end"):
            restrict(direction, layers)
    with pytest.raises(ValueError, match="edit: expected an Edit, got Tensor"):
        restrict(direction.vector, [0])
    with pytest.raises(ValueError, match="layers: expected some of 0 to 5, got .*6"):
        restrict(direction, [5, 6])(plain, strengths, G)


def test_a_method_can_have_its_own_editor(G, state, direction):
    def edit_threefold(edit: Edit, state: State, strengths: torch.Tensor, G: nn.Module) -> State:
        return apply_edit(edit, state, 3 * strengths, G)

    plain = having(state, "codes")
    inv = Inversion(plain, plain.draw(G), G, "threefold", editor=edit_threefold)
    torch.testing.assert_close(inv.edit(direction, 1.0), replace(inv, editor=apply_edit).edit(direction, 3.0))


@pytest.mark.parametrize("parts", PARTS)
def test_saving_and_loading_restores_every_part(G, state, direction, parts, tmp_path):
    held = having(state, parts)
    inv = Inversion(held, held.draw(G), G, "known", {"loss": torch.rand(4, 2)}, 1.5, {"steps": 4})
    inv.edited(direction, 0.5).save(tmp_path / "a.safetensors")
    again = Inversion.load(tmp_path / "a.safetensors", G)
    torch.testing.assert_close(again.image, inv.edit(direction, 0.5))
    torch.testing.assert_close(again.edit(direction, 0.5), inv.edited(direction, 0.5).edit(direction, 0.5))
    assert again.knobs["edits"] == [{"edit": "smile", "strength": 0.5, "layers": None}] and again.knobs["steps"] == 4


def test_an_inversion_belongs_to_the_whole_generator(G, state, tmp_path):
    """A generator with the same mapping network but other convolutions can load the codes only."""
    inv = Inversion(state, state.draw(G), G, "known")
    inv.save(tmp_path / "a.safetensors")
    other = small_generator()
    other.blocks["16"].conv1.weight.mul_(1.1)
    with pytest.raises(ValueError, match="expected an inversion of the generator .*codes_only=True"):
        Inversion.load(tmp_path / "a.safetensors", other)
    codes = Inversion.load(tmp_path / "a.safetensors", other, codes_only=True)
    torch.testing.assert_close(codes.image, other.synthesis(state.w_plus))
    for codes_only in (False, True):
        with pytest.raises(ValueError, match="load it with the generator that it was made with$"):
            Inversion.load(tmp_path / "a.safetensors", small_generator(2), codes_only=codes_only)
    with pytest.raises(ValueError, match="expected a saved inversion"):
        Inversion.load(next(ll.weights.FOLDER.glob("*.generator.safetensors")), G)


def test_one_of_them(G, state):
    """A single index keeps the batch; one that is not there raises, so that iteration ends."""
    inv = Inversion(state, state.draw(G), G, "known", knobs={"steps": 3}, seconds=1.0)
    assert len(inv[1]) == len(inv[-1]) == len(state[0]) == 1
    for index in (2, -3):
        with pytest.raises(IndexError, match="index: expected -2 to 1, got"):
            inv[index]
        with pytest.raises(IndexError, match="index: expected -2 to 1, got"):
            state[index]
    assert len([*inv]) == 2
    assert repr(inv) == "Inversion(2 images of 16 px by known, 3 steps, 1.0 s)"


def test_bad_input(unchecked, G, state, direction):
    inv = Inversion(having(state, "codes"), G.synthesis(state.w_plus), G, "known")
    with pytest.raises(ValueError, match="expected an Edit, got Tensor; .*Direction"):
        inv.edit(direction.vector, 1.0)
    for strength in (float("nan"), torch.tensor([1.0, 2.0, 3.0]), torch.ones(2, 1)):
        with pytest.raises(ValueError, match="strength: expected a finite number, or one for each of 2 images"):
            inv.edit(direction, strength)
    with pytest.raises(ValueError, match=r"expected a vector of shape \(16,\) or \(6, 16\)"):
        inv.edit(replace(direction, vector=torch.zeros(5, 16)), 1.0)
    with pytest.raises(ValueError, match=r"noise: expected tensors of length 2, one entry per code, got \[3\]"):
        State(state.w_plus, noise=[torch.zeros(3, 1, 4, 4)])
