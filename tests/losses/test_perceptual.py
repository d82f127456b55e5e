"""The perceptual distance: symmetric, calibrated, and sensitive to identity; the attribute network; augmentation."""

import pytest
import torch

from latentlab.faces import real_set, render, sample_factors, training_factors
from latentlab.losses.attributes import load_attributes
from latentlab.losses.perceptual import load_perceptual
from latentlab.networks.attributes import read_factors
from latentlab.networks.augmentation import augment
from latentlab.seeds import stream


@pytest.fixture(scope="module")
def distance():
    return load_perceptual()


def test_is_a_distance(distance):
    x, y = real_set()[:4].images, real_set()[4:8].images
    assert torch.equal(distance(x, x), torch.zeros(4))
    torch.testing.assert_close(distance(x, y), distance(y, x))
    assert (distance(x, y) > 0).all()


def test_random_faces_have_a_distance_of_0_6(distance):
    faces = render(training_factors(400, seed=77))
    assert distance(faces[:200], faces[200:]).mean() == pytest.approx(0.6, rel=0.1)


def test_precomputed_features_give_the_same_distance(distance):
    x, y = real_set()[:2].images, real_set()[2:4].images
    torch.testing.assert_close(distance.between(distance.features(x), distance.features(y)), distance(x, y))


def test_identity_outweighs_pose(distance):
    """A slightly turned face is nearer than another person in the same pose."""
    factors = sample_factors(100, seed=78)
    turned = factors.replace(yaw=factors["yaw"] + 8)
    other = sample_factors(100, seed=79).replace(yaw=factors["yaw"], pitch=factors["pitch"], roll=factors["roll"])
    x, near, far = render(factors), render(turned), render(other)
    assert (distance(x, near) < distance(x, far)).float().mean() > 0.95


def test_is_differentiable(distance):
    x = real_set()[:1].images.requires_grad_(True)
    distance(x, real_set()[1:2].images).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["yaw", "smile", "age", "glasses", "beard"])
def test_attributes_are_predicted(name):
    factors = training_factors(300, seed=80)
    seen = read_factors(load_attributes(), render(factors))[:, factors.to_frame().columns.get_loc(name)]
    truth = factors[name]
    assert 1 - (seen - truth).square().mean() / truth.var() > 0.8


def test_augmentation_is_seeded_and_small():
    x = real_set()[:8].images
    a, b = (augment(x, stream(0, "test")) for _ in range(2))
    assert torch.equal(a, b) and 0.01 < (a - x).abs().mean() < 0.2
