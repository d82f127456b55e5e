"""What every method of the registry must do; a new one is tested here before it has tests of its own."""

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest
import torch

from latentlab import inversion_methods
from latentlab.inversion.conditions import mask
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import psnr
from latentlab.spaces import Statistics, measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights.generators import load

pytestmark = pytest.mark.parametrize("method", list(METHODS))
STARTS_FROM_CODES = set(METHODS) - {"z_plus"}


def small_generator(seed: int) -> Generator:
    """Untrained and of 32 px, so that a step takes a few milliseconds; its noise shows in the picture."""
    G = Generator(GeneratorConfig(32, 16, 16, 2, (16, 16, 16, 8)), seed=seed).requires_grad_(False).eval()
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return G


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator(1)


@pytest.fixture(scope="module")
def targets(G) -> torch.Tensor:
    """Pictures of known codes."""
    return G(torch.randn(2, G.z_dim, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


@pytest.fixture(scope="module")
def statistics(G) -> Statistics:
    return measure_statistics(G, 2_000)


@pytest.fixture(scope="module")
def invert(statistics) -> Callable[..., Inversion]:
    """``latentlab.invert`` with these statistics, which are not measured anew for every test."""
    return partial(inversion_methods.invert, statistics=statistics)


def _interrupt_at_1(step: int, terms: dict[str, torch.Tensor]) -> None:
    if step == 1:
        os.kill(os.getpid(), signal.SIGINT)


def test_result_is_whole(G, targets, invert, method):
    seen = []
    inversion = invert(targets, G, method, steps=3, callback=lambda step, terms: seen.append((step, set(terms))))
    assert inversion.latent.shape == (2, G.num_ws, G.w_dim) and inversion.image.shape == targets.shape
    assert not inversion.latent.requires_grad and not inversion.image.requires_grad
    assert {v.shape for v in inversion.trace.values()} == {(3, 2)}
    assert [step for step, _ in seen] == [0, 1, 2] and "loss" in seen[0][1]
    assert inversion.method == method and inversion.seconds > 0
    torch.testing.assert_close(inversion.synthesize(inversion.latent), inversion.image)


def test_batch_equals_singles(targets, invert, method):
    """Losses are summed over images: in float64 ten steps agree to 1e-6."""
    knobs = {"steps": 10, "perceptual": load_perceptual().double()}
    G, x = small_generator(1).double(), targets.double()
    batch = invert(x, G, method, **knobs)
    singles = [invert(x[i : i + 1], G, method, **knobs) for i in range(2)]
    torch.testing.assert_close(batch.latent, torch.cat([s.latent for s in singles]), rtol=0, atol=1e-6)
    torch.testing.assert_close(batch.image, torch.cat([s.image for s in singles]), rtol=0, atol=1e-5)


def test_a_seed_gives_the_same_result(G, targets, invert, method):
    a, b = (invert(targets, G, method, steps=3, seed=7) for _ in range(2))
    assert torch.equal(a.latent, b.latent) and torch.equal(a.image, b.image)


def test_recovers_a_picture_of_the_generator(method):
    """The shipped generator paints it: nearer than the mean face by so many dB, as far as the space allows."""
    G = load("faces-64")
    target = G(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(0)), psi=0.7).clamp(-1, 1)
    inversion = inversion_methods.invert(target, G, method, steps=30)
    mean_face = G.synthesis(G.broadcast(G.w_avg[None]))
    assert psnr(inversion.image, target) > psnr(mean_face, target) + (2 if method == "z_plus" else 7)
    loss = inversion.trace["loss"]
    assert (loss[-5:].mean(0) < loss[:5].mean(0) / 2).all()


def test_generator_is_untouched(G, targets, invert, method):
    before = {k: v.clone() for k, v in G.state_dict().items()}
    invert(targets, G, method, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())


def test_edits(G, targets, invert, method):
    inversion = invert(targets, G, method, steps=3)
    direction = torch.randn(G.w_dim, generator=torch.Generator().manual_seed(1))
    assert torch.equal(inversion.edit(direction, 0), inversion.edit(direction.expand(G.num_ws, -1), 0))
    torch.testing.assert_close(inversion.edit(direction, 0), inversion.image)
    assert not torch.allclose(inversion.edit(direction, 1), inversion.image)
    with pytest.raises(ValueError, match="does not fit"):
        inversion.edit(direction[:-1])


def test_saves_and_loads(G, targets, invert, method, tmp_path):
    inversion = invert(targets, G, method, steps=2)
    inversion[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G)
    assert torch.equal(again.latent, inversion.latent[1:]) and again.method == method
    torch.testing.assert_close(again.image, inversion.image[1:])


def test_records_the_way(G, targets, invert, method, tmp_path):
    inversion = invert(targets, G, method, steps=5, record=2)
    assert inversion.path_steps == [0, 2, 4, 5] and inversion.path.shape == (4, 2, G.num_ws, G.w_dim)
    assert torch.equal(inversion.path[-1], inversion.latent)
    if method != "pulse":  # which gives the best step, not the last
        with pytest.warns(UserWarning, match="interrupted after 2"):
            shorter = invert(targets, G, method, steps=5, callback=_interrupt_at_1, record=9)
        torch.testing.assert_close(inversion.path[1], shorter.latent)
        assert torch.equal(inversion.path[0], shorter.path[0])
    inversion[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G)
    assert torch.equal(again.path, inversion.path[:, 1:]) and again.path_steps == inversion.path_steps
    assert invert(targets, G, method, steps=2).path is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[0], "wanted is"),
        (lambda x: x[:, :, :16, :16], "wanted is"),
        (lambda x: x[:0], "N >= 1"),
        (lambda x: x * torch.nan, "NaN"),
        (lambda x: (x + 1) * 127.5, r"\[-1, 1\]"),
        (lambda x: x.long(), "floats"),
    ],
)
def test_bad_images_are_refused(unchecked, G, targets, statistics, method, spoil, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method].invert(spoil(targets), G, statistics=statistics, steps=1)


def test_interruption_keeps_what_there_is(G, targets, invert, method):
    with pytest.warns(UserWarning, match="interrupted after 2 of 50 steps"):
        inversion = invert(targets, G, method, steps=50, callback=_interrupt_at_1)
    assert inversion.interrupted and inversion.knobs["steps"] == 2 and len(inversion.trace["loss"]) == 2


def test_bad_knobs_are_refused(G, targets, invert, method):
    for knob in ("steps", "patience", "record"):
        with pytest.raises(ValueError, match="at least 1"):
            invert(targets, G, method, **{knob: 0})
    with pytest.raises(ValueError, match="statistics belong"):
        invert(targets, small_generator(2), method)


def test_what_a_condition_hides_does_not_count(G, targets, invert, method):
    known = torch.ones(32, 32)
    known[:, 16:] = 0
    other = targets * known + targets.flip(0) * (1 - known)
    a, b = (invert(x, G, method, steps=3, condition=mask(known)) for x in (targets, other))
    assert torch.equal(a.latent, b.latent) and a.knobs["condition"] == "masked"
    assert not torch.equal(a.latent, invert(targets, G, method, steps=3).latent)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (lambda x: x[:, :, :, 16:] if x.requires_grad else x, r"\(2, 3, 32, 16\)"),
        (lambda x: x.detach() if x.requires_grad else x, "gradients"),
        (lambda x: x / 0, "NaN"),
        (lambda x: x.mean(1, keepdim=True), r"\(2, 1, 32, 32\) of the images; wanted are"),
        (lambda x: None, "NoneType of the images"),
    ],
)
def test_bad_conditions_are_refused(G, targets, invert, method, condition, message):
    with pytest.raises(ValueError, match=message):
        invert(targets, G, method, steps=1, condition=condition)


def test_starts_from_codes(G, targets, invert, method):
    if method not in STARTS_FROM_CODES:
        with pytest.raises(ValueError, match="cannot start"):
            invert(targets, G, method, initial=G.broadcast(G.mapping(torch.randn(2, 16))))
        return
    first = invert(targets, G, method, steps=2)
    again = invert(targets, G, method, steps=1, initial=first, learning_rate=1e-7)
    torch.testing.assert_close(again.latent, first.latent, atol=1e-5, rtol=1e-4)
    assert torch.equal(
        again.latent, invert(targets, G, method, steps=1, initial=first.latent, learning_rate=1e-7).latent
    )
    stranger = Inversion(first.latent, first.image, small_generator(2), method)
    for initial, message in ((stranger, "of generator"), (first[:1], "of shape"), (first.latent * torch.nan, "finite")):
        with pytest.raises(ValueError, match=message):
            invert(targets, G, method, steps=1, initial=initial)
