"""The identity embeddings: they distinguish people unseen in training, in any state."""

import pytest
import torch

from latentlab.faces import in_other_states, real_set, render, sample_factors
from latentlab.judges.identity import load_identity_judge
from latentlab.losses.identity import load_identity
from latentlab.metrics import verification
from latentlab.weights import read_manifest

PEOPLE = sample_factors(80, seed=9_001)  # a seed that is not used in training
OPPOSITE = {"glasses": (0, 1), "age": (0, 1), "light_azimuth": (-60, 60)}


class Pixels:
    def features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize((images - images.mean(0)).flatten(1), dim=1)


@pytest.fixture(scope="module", params=[load_identity, load_identity_judge], ids=["losses", "judge"])
def distance(request):
    return request.param()


@pytest.fixture(scope="module", params=[{}, OPPOSITE], ids=["any state", "opposite states"])
def views(request) -> list[torch.Tensor]:
    """The same people twice, in unrelated states and scenes, with some factors set to opposite ends."""
    faces = [in_other_states(PEOPLE, seed) for seed in (9_002, 9_003)]
    return [render(face.replace(**{k: v[i] for k, v in request.param.items()})) for i, face in enumerate(faces)]


@torch.no_grad()
def pairs(distance, views: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances between images of the same people, and of different people."""
    a, b = map(distance.features, views)
    table, same = 1 - a @ b.T, torch.eye(len(PEOPLE), dtype=torch.bool)
    return table[same], table[~same]


def test_people_are_distinguished(distance, views):
    same, others = pairs(distance, views)
    auc, equal_error_rate = verification(same, others)
    assert auc > 0.99 and equal_error_rate < 0.04
    assert verification(*pairs(Pixels(), views))[1] > 0.25  # the error rate of plain pixels
    assert others.mean() == pytest.approx(1, abs=0.1)  # embeddings of different people are orthogonal on average


def test_is_a_distance_between_unit_vectors(distance):
    x, y = real_set()[:6].images, real_set()[6:12].images
    torch.testing.assert_close(distance(x, x), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(distance(x, y), distance(y, x))
    torch.testing.assert_close(distance.features(x).norm(dim=1), torch.ones(6))


def test_does_not_depend_on_the_resolution(distance):
    small, large = (distance.features(render(PEOPLE[:12], size)) for size in (64, 128))
    assert distance.between(small, large).max() < 0.1


def test_is_differentiable(distance):
    x = real_set()[:1].images.requires_grad_(True)
    distance(x, real_set()[1:2].images).sum().backward()
    assert x.grad.abs().sum() > 0


def test_other_states_keep_the_identity():
    again = in_other_states(PEOPLE, seed=1)
    assert torch.equal(again["skin_tone"], PEOPLE["skin_tone"]) and torch.equal(again["hair_grey"], PEOPLE["hair_grey"])
    assert not torch.equal(again["smile"], PEOPLE["smile"])
    assert torch.equal(in_other_states(PEOPLE[5:9], seed=1, start=5).values, again.values[5:9])


def test_losses_and_judges_have_different_seeds_and_architectures():
    losses, judge = (read_manifest()[f"{family}.identity.safetensors"] for family in ("losses", "judges"))
    assert losses["seed"] != judge["seed"] and losses["start_from"]["seed"] != judge["start_from"]["seed"]
    shapes = [{tuple(p.shape) for p in load().parameters()} for load in (load_identity, load_identity_judge)]
    assert shapes[0] != shapes[1]
