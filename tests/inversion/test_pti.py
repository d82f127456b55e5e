"""The properties of Pivotal Tuning: what it changes, what it leaves, and what the locality regulariser keeps."""

from dataclasses import replace

import pytest
import torch
from small import small_generator

from latentlab.editing.edit import Direction, State
from latentlab.editing.stylespace import StyleDirection
from latentlab.inversion.descent import Step
from latentlab.inversion.pti import invert_pti
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import mse
from latentlab.seeds import stream
from latentlab.spaces import measure_statistics
from latentlab.stylegan.generator import Generator

KNOBS = {"steps": 8, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator(1, 16)


@pytest.fixture(scope="module")
def pivots(G) -> Inversion:
    """Codes of the generator, which do not draw the images below, and noise maps of their own."""
    w_plus = G.broadcast(G.mapping(torch.randn(2, G.z_dim, generator=stream(0, "pivots")))).clone()
    noise = [torch.randn(2, 1, *shape, generator=stream(0, "maps")) for shape in G.noise_shapes]
    state = State(w_plus, noise)
    return Inversion(state, state.draw(G), G, "known", seconds=1.5)


@pytest.fixture(scope="module")
def images(G) -> torch.Tensor:
    return G(torch.randn(2, G.z_dim, generator=stream(0, "images"))).clamp(-1, 1)


@pytest.fixture(scope="module")
def knobs(G) -> dict:
    return KNOBS | {"statistics": measure_statistics(G, 2_000)}


@pytest.fixture(scope="module")
def tuned(G, pivots, images, knobs) -> Inversion:
    return invert_pti(images, G, base=pivots, **knobs)


def moved(tuned: Inversion, n: int = 8) -> torch.Tensor:
    """How far the pictures of other codes than the pivots move, a mean over codes and tuned generators."""
    G = tuned.generator
    w_plus = G.broadcast(G.mapping(torch.randn(n, G.z_dim, generator=stream(3, "others"))))
    weights = [{k: v[[i] * n] for k, v in tuned.state.tuned.items()} for i in range(len(tuned))]
    with torch.no_grad():
        return torch.stack([(State(w_plus, tuned=w).draw(G) - G.synthesis(w_plus)).square().mean() for w in weights])


def test_the_picture_comes_nearer_and_the_code_stays(G, pivots, images, tuned):
    before = {k: v.clone() for k, v in G.state_dict().items()}
    assert torch.equal(tuned.latent, pivots.latent) and tuned.noise is pivots.noise
    assert (mse(tuned.image, images) < 0.5 * mse(pivots.image, images)).all()
    assert (tuned.trace["loss"][-1] < 0.7 * tuned.trace["loss"][0]).all()
    assert not any(name.startswith("mapping") for name in tuned.state.tuned)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())
    assert all(len(v) == 2 and (v != before[k]).any() for k, v in tuned.state.tuned.items())
    assert tuned.seconds > 1.5 and tuned.knobs["steps"] == 8 and tuned.trace["locality"].shape == (8, 2)


def test_locality_keeps_the_pictures_of_other_codes(G, pivots, images, knobs, tuned):
    free, strict = (invert_pti(images, G, base=pivots, locality_weight=x, **knobs) for x in (0, 1.0))
    assert "locality" not in free.trace
    assert (moved(tuned) < 0.95 * moved(free)).all() and (moved(strict) < 0.8 * moved(tuned)).all()
    assert (mse(strict.image, images) < mse(pivots.image, images)).all()


def test_alpha_is_the_length_of_the_step_in_each_layer(G, pivots, images, knobs, monkeypatch):
    drawn = []
    draw = State.draw
    monkeypatch.setattr(State, "draw", lambda state, G: drawn.append(state) or draw(state, G))
    invert_pti(images[:1], G, base=pivots[:1], alpha=2.5, **knobs | {"steps": 2})
    steps = torch.cat([s.w_plus for s in drawn if not torch.equal(s.w_plus, pivots.latent[:1])]) - pivots.latent[:1]
    torch.testing.assert_close(steps.square().sum(2).mean(1).sqrt(), torch.full((4,), 2.5))  # two codes, drawn by both
    assert torch.equal(steps[0], steps[1]) and not torch.equal(steps[1], steps[2])


def test_edits_go_through_the_tuned_generator(G, tuned):
    vector = torch.randn(G.w_dim, generator=stream(0, "direction"))
    channels = tuple(torch.ones(layer.channels) for layer in G.style_layers)
    for edit in (Direction("some", vector), StyleDirection("styles", channels)):
        torch.testing.assert_close(tuned.edit(edit, 0.0), tuned.image)
        before = replace(tuned, state=replace(tuned.state, tuned=None))
        assert (tuned.edit(edit, 1.0) - tuned.image).abs().mean() > 1e-3
        assert (tuned.edit(edit, 1.0) - before.edit(edit, 1.0)).abs().mean() > 1e-3


def test_saved_and_loaded_it_draws_and_edits_the_same(G, tuned, tmp_path):
    tuned[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G)
    torch.testing.assert_close(again.image, tuned.image[1:])
    assert again.state.tuned.keys() == tuned.state.tuned.keys()
    edit = Direction("some", torch.randn(G.w_dim, generator=stream(0, "direction")))
    torch.testing.assert_close(again.edit(edit, 1.0), tuned.edit(edit, 1.0)[1:])


def test_batch_equals_singles(pivots, images):
    G = small_generator(1, 16).double()
    state = State(pivots.latent.double(), [m.double() for m in pivots.noise])
    base = Inversion(state, state.draw(G), G, "known")
    knobs = {"steps": 3, "perceptual": load_perceptual().double(), "statistics": measure_statistics(G, 2_000)}
    both = invert_pti(images.double(), G, base=base, **knobs)
    ones = [invert_pti(images[i : i + 1].double(), G, base=base[i], **knobs) for i in range(2)]
    torch.testing.assert_close(both.image, torch.cat([one.image for one in ones]), rtol=0, atol=1e-6)


def test_tuned_weights_are_tuned_on(G, pivots, images, knobs, tuned):
    further = invert_pti(images, G, base=tuned, **knobs)
    torch.testing.assert_close(further.trace["mse"][0], mse(tuned.image, images))
    assert (further.trace["loss"][-1] < tuned.trace["loss"][-1]).all()


def test_a_stopped_image_has_fewer_steps(G, pivots, images, knobs):
    seen = []

    def stop_the_first(step: Step) -> None:
        assert step.image.shape == (1, 3, 16, 16) and torch.equal(step.codes, pivots.latent[[int(len(seen) > 2)]])
        seen.append(step.number)
        if seen == [0, 1, 2]:
            step.stop()

    found = invert_pti(images, G, base=pivots, callback=stop_the_first, **knobs | {"steps": 5})
    assert seen == [0, 1, 2, 0, 1, 2, 3, 4]
    assert found.trace["loss"].isnan().sum(0).tolist() == [2, 0] and not found.interrupted


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"locality_weight": -1.0}, "locality_weight: expected a finite number of at least 0, got -1"),
        ({"l2_weight": float("nan")}, "l2_weight: expected a finite number of at least 0, got nan"),
        ({"alpha": 0.0}, "alpha: expected a finite number above 0, got 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected a finite number above 0"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
    ],
)
def test_bad_keywords_are_refused(G, pivots, images, knobs, changed, message):
    with pytest.raises(ValueError, match=message):
        invert_pti(images, G, base=pivots, **knobs | changed)


def test_a_base_of_other_images_or_another_generator_is_refused(unchecked, G, pivots, images, knobs):
    with pytest.raises(ValueError, match="base: expected an inversion of the 2 images, got one of 1"):
        invert_pti(images, G, base=pivots[:1], **knobs)
    with pytest.raises(ValueError, match="base: expected an inversion by the generator .*, got one by"):
        invert_pti(images, G, base=replace(pivots, generator=small_generator(2, 16)), **knobs)
