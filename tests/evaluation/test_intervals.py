"""Confidence intervals against scipy and by their coverage."""

import numpy as np
import pytest
import torch
from scipy import stats

from latentlab.evaluation import intervals
from latentlab.evaluation.intervals import confidence_interval, nanmean


def skewed(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=n)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("statistic", [np.mean, np.std, stats.gmean])
def test_bootstrap_intervals_are_scipys(method: str, statistic, monkeypatch: pytest.MonkeyPatch):
    """With so many resamples that both know the quantiles to a few percent of the interval's width."""
    values = skewed(40)
    monkeypatch.setattr(intervals, "RESAMPLES", 20_000)
    ours = confidence_interval(values, statistic, method=method)
    theirs = stats.bootstrap([values], statistic, n_resamples=20_000, method=method, rng=0).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.04 * (theirs.high - theirs.low))


def test_bca_moves_the_interval_of_a_skewed_mean_upwards():
    values = skewed(20)
    plain, corrected = (confidence_interval(values, method=m) for m in ("percentile", "bca"))
    assert corrected[0] > plain[0] and corrected[1] > plain[1]


def test_students_interval_is_scipys():
    values = skewed(9)
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert confidence_interval(values, method="t") == pytest.approx([theirs.low, theirs.high])
    logs = stats.ttest_1samp(np.log(values), 0).confidence_interval()
    expected = [np.exp(logs.low), np.exp(logs.high)]
    assert confidence_interval(values, stats.gmean, method="t") == pytest.approx(expected)


def test_bootstrap_of_many_values_is_the_normal_interval():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy() + 3
    half = 1.96 * values.std(ddof=1) / 20
    assert confidence_interval(values) == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


def test_coverage_for_few_samples():
    """Of 400 sets of 9 normal samples: 95 % of Student's intervals hold the true mean, fewer of the percentile ones."""
    sets = np.random.default_rng(0).normal(size=(400, 9))
    held = {}
    for method in ("t", "percentile"):
        ends = np.array([confidence_interval(x, method=method) for x in sets])
        held[method] = float(((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean())
    assert held["t"] == pytest.approx(0.95, abs=0.03)  # two standard errors are 0.02
    assert 0.84 < held["percentile"] < 0.92


def test_nan_counts_as_missing():
    values = np.array([1.0, 2.0, 4.0, np.nan])
    assert nanmean(values) == pytest.approx(7 / 3) and np.isnan(nanmean(values * np.nan))
    low, high = confidence_interval(values)
    assert 1 <= low < 7 / 3 < high <= 4
    assert confidence_interval(values, method="t") == confidence_interval(values[:3], method="t")
    assert all(np.isnan(confidence_interval(values * np.nan)))
    assert np.isfinite(confidence_interval(np.array([1.0, np.nan, np.nan]), method="bca")).all()


def test_infinite_values_have_no_interval():
    """The PSNR of equal images, for one."""
    for method in ("percentile", "bca", "t"):
        assert all(np.isnan(confidence_interval(np.full(3, np.inf), method=method)))
    low, high = confidence_interval(np.array([np.inf, 30.0, 30.0]))
    assert low == 30 and np.isnan(high)


def test_equal_values_and_single_ones():
    for method in ("percentile", "bca", "t"):
        assert confidence_interval(np.full(5, 2.0), method=method) == [2, 2]
    for method in ("percentile", "bca"):
        assert confidence_interval(np.array([2.0]), method=method) == [2, 2]
    assert all(np.isnan(confidence_interval(np.array([2.0]), method="t")))


def test_seeds_and_pairs():
    values = skewed(20)
    assert confidence_interval(values) == confidence_interval(values) != confidence_interval(values, seed=1)
    shifted = [end - 5 for end in confidence_interval(values + 5)]
    assert shifted == pytest.approx(confidence_interval(values))  # equal resamples: the intervals are paired


def test_bad_input():
    with pytest.raises(ValueError, match=r"values: expected at least one sample, shape \(N,\), got shape \(0,\)"):
        confidence_interval(np.array([]))
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        confidence_interval(np.ones((2, 3)))
    with pytest.raises(ValueError, match="method: expected one of percentile, bca, t, got 'normal'"):
        confidence_interval(np.ones(3), method="normal")
    with pytest.raises(ValueError, match="expected the statistic to be a mean or scipy's gmean, got median"):
        confidence_interval(np.ones(3), np.median, method="t")
