"""Two branches: the refiner with edits of its own, its training, and both by name."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from small import small_e4e, small_generator

import latentlab as ll
from latentlab import weights
from latentlab.cli import main
from latentlab.editing.edit import Direction
from latentlab.editing.sparse import MissingWeights, sparse_edits_for
from latentlab.editing.stylespace import StyleDirection
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.inversion.result import Inversion
from latentlab.inversion.two_branch import invert_two_branch
from latentlab.inversion_methods import invert
from latentlab.seeds import stream
from latentlab.training import recipes
from latentlab.training.encoders import training_pictures
from latentlab.training.two_branch import TwoBranchTraining, configure_two_branch, generate

NEAR = {"rtol": 1e-3, "atol": 1e-3}  # batches of another size add up in another order


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


@pytest.fixture(scope="module")
def encoder(G):
    return small_e4e(G)


@pytest.fixture(scope="module")
def network(G, encoder):
    """Weights that are not trained, and change something nevertheless."""
    shape = configure_two_branch(G, encoder, "e4e", images=8, fused=8).shape
    network = recipes.BUILD["two_branch"](shape.to_dict()).requires_grad_(False)
    for i, weight in enumerate(network.parameters()):
        weight.add_(0.3 * torch.randn(weight.shape, generator=stream(i, "trained")))
    return network


@pytest.fixture(scope="module")
def images(G):
    return G(torch.randn(3, G.z_dim, generator=stream(0, "images"))).clamp(-1, 1)


@pytest.fixture(scope="module")
def base(images, G, encoder):
    return invert(images, G, "e4e", encoder=encoder)


@pytest.fixture(scope="module")
def found(images, G, base, network, encoder):
    return invert_two_branch(images, G, base=base, network=network, encoder=encoder, batch_size=2)


def test_an_attribute_is_edited_along_the_networks_own_direction(G, images, encoder, base, network, found):
    """The vector of the edit that is passed plays no part, only its name; the content is fused in again."""
    smile = Direction("smile", torch.zeros(G.w_dim))
    strengths = torch.tensor([1.0, 0.0, -2.0])
    edited = found.edited(smile, strengths)
    s = network.targets("smile", strengths)
    codes = base.latent + network.style_shift(s)
    torch.testing.assert_close(edited.latent, codes)
    fusion = network.fusion(G.features(base.latent), G.features(codes), network.contents(encoder.levels(images), s))
    torch.testing.assert_close(edited.image, G.synthesis(codes, replace=fusion), **NEAR)
    torch.testing.assert_close(found.edit(smile, 0.0), found.image, **NEAR)
    torch.testing.assert_close(edited.edited(smile, -strengths).image, found.image, **NEAR)
    with pytest.raises(ValueError, match="targets: expected -3 to 3 standard deviations, got 4"):
        edited.edited(smile, torch.tensor([3.0, 0, 0]))
    with pytest.raises(ValueError, match="targets: expected -3 to 3"):
        found.edit(smile, 3.5)


def test_each_attribute_has_an_edit_with_a_unit(G, base, network, found):
    """A strength of 1 is one standard deviation; an edit with another one is asked for the same change."""
    edits, std = found.editor.edits, dict(zip(network.config.attributes, network.config.std, strict=True))
    assert set(edits) == set(network.config.attributes) and std["yaw"] == pytest.approx(14, abs=6)  # degrees
    for name in ("glasses", "yaw"):
        assert edits[name].std == pytest.approx(std[name]) and edits[name].space == "W+"
        edited = found.edited(edits[name], 1.5)
        torch.testing.assert_close(edited.state.kept["targets"], network.targets(name, torch.full((3,), 1.5)))
    # other inversions have the codes, but no content: the style branch alone
    style = base.edit(edits["yaw"], 1.5)
    torch.testing.assert_close(style, G.synthesis(edited.latent), **NEAR)
    assert not torch.allclose(style, edited.image, atol=1e-2)
    half = Direction("yaw", torch.zeros(G.w_dim), std=std["yaw"] / 2)
    torch.testing.assert_close(found.edit(half, 3.0), edited.image)


def test_an_attribute_is_edited_in_some_layers(network, found):
    edit = found.editor.edits["age"]
    some = found.edited(ll.restrict(edit, range(2, 5)), 2.0)
    change = some.latent - found.latent
    torch.testing.assert_close(change[:, 2:5], 2 * edit.vector[2:5].expand(3, -1, -1), **NEAR)
    assert not change[:, :2].any() and not change[:, 5:].any()


def test_without_content_it_is_the_style_branch(G, images, base, encoder, network, tmp_path):
    alone = network.style_branch()
    found = invert_two_branch(images, G, base=base, network=alone, encoder=encoder)
    torch.testing.assert_close(found.image, base.image)
    edit = found.editor.edits["smile"]
    torch.testing.assert_close(found.edit(edit, 1.0), base.edit(edit, 1.0))
    assert found.editor.relevance(found.state, G) == {}


def test_shipped_edits_go_by_attribute(G, network, monkeypatch):
    with pytest.raises(MissingWeights, match="G: expected a generator with shipped two branches for codes of psp, got"):
        sparse_edits_for(G, "psp")
    with pytest.raises(ValueError, match="encoder: expected one of e4e, psp, got 'restyle'"):
        sparse_edits_for(G, "restyle")
    monkeypatch.setattr(weights, "find", lambda kind, mark: kind)
    told = {"config": network.config.to_dict()}
    monkeypatch.setattr(weights, "read_weights", lambda file: (network.state_dict(), told))
    edits = sparse_edits_for(G)
    assert set(edits) == set(network.config.attributes)
    assert torch.equal(edits["smile"].vector, network.style_directions[1]) and edits["smile"].std > 0
    assert edits["smile"].source == "two branches on codes of e4e"


def test_other_edits_keep_the_content_where_they_change_nothing(G, base, network, found):
    direction = Direction("wings", torch.randn(G.w_dim, generator=stream(0, "direction")))
    edited = found.edited(direction, 1.0)
    torch.testing.assert_close(edited.latent, base.latent + direction.vector)
    assert not torch.allclose(edited.image, G.synthesis(edited.latent), atol=1e-2)
    maps = edited.editor.relevance(edited.state, G)
    assert set(maps) == {4, 8} and all(0 <= m.min() and m.max() <= 1 for m in maps.values())


@pytest.fixture(scope="module")
def in_s(G) -> StyleDirection:
    """An edit of S at 8 px, where content is fused."""
    shifts = {layer.name: torch.zeros(layer.channels) for layer in G.style_layers}
    shifts["blocks.8.conv1"].normal_(generator=stream(3, "shifts"))
    return StyleDirection("wings", tuple(shifts.values()))


def test_an_edit_of_styles_is_fused_as_well(G, images, encoder, base, network, found, in_s):
    """Codes stay, and only the features say what is edited."""
    edited = found.edited(in_s, 1.0)
    assert torch.equal(edited.latent, base.latent)
    styles = [own + shift for own, shift in zip(G.styles(base.latent), in_s.shifts, strict=True)]
    before, after = G.features(base.latent), G.features(None, styles=styles)
    fusion = network.fusion(before, after, network.contents(encoder.levels(images), edited.state.kept["targets"]))
    torch.testing.assert_close(edited.image, G.synthesis(None, styles=styles, replace=fusion), **NEAR)
    now, then = (inv.editor.relevance(inv.state, G) for inv in (edited, found))
    torch.testing.assert_close(now[4], then[4])
    changed = (after[8] - before[8]).abs().amax(1, keepdim=True) > 0.1
    assert changed.any() and (now[8] < then[8])[changed].all()
    torch.testing.assert_close(edited.edit(in_s, -1.0), found.image, **NEAR)


def test_edits_of_styles_and_of_codes_come_in_any_order(G, found, in_s):
    """Styles that are held would hide a later change of the codes."""
    others = found.editor.edits["age"], Direction("paws", torch.randn(G.w_dim, generator=stream(0, "direction")))
    for other in others:
        later, earlier = found.edited(in_s, 1.0).edited(other, 2.0), found.edited(other, 2.0).edited(in_s, 1.0)
        torch.testing.assert_close(later.image, earlier.image, **NEAR)
        assert not torch.allclose(later.image, found.edit(in_s, 1.0), atol=1e-2)


def test_the_noise_of_the_base_is_in_its_features(G, images, base, encoder, network):
    """Untrained, the content is that of the inversion, and the picture stays."""
    noise = [torch.randn(3, 1, *shape, generator=stream(i, "noise")) for i, shape in enumerate(G.noise_shapes)]
    state = replace(base.state, noise=noise)
    noisy = replace(base, state=state, image=state.draw(G))
    untrained = recipes.BUILD["two_branch"](network.config.to_dict()).requires_grad_(False)
    found = invert_two_branch(images, G, base=noisy, network=untrained, encoder=encoder)
    torch.testing.assert_close(found.image, noisy.image, **NEAR)
    assert not torch.allclose(found.image, base.image, atol=1e-2)


def test_saved_and_loaded_it_edits_the_same(G, network, found, tmp_path):
    found[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G, editor=found.editor)
    age = Direction("age", torch.zeros(G.w_dim))
    torch.testing.assert_close(again.edit(age, 1.0), found.edit(age, 1.0)[1:2], **NEAR)


def test_what_does_not_fit_is_refused(unchecked, G, images, base, network, encoder):
    with pytest.raises(ValueError, match="base: expected an inversion of the 2 images, got one of 3"):
        invert_two_branch(images[:2], G, base=base, network=network, encoder=encoder)
    with pytest.raises(ValueError, match="base: expected a generator with shipped networks of two_branch, got one by"):
        invert_two_branch(images, G, base=base, encoder=encoder)
    for wrong in (2, 12, 64):
        with pytest.raises(ValueError, match=f"fused: expected 0 or one of 4, 8, 16, 32, got {wrong}"):
            configure_two_branch(G, encoder, "e4e", images=8, fused=wrong)
    assert configure_two_branch(G, encoder, "e4e", images=8, fused=0).shape.resolutions == ()
    with pytest.raises(ValueError, match="attributes: expected those that the losses' network reads .*, got wings"):
        configure_two_branch(G, encoder, "e4e", attributes=("wings",), images=8)
    slim = slim_config("e4e", G.config)
    other = build_encoder("e4e", replace(slim, widths=(8, 16, 32, 32)))
    with pytest.raises(ValueError, match="encoder: expected codes of width 16 and features of width 8, got 16 and 32"):
        invert_two_branch(images, G, base=base, network=network, encoder=other)
    config = configure_two_branch(G, encoder, "e4e", images=8)
    for wrong, message in (({"strength": 4.0}, "strength: expected above 0 and at most 3"),
                           ({"sparsity": "l0"}, "sparsity: expected 'proximal' or 'subgradient'"),
                           ({"losses": {"adversarial": 1.0}}, "losses: expected names among l2")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            replace(config, **wrong)


def test_training_learns_directions_and_content(G, encoder):
    config = configure_two_branch(G, encoder, "e4e", images=400, fused=8, learning_rate=1e-2, seed=3)
    training = TwoBranchTraining(config, G, encoder, Fabric(accelerator="cpu", precision="32-true"))
    batch = training_pictures(config, 32)(0, 8, torch.device("cpu"))
    logged = [training.step(batch) for _ in range(12)]
    assert set(logged[0]) == {*config.losses, "zeros"} - {"sparsity"}
    assert logged[-1]["alignment"] < logged[0]["alignment"]
    assert training.network.style_directions.abs().max() > 0.01


def test_directions_alone_leave_the_content_untrained(G, encoder):
    losses = {"l2": 0.01, "attributes": 10.0, "refined_l2": 0.0}
    config = configure_two_branch(G, encoder, "e4e", images=400, fused=8, losses=losses)
    training = TwoBranchTraining(config, G, encoder, Fabric(accelerator="cpu", precision="32-true"))
    before = {k: v.clone() for k, v in training.network.state_dict().items()}
    training.step(training_pictures(config, 32)(0, 8, torch.device("cpu")))
    changed = {k for k, v in training.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"style_directions"}


def test_features_come_with_the_images(G, base):
    image, maps = generate(G, base.latent, (4, 8))
    torch.testing.assert_close(image, G.synthesis(base.latent))
    torch.testing.assert_close(maps[8], G.features(base.latent)[8])


def test_a_run_of_the_command_edits_by_name(G, images, encoder, base, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "load", lambda name: G)
    monkeypatch.setattr(recipes, "encoder_for", lambda G, name, device: encoder)
    run, shipped = tmp_path / "run", tmp_path / "weights"
    command = ["train", "two_branch", "--images", "8", "--attribute", "smile", "--loss", "sparsity=0", "--seed", "2"]
    command += ["--sparsity", "subgradient"]
    assert main([*command, "--out", str(run), "--accelerator", "cpu", "--precision", "32-true"]) == 0
    assert json.loads((run / "run.json").read_text())["config"]["sparsity"] == "subgradient"
    (file,) = recipes.publish_run(run, "small", shipped)
    assert file.name == "small.two_branch_e4e.safetensors"
    network, other = ll.load_refiner(file, G), small_e4e(G)
    next(other.parameters()).add_(1)
    changed = invert(images, G, "e4e", encoder=other)
    for given, message in (({"base": changed, "encoder": encoder}, "base: expected codes of the encoder"),
                           ({"base": base, "encoder": other}, "encoder: expected .*, with which the networks were")):
        with pytest.raises(ValueError, match=message):
            invert(images, G, "two_branch", network=network, **given)
    for name in ("find", "read_weights"):
        monkeypatch.setattr(weights, name, partial(getattr(weights, name), folder=shipped))
    found = invert(images, G, "two_branch", base=base, encoder=encoder)
    found.save(tmp_path / "one.safetensors")
    smile = Direction("smile", torch.zeros(G.w_dim))
    again = Inversion.load(tmp_path / "one.safetensors", G)
    torch.testing.assert_close(again.edit(smile, 1.0), found.edit(smile, 1.0), **NEAR)
    opened = invert(images, G, "two_branch", base=base, encoder=encoder, network=network)
    torch.testing.assert_close(opened.image, found.image, **NEAR)
    assert again.editor.network.config.attributes == ("smile",)
