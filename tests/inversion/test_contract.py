"""The contract of optimisers, checked for each one in METHODS."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from small import small_generator

from latentlab import inversion_methods
from latentlab.editing.edit import Direction
from latentlab.inversion.conditions import mask
from latentlab.inversion.descent import Step
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import psnr
from latentlab.spaces import Statistics, measure_statistics
from latentlab.stylegan.generator import Generator
from latentlab.weights.generators import load

OPTIMISERS = [name for name, method in METHODS.items() if method.kind == "optimiser"]
pytestmark = pytest.mark.parametrize("method", OPTIMISERS)
STARTS_FROM_CODES = set(OPTIMISERS) - {"z_plus"}


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator(1, 32)


@pytest.fixture(scope="module")
def targets(G) -> torch.Tensor:
    """Images of known codes."""
    return G(torch.randn(2, G.z_dim, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


@pytest.fixture(scope="module")
def statistics(G) -> Statistics:
    return measure_statistics(G, 2_000)


@pytest.fixture(scope="module")
def invert(statistics) -> Callable[..., Inversion]:
    """``latentlab.invert`` with these statistics, so that they are not measured again in every test."""
    return partial(inversion_methods.invert, statistics=statistics)


def _interrupt_at_1(step: Step) -> None:
    if step.number == 1:
        os.kill(os.getpid(), signal.SIGINT)


def test_result_is_complete(G, targets, invert, method):
    seen = []
    inversion = invert(targets, G, method, steps=3, callback=seen.append)
    assert inversion.latent.shape == (2, G.num_ws, G.w_dim) and inversion.image.shape == targets.shape
    assert not inversion.latent.requires_grad and not inversion.image.requires_grad
    assert {v.shape for v in inversion.trace.values()} == {(3, 2)}
    assert [(step.number, step.total) for step in seen] == [(0, 3), (1, 3), (2, 3)] and "loss" in seen[0].terms
    assert inversion.method == method and inversion.seconds > 0
    torch.testing.assert_close(inversion.synthesize(inversion.latent), inversion.image)


def test_batch_equals_singles(targets, invert, method):
    """Losses are summed over images: in float64 ten steps agree to 1e-6."""
    knobs = {"steps": 10, "perceptual": load_perceptual().double()}
    G, x = small_generator(1, 32).double(), targets.double()
    batch = invert(x, G, method, **knobs)
    singles = [invert(x[i : i + 1], G, method, **knobs) for i in range(2)]
    torch.testing.assert_close(batch.latent, torch.cat([s.latent for s in singles]), rtol=0, atol=1e-6)
    torch.testing.assert_close(batch.image, torch.cat([s.image for s in singles]), rtol=0, atol=1e-5)


def test_a_seed_gives_the_same_result(G, targets, invert, method):
    a, b = (invert(targets, G, method, steps=3, seed=7) for _ in range(2))
    assert torch.equal(a.latent, b.latent) and torch.equal(a.image, b.image)


def test_recovers_an_image_of_the_generator(method):
    """The PSNR for an image of the shipped generator exceeds that of the mean face by a margin that fits the space."""
    G = load("faces-64")
    target = G(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(0)), psi=0.7).clamp(-1, 1)
    inversion = inversion_methods.invert(target, G, method, steps=30)
    mean_face = G.synthesis(G.broadcast(G.w_avg[None]))
    assert psnr(inversion.image, target) > psnr(mean_face, target) + (2 if method == "z_plus" else 7)
    loss = inversion.trace["loss"]
    assert (loss[-5:].mean(0) < loss[:5].mean(0) / 2).all()


def test_generator_is_unchanged(G, targets, invert, method):
    before = {k: v.clone() for k, v in G.state_dict().items()}
    invert(targets, G, method, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())


def test_edits(G, targets, invert, method):
    inversion = invert(targets, G, method, steps=3)
    direction = Direction("some", torch.randn(G.w_dim, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(inversion.edit(direction, 0), inversion.image)
    moved = inversion.edit(direction, 1)
    assert not torch.allclose(moved, inversion.image)
    each = inversion.edit(direction, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(each, torch.stack([moved[0], inversion.image[1]]))
    with pytest.raises(ValueError, match="expected a vector of shape"):
        inversion.edit(replace(direction, vector=direction.vector[:-1]))


def test_saves_and_loads(G, targets, invert, method, tmp_path):
    inversion = invert(targets, G, method, steps=2)
    inversion[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G)
    assert torch.equal(again.latent, inversion.latent[1:]) and again.method == method
    torch.testing.assert_close(again.image, inversion.image[1:])


def test_records_the_path(G, targets, invert, method, tmp_path):
    inversion = invert(targets, G, method, steps=5, record=2)
    assert inversion.path_steps == [0, 2, 4, 5] and inversion.path.shape == (4, 2, G.num_ws, G.w_dim)
    assert torch.equal(inversion.path[-1], inversion.latent)
    if method != "pulse":  # which returns its best iterate, not the last
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
        (lambda x: x[0], "images: expected shape"),
        (lambda x: x[:, :, :16, :16], "images: expected shape"),
        (lambda x: x[:0], "N >= 1"),
        (lambda x: x * torch.nan, "NaN"),
        (lambda x: (x + 1) * 127.5, r"\[-1, 1\]"),
        (lambda x: x.long(), "floats"),
    ],
)
def test_bad_images_are_refused(unchecked, G, targets, statistics, method, spoil, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method](spoil(targets), G, statistics=statistics, steps=1)


def test_interruption_keeps_the_result_so_far(G, targets, invert, method):
    with pytest.warns(UserWarning, match="interrupted after 2 of 50 steps"):
        inversion = invert(targets, G, method, steps=50, callback=_interrupt_at_1)
    assert inversion.interrupted and inversion.knobs["steps"] == 2 and len(inversion.trace["loss"]) == 2


def test_bad_keywords_are_refused(G, targets, invert, method):
    for knob in ("steps", "patience", "record"):
        with pytest.raises(ValueError, match=f"{knob}: expected .*at least 1"):
            invert(targets, G, method, **{knob: 0})
    for rate in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="learning_rate: expected a finite number above 0"):
            invert(targets, G, method, steps=1, learning_rate=rate)
    with pytest.raises(ValueError, match=f"{method}: expected keywords among .*learning_rate.*steps.*; got stepz"):
        invert(targets, G, method, stepz=3)
    with pytest.raises(ValueError, match="statistics: expected those of the mapping network"):
        invert(targets, small_generator(2, 32), method)


def test_pixels_hidden_by_a_condition_have_no_effect(G, targets, invert, method):
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
        (lambda x: x.detach() if x.requires_grad else x, "without a gradient"),
        (lambda x: x / 0, "NaN"),
        (lambda x: x.mean(1, keepdim=True), r"expected it to return images .*got \(2, 1, 32, 32\)"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_bad_conditions_are_refused(G, targets, invert, method, condition, message):
    with pytest.raises(ValueError, match=message):
        invert(targets, G, method, steps=1, condition=condition)


def test_starts_from_codes(G, targets, invert, method):
    if method not in STARTS_FROM_CODES:
        with pytest.raises(
            ValueError, match="initial: expected None in Z., got codes of W., which do not determine a z"
        ):
            invert(targets, G, method, initial=G.broadcast(G.mapping(torch.randn(2, 16))))
        return
    first = invert(targets, G, method, steps=2)
    again = invert(targets, G, method, steps=1, initial=first, learning_rate=1e-7)
    torch.testing.assert_close(again.latent, first.latent, atol=1e-5, rtol=1e-4)
    assert torch.equal(
        again.latent, invert(targets, G, method, steps=1, initial=first.latent, learning_rate=1e-7).latent
    )
    other = Inversion(first.state, first.image, small_generator(2, 32), method)
    bad = (other, "of the mapping network"), (first[:1], "codes of shape"), (first.latent * torch.nan, "finite values")
    for initial, message in bad:
        with pytest.raises(ValueError, match=f"initial: expected (codes )?{message}"):
            invert(targets, G, method, steps=1, initial=initial)


def test_a_callback_gets_codes_and_images(G, targets, invert, method):
    """The terms of a step belong to its codes and image."""
    seen = {}

    def look(step: Step) -> None:
        seen[step.number] = step.codes, step.image, step.terms["loss"]
        if step.number == 2:
            step.stop()

    inversion = invert(targets, G, method, steps=9, record=1, callback=look)
    assert list(seen) == [0, 1, 2] and inversion.knobs["steps"] == 3 and not inversion.interrupted
    for number, (codes, image, loss) in seen.items():
        torch.testing.assert_close(codes, inversion.path[number])
        assert torch.equal(loss, inversion.trace["loss"][number]) and image.shape == targets.shape
    if inversion.noise is None:
        torch.testing.assert_close(seen[1][1], G.synthesis(seen[1][0]))


def test_continuing_gives_the_result_of_an_uninterrupted_run(G, targets, invert, method, tmp_path):
    """Also from a saved and loaded inversion."""
    knobs = {"steps": 6, "record": 2, "seed": 3}
    whole = invert(targets, G, method, **knobs)
    pause = invert(targets, G, method, callback=lambda step: step.stop() if step.number == 2 else None, **knobs)
    pause.save(tmp_path / "pause.safetensors")
    for before in (pause, Inversion.load(tmp_path / "pause.safetensors", G)):
        after = invert(targets, G, method, resume=before, **knobs)
        assert torch.equal(after.latent, whole.latent) and torch.equal(after.image, whole.image)
        assert torch.equal(after.path, whole.path) and after.path_steps == whole.path_steps
        assert all(torch.equal(v, whole.trace[k]) for k, v in after.trace.items())
        assert after.seconds > before.seconds and after.knobs == whole.knobs
    one = invert(targets[1:], G, method, resume=pause[1], **knobs)
    torch.testing.assert_close(one.latent, whole.latent[1:], rtol=1e-3, atol=1e-4)


def test_resume_refuses_a_different_run(unchecked, G, targets, statistics, invert, method):
    pause = invert(targets, G, method, steps=2, seed=3)
    for changed, message in (
        ({"images": targets.flip(0)}, "other images"),
        ({"images": targets[:1]}, "other images"),
        ({"learning_rate": 0.5}, r"learning_rate = 0.5 \(the inversion has"),
        ({"condition": mask(torch.ones(32, 32))}, "condition = 'masked'"),
        ({"statistics": replace(statistics, floor=0.1)}, "floor = 0.1"),
        ({"initial": pause.latent}, "no initial codes|do not determine a z"),
        ({"steps": 2}, "expected more than the 2 steps already done, got 2"),
        ({"resume": replace(pause, method="other")}, f"method = '{method}'"),
        ({"resume": pause.descent}, "got DescentState"),
        ({"resume": replace(pause, descent=None)}, "got one without the state of a descent"),
        ({"resume": replace(pause, generator=small_generator(3, 32))}, "another generator"),
    ):
        knobs = {"images": targets, "steps": 4, "seed": 3, "resume": pause} | changed
        with pytest.raises(ValueError, match=message):
            invert(knobs.pop("images"), G, method, **knobs)
