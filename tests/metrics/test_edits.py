"""Metrics of edits on rendered faces, where the true edit is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from latentlab.faces import NAMES, FaceSet, real_set
from latentlab.judges.attributes import load_attribute_judge
from latentlab.metrics import attribute_leakage, edit_distance, edit_gain, matched_strength, yardsticks
from latentlab.networks.attributes import read_factors


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Twelve faces without glasses that have room to smile, a hat or a patterned shirt among them."""
    real = real_set()
    free = (real.factors["glasses"] == 0) & (real.factors["smile"].abs() < 0.3)
    return real[torch.nonzero(free)[:12, 0]]


def soft(images: torch.Tensor) -> torch.Tensor:
    """Images as of a method that loses fine detail: half blurred and paler."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return 0.9 * (images + blurred) / 2


def edited(faces: FaceSet, name: str) -> FaceSet:
    return faces.with_factors(glasses=1.0) if name == "glasses" else faces.truth(**{name: 0.5})


@pytest.mark.parametrize("name", ["smile", "glasses", "age"])
def test_an_imperfect_edit_beats_a_perfect_picture_without_one(faces: FaceSet, name: str):
    truth, edited_truth = faces.images, edited(faces, name).images
    row = yardsticks(soft(truth), soft(edited_truth), soft(edited_truth), truth, edited_truth)
    assert row["no edit"]["gain"].tolist() == row["no edit"]["residual"].tolist() == [0.0] * 12
    assert row["oracle"]["gain"].min() > 0.5 and row["oracle"]["gain"].max() < 1
    # On average, not on every face: where the edit brightens an image that is too pale, it increases the error.
    assert row["oracle"]["distance"].mean() < row["no edit"]["distance"].mean()
    perfect = yardsticks(truth, truth, edited_truth, truth, edited_truth)
    assert perfect["edit"]["gain"].abs().max() == 0
    torch.testing.assert_close(perfect["edit"]["distance"], torch.ones(12))
    torch.testing.assert_close(perfect["oracle"]["gain"], torch.ones(12))
    assert perfect["oracle"]["residual"].max() < 1e-5 and perfect["oracle"]["distance"].max() == 0


def test_masks_tell_the_edit_from_the_rest(faces: FaceSet):
    truth, changed = faces.images, edited(faces, "glasses")
    mask = (changed.masks()["glasses"] > 0).float()
    inverse = 1 - mask
    spoilt = changed.images.clone()
    spoilt[:, :, -8:] += 0.3  # the shirt, which glasses do not touch
    clean = edit_gain(truth, changed.images, truth, changed.images, mask)
    torch.testing.assert_close(edit_gain(truth, spoilt, truth, changed.images, mask), clean)
    torch.testing.assert_close(clean[0], torch.ones(12))
    outside = edit_gain(truth, spoilt, truth, changed.images, inverse)[1]
    added = 0.3 * math.sqrt(3 * 8 * 64) / (changed.images - truth).flatten(1).norm(dim=1)
    torch.testing.assert_close(outside, added)
    whole = edit_gain(truth, spoilt, truth, changed.images, torch.ones_like(mask))
    torch.testing.assert_close(whole, edit_gain(truth, spoilt, truth, changed.images))


def test_gain_where_nothing_should_change_is_unknown(faces: FaceSet):
    truth, changed = faces.images, edited(faces, "glasses").images
    corner = torch.zeros(12, 1, 64, 64)
    corner[:, :, -4:] = 1
    gain, residual = edit_gain(truth, truth + 0.1, truth, changed, corner)
    assert gain.isnan().all()
    torch.testing.assert_close(residual, 0.1 * math.sqrt(3 * 4 * 64) / (changed - truth).flatten(1).norm(dim=1))


def test_gain_of_half_the_edit_and_something_else(faces: FaceSet):
    truth, edited_truth = faces.images, edited(faces, "smile").images
    d = edited_truth - truth
    other = torch.randn(d.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    other = other - (other * d).sum((1, 2, 3), keepdim=True) / d.square().sum((1, 2, 3), keepdim=True) * d
    inversion = soft(truth)
    gain, residual = edit_gain(inversion, inversion + 0.5 * d + other, truth, edited_truth)
    torch.testing.assert_close(gain, torch.full((12,), 0.5), rtol=1e-3, atol=0)
    torch.testing.assert_close(residual, other.flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1), rtol=1e-3, atol=0)


def test_leakage_of_true_edits_is_small_and_of_a_mixed_edit_is_found(faces: FaceSet):
    judge = load_attribute_judge()
    before = read_factors(judge, faces.images)
    smile, yaw = NAMES.index("smile"), NAMES.index("yaw")
    alone = faces.truth(smile=0.6)
    both = alone.truth(yaw=torch.tensor([20.0, -20.0]).repeat(6))  # leaks both ways do not cancel
    after = torch.stack([read_factors(judge, s.images) for s in (alone, both)])
    leakage = attribute_leakage(before, after, judge.std, [smile, smile])
    assert leakage[:, smile].tolist() == [1, 1]
    assert leakage[0, yaw] < 0.1 and leakage[1, yaw] > 0.5
    still = attribute_leakage(before, before[None], judge.std, [smile])
    assert still.isnan().all()


def test_matched_strength_reads_what_was_asked_for_or_nan(faces: FaceSet):
    judge = load_attribute_judge()
    smile = NAMES.index("smile")

    def edit(strengths: torch.Tensor) -> torch.Tensor:
        return faces.truth(smile=strengths).images

    def read(images: torch.Tensor) -> torch.Tensor:
        return read_factors(judge, images)[:, smile]

    faces = faces.clean[:4]
    for wanted in (0.5, -0.5):
        target = read(edit(torch.full((4,), wanted)))
        target[3] = 10 * wanted  # beyond what any smile reads
        strengths = matched_strength(edit, read, target, limit=2 * wanted)
        assert strengths.isfinite().tolist() == [True, True, True, False]
        torch.testing.assert_close(read(edit(strengths.nan_to_num()))[:3], target[:3], atol=2e-3, rtol=0)
        assert (strengths[:3] * wanted > 0).all() and (strengths[:3].abs() <= 0.501).all()


def test_matched_strength_takes_the_first_crossing():
    def edit(s: torch.Tensor) -> torch.Tensor:
        return s.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    def read(images: torch.Tensor) -> torch.Tensor:  # rises to 1 at strength 4, then falls
        return 1 - (images.mean((1, 2, 3)) / 4 - 1).square()

    found = matched_strength(edit, read, torch.tensor([0.75, 0.0, 1.5]), limit=8.0, steps=16)
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0, torch.nan]), equal_nan=True, atol=1e-3, rtol=0)


def test_bad_input(unchecked, faces: FaceSet):
    x, y = faces.images, edited(faces, "age").images
    with pytest.raises(ValueError, match="edited truth: expected images that differ"):
        edit_gain(x, y, x, x)
    with pytest.raises(ValueError, match="edited truth: expected images that differ"):
        edit_distance(y, x, x)
    with pytest.raises(ValueError, match="images: expected equal shapes"):
        edit_gain(x, y[:3], x, y)
    with pytest.raises(ValueError, match=r"mask: expected shape \(12, 1, 64, 64\) and values .* got .* from 2 to 2"):
        edit_gain(x, y, x, y, torch.full((12, 1, 64, 64), 2.0))
    with pytest.raises(ValueError, match=r"got shape \(12, 3, 64, 64\)"):
        edit_gain(x, y, x, y, torch.ones_like(x))
    with pytest.raises(ValueError, match="readings: expected finite values"):
        attribute_leakage(torch.ones(2, 3), torch.full((1, 2, 3), torch.nan), torch.ones(3), [0])
    with pytest.raises(ValueError, match=r"a target for each of 1 edits .* got 2"):
        attribute_leakage(torch.ones(2, 3), torch.ones(1, 2, 3), torch.ones(3), [0, 1])
    with pytest.raises(ValueError, match="limit: expected a finite strength other than 0, got 0"):
        matched_strength(lambda s: x, lambda i: i[:, 0, 0, 0], torch.zeros(12), limit=0.0)
    with pytest.raises(ValueError, match="readings: expected finite values"):
        matched_strength(lambda s: x, lambda i: i[:, 0, 0, 0] * torch.nan, torch.zeros(12), limit=1.0)
