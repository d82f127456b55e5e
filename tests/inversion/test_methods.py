"""The defining property of each method, on an untrained generator whose mapping network can be inverted by hand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from latentlab.inversion.ii2s import invert_i2s, invert_ii2s, invert_z_plus
from latentlab.inversion.objective import shrink
from latentlab.inversion.projector import noise_autocorrelation
from latentlab.inversion.pulse import _cycled, invert_pulse
from latentlab.inversion.sg2 import invert_sg2_w, invert_sg2_wplus
from latentlab.priors import geodesic_cross, pn_norm
from latentlab.spaces import measure_statistics, w_to_p
from latentlab.stylegan.generator import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def G() -> Generator:
    """A generator with one mapping layer: P is sqrt(2) (A z + b), from which z can be computed."""
    return Generator(GeneratorConfig(32, 16, 16, 1, (16, 16, 16, 8)), seed=1).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def statistics(G):
    return measure_statistics(G, 2_000)


@pytest.fixture(scope="module")
def targets(G) -> torch.Tensor:
    return G(torch.randn(2, G.z_dim, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


@pytest.fixture(scope="module")
def unregularised(G, targets, statistics):
    return invert_i2s(targets, G, statistics=statistics, steps=20, learning_rate=0.05)


def test_lambda_keeps_codes_near_the_mean(G, targets, statistics, unregularised):
    knobs = {"statistics": statistics, "steps": 20, "learning_rate": 0.05}
    regularised = [invert_ii2s(targets, G, lambda_=weight, **knobs) for weight in (0.05, 1.0)]
    norms = [pn_norm(inversion.latent, statistics) for inversion in (unregularised, *regularised)]
    assert (norms[0] > norms[1]).all() and (norms[1] > norms[2]).all()
    assert torch.equal(invert_ii2s(targets, G, lambda_=0, **knobs).latent, unregularised.latent)


def test_variants_differ_by_the_number_of_coordinates(G, targets, statistics):
    knobs = {"statistics": statistics, "steps": 5}
    code = invert_ii2s(targets, G, lambda_=0.1, **knobs)
    paper = invert_ii2s(targets, G, lambda_=0.1 / (G.num_ws * G.w_dim), variant="paper", **knobs)
    torch.testing.assert_close(paper.latent, code.latent, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(paper.trace["pn_norm"], code.trace["pn_norm"])


@pytest.mark.parametrize("bad", [{"lambda_": -0.1}, {"lambda_": math.nan}, {"variant": "both"}, {"space": "S"}])
def test_bad_keywords_of_ii2s(G, targets, statistics, bad):
    with pytest.raises(ValueError, match="lambda_: expected|variant: expected|space: expected"):
        invert_ii2s(targets, G, statistics=statistics, steps=1, **bad)


def test_codes_of_z_plus_are_codes_of_the_mapping(G, targets, statistics, unregularised):
    """Each layer's code has a z, of root mean square 1 after normalisation; codes of W+ have no such z."""

    def rms(w_plus: torch.Tensor) -> torch.Tensor:
        layer = G.mapping.layers[0]
        y = w_to_p(w_plus) / math.sqrt(2) - layer.bias * layer.bias_gain
        return torch.linalg.solve((layer.weight * layer.weight_gain).T, y, left=False).square().mean(-1).sqrt()

    found = invert_z_plus(targets, G, statistics=statistics, steps=5, learning_rate=0.2)
    torch.testing.assert_close(rms(found.latent), torch.ones(2, G.num_ws), atol=1e-3, rtol=0)
    assert (rms(unregularised.latent) - 1).abs().max() > 0.1
    assert found.latent.std(1).max() > 0.01  # the layers have different codes


def test_pulse_stays_on_its_spheres_and_depends_on_its_seed(G, targets, statistics):
    knobs = {"statistics": statistics, "steps": 20}
    runs = (0, {}), (1, {}), (0, {"steps": 1})
    a, b, drawn = (invert_pulse(targets, G, seed=seed, **knobs | extra) for seed, extra in runs)
    covariance = statistics.eigenvectors @ statistics.eigenvalues.diag() @ statistics.eigenvectors.T
    std = covariance.diagonal().sqrt().float()
    norms = [((w_to_p(i.latent) - statistics.mean.float()) / std).norm(dim=-1) for i in (a, drawn)]
    torch.testing.assert_close(*norms, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(a.latent, drawn.latent) and not torch.allclose(a.latent, b.latent, atol=0.1)
    for moved, first in zip(a.noise[:5], drawn.noise[:5], strict=True):
        torch.testing.assert_close(moved.flatten(1).norm(dim=1), first.flatten(1).norm(dim=1))
    assert all(torch.equal(m, d) for m, d in zip(a.noise[5:], drawn.noise[5:], strict=True)) and not a.noise[-1].any()


def test_pulse_returns_its_best_iterate(G, targets, statistics):
    found = invert_pulse(targets, G, statistics=statistics, steps=20, size=16)
    small, target = (shrink(x, size=16) for x in (found.image, targets))
    mse = (small - target).square().mean((1, 2, 3)) / 4
    at = found.trace["loss"].argmin(0)
    torch.testing.assert_close(mse, found.trace["mse"][at, torch.arange(2)])


def test_learning_rate_of_pulse():
    rate = _cycled(0.4, 1000)
    assert [rate(step) for step in (0, 450, 900, 1000)] == pytest.approx([0.04, 0.4, 0.04, 0.0004])


def test_geodesic_cross_is_the_squared_angle():
    v = torch.eye(8)[None, :2]  # two codes at a right angle: two of the four ordered pairs have an angle
    torch.testing.assert_close(geodesic_cross(v), torch.tensor([(math.pi / 2) ** 2 / 2 * 8 / 8]), atol=1e-3, rtol=0)
    assert geodesic_cross(v[:, :1].repeat(1, 4, 1)).item() == pytest.approx(0, abs=1e-6)


def test_projector_has_different_codes_per_layer_only_in_w_plus(G, targets, statistics):
    w, w_plus = (f(targets, G, statistics=statistics, steps=5) for f in (invert_sg2_w, invert_sg2_wplus))
    assert not w.latent.std(1).any() and w_plus.latent.std(1).max() > 0.01
    for m in w.noise:
        torch.testing.assert_close(m.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(m.square().mean((1, 2, 3)), torch.ones(2))
    wave = torch.ones(1, 1, 16, 16)
    assert noise_autocorrelation(wave) == 4 and noise_autocorrelation(w.noise[-1]).max() < 0.1


def test_shrinking_agrees_with_pillow():
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy())
    for kernel in ("bicubic", "lanczos"):
        expected = np.array(picture.resize((16, 16), Image.Resampling[kernel.upper()]))
        ours = shrink(image, kernel, 16)[0].permute(1, 2, 0).clamp(0, 1) * 255
        assert np.abs(ours.numpy() - expected).max() < 2
    assert shrink(image) is image
