"""Factors and their sampling: validation, seeds, correlations."""

import pytest
import torch

from latentlab.faces import CORRELATIONS, NAMES, TABLE, Factors, sample_factors


@pytest.fixture
def few() -> Factors:
    return sample_factors(5, seed=0)


def test_names_are_unique_and_ranges_are_not_empty():
    assert len(set(NAMES)) == len(NAMES) == len(TABLE)
    assert all(f.low < f.high and f.description and f.unit for f in TABLE)


def test_samples_lie_within_their_ranges():
    values = sample_factors(500, seed=1).values
    assert (values >= torch.tensor([f.low for f in TABLE])).all()
    assert (values <= torch.tensor([f.high for f in TABLE])).all()
    assert values.std(0).min() > 0.1  # each factor varies


def test_a_face_depends_on_seed_and_index_only():
    many = sample_factors(150, seed=4).values
    assert torch.equal(sample_factors(10, seed=4).values, many[:10])
    assert torch.equal(sample_factors(70, seed=4, start=60).values, many[60:130])
    assert not torch.equal(sample_factors(10, seed=5).values, many[:10])


def test_global_random_state_is_unchanged():
    before = torch.get_rng_state()
    sample_factors(3, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_entanglement_scales_correlations_but_not_marginals():
    tables = {e: sample_factors(4000, seed=2, entanglement=e).to_frame() for e in (0.0, 0.5, 1.0)}
    for (a, b), latent in CORRELATIONS.items():
        free, half, full = (tables[e][a].corr(tables[e][b]) for e in (0.0, 0.5, 1.0))
        assert abs(free) < 0.06, (a, b)
        assert abs(half) < abs(full), (a, b)
        # Clamped and binary factors correlate less than the Gaussians behind them.
        assert 0.55 * abs(latent) < abs(full) < 1.1 * abs(latent) and full * latent > 0, (a, b)
    for name in NAMES:
        spread = tables[1.0][name].max() - tables[1.0][name].min()
        assert abs(tables[0.0][name].mean() - tables[1.0][name].mean()) < 0.04 * spread, name


def test_replace_sets_numbers_and_tensors_in_a_copy(few: Factors):
    before = few.values.clone()
    new = few.replace(smile=1, yaw=torch.linspace(-30, 30, 5))
    assert new["smile"].tolist() == [1] * 5 and new["yaw"][4] == 30
    others = [i for i, name in enumerate(NAMES) if name not in ("smile", "yaw")]
    assert torch.equal(new.values[:, others], before[:, others])
    assert torch.equal(few.values, before)


def test_indexing_and_concat(few: Factors):
    assert few["age"].shape == (5,)
    assert len(few[2]) == 1 and len(few[1:4]) == 3 and len(few[[0, 4]]) == 2 and len(few[few["age"] > 2]) == 0
    assert torch.equal(Factors.concat([few[:2], few[2:]]).values, few.values)
    assert list(few.to_frame().columns) == list(NAMES)


def test_soft_ranges_may_be_exceeded_and_hard_ones_not(few: Factors):
    assert few.replace(smile=1.5)["smile"][0] == 1.5
    with pytest.raises(ValueError, match="age: expected 0 to 1, got 1.5 for face 0"):
        few.replace(age=1.5)
    with pytest.raises(ValueError, match="glasses: expected 0 or 1, got 0.5"):
        few.replace(glasses=0.5)


def test_bad_factors_are_refused(few: Factors):
    with pytest.raises(ValueError, match="factor: expected one of face_width, .*smile.*; got 'smiel'"):
        few.replace(smiel=1.0)
    with pytest.raises(ValueError, match="factor: expected one of .*; got 'colour'"):
        few["colour"]
    with pytest.raises(ValueError, match="expected finite factors, got NaN or infinity in smile"):
        few.replace(smile=float("nan"))
    with pytest.raises(ValueError, match=r"values: expected shape \(N, 36\), got \(3, 4\)"):
        Factors(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"smile: expected a number or shape \(5,\), got shape \(3,\)"):
        few.replace(smile=torch.zeros(3))
    with pytest.raises(ValueError, match="expected n >= 1"):
        sample_factors(0, seed=0)
    with pytest.raises(ValueError, match="entanglement: expected 0 to 1.2, got 2.0"):
        sample_factors(3, seed=0, entanglement=2.0)
