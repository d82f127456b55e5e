"""Training faces, the test faces, their details and the truth of an edit."""

import itertools

import pytest
import torch

from latentlab.faces import (
    DETAILS,
    FaceSet,
    draw_details,
    real_set,
    render,
    sample_factors,
    training_details,
    training_factors,
    training_states,
)
from latentlab.faces.sets import _REAL_SEED


@pytest.fixture(scope="module")
def real() -> FaceSet:
    return real_set()


def test_training_faces_are_reproducible_and_resumable():
    whole = training_factors(12, seed=3)
    parts = [training_factors(4, seed=3, start=start) for start in (0, 4, 8)]
    assert torch.equal(torch.cat([part.values for part in parts]), whole.values)
    assert not torch.equal(parts[0].values, parts[1].values)
    assert torch.equal(training_factors(12, seed=3, entanglement=0.0).values, sample_factors(12, 3, 0.0).values)


@pytest.mark.parametrize("seed", [-1, 2**62, _REAL_SEED])
def test_training_refuses_the_seeds_of_the_test_faces(seed: int):
    with pytest.raises(ValueError, match="training seed"):
        training_factors(4, seed)
    with pytest.raises(ValueError, match="training seed"):
        training_states(sample_factors(4, seed=0), seed)


def test_training_details_are_shared_out_evenly():
    worn = training_details(700, seed=3, share=0.2)
    assert sum(name != "none" for name in worn.names) == 140 and {worn.names.count(name) for name in DETAILS} == {20}
    later = training_details(50, seed=3, start=100, share=0.2)
    assert later.names == worn.names[100:150] and torch.equal(later.choices, worn.choices[100:150])
    assert set(training_details(50, seed=3, share=0.0).names) == {"none"}
    with pytest.raises(ValueError, match="training seed"):
        training_details(4, _REAL_SEED)
    with pytest.raises(ValueError, match="share: expected 0 to 1, got 2"):
        training_details(4, 0, share=2)


def test_real_set_has_forty_clean_and_eighty_strange_faces(real: FaceSet):
    assert len(real) == 120 and len(real.clean) == 40 and len(real.strange) == 80
    assert set(real.strange.details) == set(DETAILS)
    assert {*real[:12].details} >= {"none", "hat", "hand"}  # any slice has some of each


def test_real_set_is_fixed_and_held_out(real: FaceSet):
    again = real_set()
    assert torch.equal(real.images, again.images) and real.details == again.details
    for seed in range(5):
        seen = sample_factors(200, seed).values
        assert torch.cdist(seen, real.factors.values).min() > 1e-3


def test_details_cover_enough_of_the_image(real: FaceSet):
    covered = real.masks()["detail"].mean(dim=(1, 2, 3))
    assert covered[[name == "none" for name in real.details]].max() == 0
    assert covered[[name != "none" for name in real.details]].min() >= 0.015


@pytest.mark.parametrize("name", DETAILS)
def test_a_detail_changes_only_what_it_covers(name: str):
    factors = sample_factors(3, seed=9)
    details = draw_details([name] * 3, seed=1)
    images, masks = render(factors, masks=True, details=details)
    change = (images - render(factors)).abs().amax(dim=1, keepdim=True)
    assert change[masks["detail"] < 1e-5].max() < 1e-4
    assert change.amax(dim=(1, 2, 3)).min() > 0.3
    without_light = sum(masks.values()) - (masks["detail"] if name == "coloured light" else 0)
    torch.testing.assert_close(without_light, torch.ones_like(without_light), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", DETAILS)
def test_change_grows_with_strangeness_from_zero(name: str):
    factors = sample_factors(1, seed=9)
    clean = render(factors)
    amounts = (0.0, 0.25, 0.5, 1.0, 2.0)
    change = [(render(factors, details=draw_details([name], 1, a)) - clean).abs().mean().item() for a in amounts]
    assert change[0] == 0
    assert all(a < b * 1.001 for a, b in itertools.pairwise(change))


def test_details_depend_on_seed_and_index_only():
    few, many = draw_details(["hat"] * 2, seed=5), draw_details(["hat"] * 7, seed=5)
    assert torch.equal(few.choices, many.choices[:2])
    assert not torch.equal(few.choices, draw_details(["hat"] * 2, seed=6).choices)


def test_truth_changes_the_factor_and_keeps_the_detail(real: FaceSet):
    some = real[:8]
    happier = some.truth(smile=0.5)
    assert isinstance(happier, FaceSet) and happier.details == some.details
    assert torch.equal(happier.factors["smile"], (some.factors["smile"] + 0.5).clamp(-1, 1))
    assert torch.equal(happier.images, render(happier.factors, details=some.wear))
    assert torch.equal(some.with_factors(glasses=1).factors["glasses"], torch.ones(8))
    assert torch.equal(some.truth(glasses=1).factors["glasses"], torch.ones(8))
    torch.testing.assert_close(some.truth(smile=0).images, some.images, atol=1e-5, rtol=0)


def test_indexing_keeps_images_factors_and_details_together(real: FaceSet):
    some = real[[5, 17]]
    torch.testing.assert_close(some.render(), real.images[[5, 17]], atol=1e-5, rtol=0)
    assert some.details == (real.details[5], real.details[17])
    assert len(real[3]) == 1 and real[torch.tensor([2, 4])].images.shape == (2, 3, 64, 64)
    assert some.render(resolution=32).shape == (2, 3, 32, 32)


def test_bad_arguments_are_refused(real: FaceSet):
    with pytest.raises(ValueError, match="strangeness: expected 0 to 2, got 3.0"):
        real_set(strangeness=3.0)
    with pytest.raises(ValueError, match="names: expected details among hat, .*; got 'cigar'"):
        draw_details(["cigar"], seed=0)
    with pytest.raises(ValueError, match="details: expected one for each of 3 faces, got 1"):
        render(sample_factors(3, seed=0), details=draw_details(["hat"], seed=0))
    with pytest.raises(ValueError, match="factor: expected one of .*; got 'happiness'"):
        real[:2].truth(happiness=1.0)
    with pytest.raises(ValueError, match="NaN"):
        real[:2].truth(smile=float("nan"))
