"""The perceptual judge: a distance on the scale of that of the losses, but from another network."""

import pytest
import torch

from latentlab.faces import TABLE, real_set, render, sample_factors
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics import mse
from latentlab.networks.augmentation import augment
from latentlab.seeds import stream

CHANGED = {"eye_size", "nose_size", "brow_thickness", "smile", "gaze_x", "age", "pitch", "face_width"}


@pytest.fixture(scope="module")
def judge():
    return load_perceptual_judge()


def test_is_a_distance(judge):
    x, y = real_set()[:4].images, real_set()[4:8].images
    assert torch.equal(judge(x, x), torch.zeros(4))
    torch.testing.assert_close(judge(x, y), judge(y, x))
    assert (judge(x, y) > 0).all()


def test_random_faces_have_a_distance_of_0_6(judge):
    faces = render(sample_factors(200, seed=77))
    assert judge(faces[:100], faces[100:]).mean() == pytest.approx(0.6, rel=0.1)


def test_order_of_changes_survives_noise(judge):
    """A third of a factor's change has a smaller distance than the whole change, although each image is augmented
    (blur, noise, colour) independently; without that, any distance would order them correctly."""
    base, agreed = sample_factors(20, seed=36), {"judge": [], "pixels": []}
    for factor in (factor for factor in TABLE if factor.name in CHANGED):
        value = base[factor.name]
        reach = 0.6 * (factor.high - factor.low)
        end = (value + torch.where(value + reach <= factor.high, reach, -reach)).clamp(factor.low, factor.high)
        faces = [base.replace(**{factor.name: value + share * (end - value)}) for share in (0, 1 / 3, 1)]
        x, near, far = (augment(render(face), stream(7, factor.name, i)) for i, face in enumerate(faces))
        agreed["judge"].append(judge(x, near) < judge(x, far))
        agreed["pixels"].append(mse(x, near) < mse(x, far))
    shares = {name: torch.cat(found).float().mean() for name, found in agreed.items()}
    assert shares["judge"] > max(0.75, shares["pixels"] + 0.05), shares


def test_identity_outweighs_pose(judge):
    """A slightly turned face is nearer than another person in the same pose."""
    factors = sample_factors(50, seed=78)
    turned = factors.replace(yaw=factors["yaw"] + 8)
    other = sample_factors(50, seed=79).replace(yaw=factors["yaw"], pitch=factors["pitch"], roll=factors["roll"])
    x, near, far = render(factors), render(turned), render(other)
    assert (judge(x, near) < judge(x, far)).float().mean() > 0.9


def test_is_not_the_losses_distance(judge):
    x, y = render(sample_factors(60, seed=80)).split(30)
    assert (judge(x, y) - load_perceptual()(x, y)).abs().mean() > 0.01
