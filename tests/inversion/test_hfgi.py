"""HFGI: its networks, the refiner with edits of its own, and a training of some steps."""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from small import small_e4e, small_generator

from latentlab import weights
from latentlab.cli import main
from latentlab.editing.edit import Direction, State
from latentlab.editing.stylespace import StyleDirection
from latentlab.encoders import shipped as encoders
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.inversion import refiners
from latentlab.inversion.hfgi import HfgiEditor, invert_hfgi
from latentlab.inversion.refiners import load_refiner, refiner_for
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.metrics import mse
from latentlab.networks.hfgi import Hfgi, HfgiConfig, perspective
from latentlab.seeds import stream
from latentlab.spaces import fingerprint
from latentlab.stylegan.generator import Generator
from latentlab.training import publishing, recipes
from latentlab.training.hfgi import HfgiTraining, configure_hfgi


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator(1, 32)


@pytest.fixture(scope="module")
def images(G) -> torch.Tensor:
    return G(torch.randn(3, G.z_dim, generator=stream(0, "images"))).clamp(-1, 1)


@pytest.fixture(scope="module")
def base(G) -> Inversion:
    """The same code for every image."""
    state = State(G.broadcast(G.w_avg[None]).repeat(3, 1, 1))
    return Inversion(state, state.draw(G), G, "mean", seconds=2.0)


@pytest.fixture(scope="module")
def network(G) -> Hfgi:
    """Weights that are not trained, and fuse something nevertheless."""
    network = Hfgi(configure_hfgi(G, "mean", images=8).shape, seed=1).requires_grad_(False)
    for out in (network.align.out, network.consult.out):
        out.weight.normal_(0, 0.05, generator=stream(0, "out"))
    return network


@pytest.fixture
def direction(G) -> Direction:
    return Direction("some", torch.randn(G.w_dim, generator=stream(0, "direction")))


def test_untrained_networks_change_nothing(G, images, base):
    network = Hfgi(HfgiConfig(32, 8, 16))
    found = invert_hfgi(images, G, base=base, network=network)
    torch.testing.assert_close(found.image, base.image)
    assert torch.equal(found.latent, base.latent) and found.seconds > 2
    torch.testing.assert_close(found.state.kept["residual"], images - base.image)
    assert torch.equal(network.align(images, base.image), images)


def test_an_edit_fuses_the_residual_again(G, images, base, network, direction):
    found = invert_hfgi(images, G, base=base, network=network)
    assert not torch.allclose(found.image, base.image, atol=1e-2)
    torch.testing.assert_close(found.edit(direction, 0.0), found.image)
    strengths = torch.tensor([1.0, 0.0, -2.0])
    codes = base.latent + strengths[:, None, None] * direction.vector
    fused = network(G.features(codes)[8], images - base.image, G.synthesis(codes))
    expected = G.synthesis(codes, replace={8: fused})
    torch.testing.assert_close(found.edit(direction, strengths), expected)
    twice = found.edited(direction, 1.0).edited(direction, -1.0)
    torch.testing.assert_close(twice.image, found.image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1:].edit(direction, 2.0), found.edit(direction, 2.0)[1:])


def test_edits_of_styles_and_of_codes_come_in_any_order(G, images, base, network, direction):
    """Styles that are held would hide a later change of the codes."""
    found, draw = invert_hfgi(images, G, base=base, network=network), stream(3, "shifts")
    in_s = StyleDirection("wings", tuple(torch.randn(s.channels, generator=draw) for s in G.style_layers))
    later, earlier = found.edited(in_s, 0.5).edited(direction, 1.0), found.edited(direction, 1.0).edited(in_s, 0.5)
    torch.testing.assert_close(later.image, earlier.image, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(later.image, found.edit(in_s, 0.5), atol=1e-2)


def test_saved_and_loaded_with_its_editor_it_edits_the_same(G, images, base, network, direction, tmp_path):
    found = invert_hfgi(images, G, base=base, network=network, batch_size=2)
    found[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G, editor=HfgiEditor(network))
    torch.testing.assert_close(again.image, found.image[1:2])
    torch.testing.assert_close(again.edit(direction, 1.0), found.edit(direction, 1.0)[1:2])


def test_what_does_not_fit_is_refused(unchecked, G, images, base, network):
    with pytest.raises(ValueError, match="base: expected an inversion of the 2 images, got one of 3"):
        invert_hfgi(images[:2], G, base=base, network=network)
    with pytest.raises(ValueError, match="base: expected an inversion by the generator"):
        invert_hfgi(images, G, base=replace(base, generator=small_generator(2, 32)), network=network)
    with pytest.raises(ValueError, match="network: expected one for 32 px, got one for 64"):
        invert_hfgi(images, G, base=base, network=Hfgi(HfgiConfig(64, 16, 16)))
    for layer in (32, 12):
        with pytest.raises(ValueError, match=f"layer: expected 32 px divided by a power of two.*got {layer}"):
            HfgiConfig(32, layer, 16)
    with pytest.raises(ValueError, match="kept: expected tensors of length 3"):
        State(base.latent, kept={"residual": images[:1]})


def test_perspective_moves_corners_by_at_most_its_distortion():
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    images = torch.cat([ramp, ramp.transpose(2, 3)], 1).repeat(8, 1, 1, 1)
    torch.testing.assert_close(perspective(images, stream(0, "p"), distortion=0.0), images, atol=1e-4, rtol=0)
    moved = perspective(images, stream(0, "p"), distortion=0.1)
    assert torch.equal(moved, perspective(images, stream(0, "p"), distortion=0.1))
    inside = (moved - images)[:, :, 16:48, 16:48].abs()
    assert 0.02 < inside.max() < 0.21 and (moved[0] != moved[1]).any()


def test_training_brings_the_pictures_nearer(G, images, base):
    config = configure_hfgi(G, "mean", images=400, learning_rate=3e-3, seed=3)
    assert config.shape == HfgiConfig(32, 8, 16)
    training = HfgiTraining(config, G, lambda x: base.latent[:1].expand(len(x), -1, -1), Fabric(accelerator="cpu"))
    batch = images.repeat(2, 1, 1, 1)
    logged = [training.step(batch) for _ in range(25)]
    assert set(logged[0]) == {"l2", "perceptual", "identity", "alignment"}
    assert logged[-1]["l2"] < 0.7 * logged[0]["l2"]
    (group,) = training.players["network"].optimizer.param_groups
    assert group["lr"] == 3e-3 and training.players["network"].schedule.lr_lambdas[0](50) == 0  # in the first half
    found = invert_hfgi(images, G, base=base, network=training.network.eval())
    assert (mse(found.image, images) < 0.8 * mse(base.image, images)).all()
    with pytest.raises(ValueError, match="generator: expected"):
        HfgiTraining(replace(config, generator="other"), G, lambda x: base.latent, Fabric(accelerator="cpu"))
    with pytest.raises(ValueError, match="losses: expected names among l2, .*, got adversarial"):
        configure_hfgi(G, "mean", images=8, losses={"adversarial": 1.0})


def test_a_run_of_the_command_refines_by_name(G, images, tmp_path, monkeypatch):
    """Training, publishing, the method with the shipped networks, and the restored editor of a saved inversion."""
    encoder = build_encoder("e4e", slim_config("e4e", G.config)).requires_grad_(False).eval()
    encoder.set_average(G.w_avg)
    monkeypatch.setattr(recipes, "load", lambda name: G)
    monkeypatch.setattr(recipes, "encoder_for", lambda G, name, device: encoder)
    run, shipped = tmp_path / "run", tmp_path / "weights"
    command = ["train", "hfgi", "--images", "16", "--seed", "2", "--out", str(run)]
    assert main([*command, "--accelerator", "cpu", "--precision", "32-true"]) == 0
    (file,) = recipes.publish_run(run, "small", shipped)
    assert file.name == "small.hfgi_e4e.safetensors"
    assert load_refiner(file, G).encoder_fingerprint == fingerprint(encoder, "generator")
    for name in ("find", "read_weights"):
        monkeypatch.setattr(weights, name, partial(getattr(weights, name), folder=shipped))
    base = invert(images, G, "e4e", encoder=encoder)
    found = invert(images, G, "hfgi", base=base)
    assert found.knobs["base"] == "e4e" and not torch.equal(found.image, base.image)
    found.save(tmp_path / "one.safetensors")
    direction = Direction("some", torch.randn(G.w_dim, generator=stream(0, "direction")))
    again = Inversion.load(tmp_path / "one.safetensors", G)
    torch.testing.assert_close(again.edit(direction, 1.0), found.edit(direction, 1.0))
    other = Hfgi(configure_hfgi(G, "e4e", images=8).shape, seed=5).requires_grad_(False)
    invert(images, G, "hfgi", base=base, network=other).save(tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="editor: expected the networks .* that made this inversion"):
        Inversion.load(tmp_path / "one.safetensors", G)
    with pytest.raises(ValueError, match="base: expected an inversion by e4e, .* network=load_refiner.FILE, G."):
        invert(images, G, "hfgi", base=replace(base, method="mean"))
    monkeypatch.setattr(weights, "find", lambda kind, mark: None)
    with pytest.raises(ValueError, match="editor: expected the networks .*, got none that are shipped for codes of e4e"
                                         "; pass the network's editor as editor=HfgiEditor.load_refiner.FILE, G."):
        Inversion.load(tmp_path / "one.safetensors", G)


def test_published_networks_know_their_encoder(G, images, tmp_path, monkeypatch):
    """With an encoder in its place that was trained anew, codes are others, and nothing would say so."""
    encoder, other = small_e4e(G), small_e4e(G)
    next(other.parameters()).add_(1)
    mark, shipped = fingerprint(G, "generator"), tmp_path / "weights"
    config = configure_hfgi(G, "e4e", images=8, encoder_fingerprint=fingerprint(encoder, "generator"))
    trained = Hfgi(config.shape, seed=1).requires_grad_(False)
    run = publishing.Run("known", trained, {"config": asdict(config), "progress": (1, 8)}, {}, shipped, 0, 0)
    (file,) = publishing.publish_refiner(run, "hfgi")
    network = load_refiner(file, G)
    assert network.encoder_fingerprint == config.encoder_fingerprint
    base, changed = (invert(images, G, "e4e", encoder=e) for e in (encoder, other))
    found = invert_hfgi(images, G, base=base, network=network)
    with pytest.raises(ValueError, match=f"base: expected codes of the encoder {config.encoder_fingerprint}, with"):
        invert_hfgi(images, G, base=changed, network=network)
    invert_hfgi(images, G, base=replace(changed, knobs={}), network=network)  # codes of an unknown encoder

    def ship(network) -> None:
        about = {"encoder": "e4e", "config": network.config.to_dict(), "fingerprint": mark}
        told = {"fingerprint": mark}
        weights.publish("known.e4e.safetensors", network.state_dict(), about, told, half=False, folder=shipped)
        for cached in (refiners._read, encoders._read, weights._check):
            cached.cache_clear()

    for name in ("find", "read_weights"):
        monkeypatch.setattr(weights, name, partial(getattr(weights, name), folder=shipped))
    ship(encoder)
    again = invert(images, G, "hfgi", base=invert(images, G, "e4e"))
    torch.testing.assert_close(again.image, found.image, rtol=1e-4, atol=1e-4)
    ship(other)
    with pytest.raises(ValueError, match="hfgi_e4e.safetensors: expected the encoder e4e of fingerprint .*, got the"):
        refiner_for(G, "hfgi", "e4e")
    with pytest.raises(ValueError, match="expected networks of a refiner of generator"):
        load_refiner(file, small_generator(2, 32))
    with pytest.raises(ValueError, match="expected networks of a refiner written by `latentlab publish`, got a file"):
        load_refiner(shipped / "known.e4e.safetensors", G)


def test_a_run_with_another_encoder_is_not_resumed(G, base):
    config = configure_hfgi(G, "mean", images=8, encoder_fingerprint="one")
    training = HfgiTraining(config, G, lambda x: base.latent, Fabric(accelerator="cpu"))
    state = training.state_dict()
    state["config"]["encoder_fingerprint"] = "other"
    with pytest.raises(ValueError, match="encoder_fingerprint = one .the checkpoint has other"):
        training.load_state_dict(state)
    del state["config"]["encoder_fingerprint"]  # a checkpoint of before
    training.load_state_dict(state)
