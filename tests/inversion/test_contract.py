"""What every method of the registry must do; a new one is tested here before it has tests of its own."""

import os
import signal

import pytest
import torch

import latentlab as ll
from latentlab.formats.models import load
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import psnr
from latentlab.registry import METHODS, invert

pytestmark = pytest.mark.parametrize("method", list(METHODS))


@pytest.fixture(scope="module")
def G():
    return load("faces-64")


@pytest.fixture(scope="module")
def targets(G) -> torch.Tensor:
    """Pictures of known codes: what any inversion must be able to approach."""
    z = torch.randn(2, G.z_dim, generator=torch.Generator().manual_seed(0))
    return G(z, psi=0.7).clamp(-1, 1)


def test_result_is_whole(G, targets, method):
    seen = []
    inversion = invert(targets, G, method, steps=3, callback=lambda step, terms: seen.append((step, set(terms))))
    assert inversion.latent.shape == (2, G.num_ws, G.w_dim) and inversion.image.shape == targets.shape
    assert not inversion.latent.requires_grad and not inversion.image.requires_grad
    assert {v.shape for v in inversion.trace.values()} == {(3, 2)}
    assert [step for step, _ in seen] == [0, 1, 2] and "loss" in seen[0][1]
    assert inversion.method == method and inversion.seconds > 0
    torch.testing.assert_close(inversion.synthesize(inversion.latent), inversion.image)


def test_batch_equals_singles(G, targets, method):
    """Losses are summed over images: in float64 ten steps agree to 1e-6."""
    G64, perceptual = load("faces-64").double(), load_perceptual().double()
    statistics = ll.statistics_for(G)
    knobs = {"steps": 10, "statistics": statistics, "perceptual": perceptual}
    x = targets.double()
    batch = invert(x, G64, method, **knobs).latent
    singles = torch.cat([invert(x[i : i + 1], G64, method, **knobs).latent for i in range(2)])
    torch.testing.assert_close(batch, singles, rtol=0, atol=1e-6)


def test_a_seed_gives_the_same_result(G, targets, method):
    a, b = (invert(targets, G, method, steps=3, seed=7) for _ in range(2))
    assert torch.equal(a.latent, b.latent) and torch.equal(a.image, b.image)


def test_recovers_a_picture_of_the_generator(G, targets, method):
    inversion = invert(targets, G, method, steps=150)
    mean_face = G.synthesis(G.broadcast(G.w_avg[None])).expand_as(targets)
    assert (psnr(inversion.image, targets) > psnr(mean_face, targets) + 5).all()
    loss = inversion.trace["loss"]
    assert (loss[-5:].mean(0) < loss[:5].mean(0) / 2).all()


def test_generator_is_untouched(G, targets, method):
    before = {k: v.clone() for k, v in G.state_dict().items()}
    invert(targets, G, method, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())


def test_edits(G, targets, method):
    inversion = invert(targets, G, method, steps=3)
    direction = torch.randn(G.w_dim, generator=torch.Generator().manual_seed(1))
    assert torch.equal(inversion.edit(direction, 0), inversion.edit(direction.expand(G.num_ws, -1), 0))
    torch.testing.assert_close(inversion.edit(direction, 0), inversion.image)
    assert not torch.allclose(inversion.edit(direction, 1), inversion.image)
    with pytest.raises(ValueError, match="does not fit"):
        inversion.edit(direction[:-1])


def test_saves_and_loads(G, targets, method, tmp_path):
    inversion = invert(targets, G, method, steps=2)
    inversion[1].save(tmp_path / "one.safetensors")
    again = Inversion.load(tmp_path / "one.safetensors", G)
    assert torch.equal(again.latent, inversion.latent[1:]) and again.method == method
    torch.testing.assert_close(again.synthesize(again.latent), inversion.image[1:])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[0], "wanted is"),
        (lambda x: x[:, :, :32, :32], "wanted is"),
        (lambda x: x[:0], "N >= 1"),
        (lambda x: x * torch.nan, "NaN"),
        (lambda x: (x + 1) * 127.5, r"\[-1, 1\]"),
        (lambda x: x.long(), "floats"),
    ],
)
def test_bad_images_are_refused(unchecked, G, targets, method, spoil, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method].invert(spoil(targets), G, steps=1)


def test_interruption_keeps_what_there_is(G, targets, method):
    def interrupt(step, terms):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted after 2 of 50 steps"):
        inversion = invert(targets, G, method, steps=50, callback=interrupt)
    assert inversion.interrupted and inversion.knobs["steps"] == 2 and len(inversion.trace["loss"]) == 2


def test_bad_knobs_are_refused(G, targets, method):
    with pytest.raises(ValueError, match="at least 1"):
        invert(targets, G, method, steps=0)
