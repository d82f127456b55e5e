"""Confidence intervals against scipy and by their coverage."""

import numpy as np
import pytest
import torch
from scipy import stats

from latentlab.evaluation import intervals
from latentlab.evaluation.intervals import (
    confidence_interval,
    coverage,
    holm,
    jackknife,
    nanmean,
    samples_needed,
    share_interval,
)


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
    interval = confidence_interval(values, method="percentile")
    assert interval == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


def test_coverage_for_few_samples():
    """Of 1000 sets of 9 samples: 95 % of Student's intervals hold the mean of a normal population, fewer of the
    percentile ones; with skewed populations all hold it less often."""
    held = {name: coverage(9, name, sets=1_000, resamples=400) for name in ("normal", "log-normal")}
    assert held["normal"]["t"] == pytest.approx(0.95, abs=0.02)  # three standard errors
    assert 0.84 < held["normal"]["percentile"] < 0.92
    assert all(held["log-normal"][method] < share for method, share in held["normal"].items())


def test_coverage_is_that_of_the_intervals():
    """The first sets of the simulation, by ``confidence_interval``."""
    draw = np.random.default_rng(intervals.stream(0, "coverage", "exponential", 12).initial_seed())
    x, _ = draw.exponential(size=12), draw.integers(12, size=(400, 12))
    inside = {m: float(np.prod(np.sign(np.array(confidence_interval(x, method=m)) - 1))) < 0 for m in intervals.METHODS}
    assert coverage(12, "exponential", sets=1, resamples=400) == inside
    for method in intervals.METHODS:  # the ends themselves, where the simulation takes a short cut
        ends = [confidence_interval(skewed(30, seed=i), method=method) for i in range(60)]
        share = np.mean([low < 1 < high for low, high in ends])
        assert coverage(30, "exponential", sets=400, resamples=400)[method] == pytest.approx(share, abs=0.1)


def test_the_default_is_students_where_it_can_be():
    values = skewed(20)
    assert confidence_interval(values) == confidence_interval(values, method="t")
    assert confidence_interval(values, stats.gmean) == confidence_interval(values, stats.gmean, method="t")
    assert confidence_interval(values, np.median) == confidence_interval(values, np.median, method="bca")


def test_intervals_of_shares_are_where_the_score_test_rejects():
    """Wilson's ends: the shares from which the found one is 1.96 of their standard errors away."""
    for hits, n in ((0, 12), (3, 40), (38, 40), (40, 40)):
        low, high = share_interval(hits, n)
        assert 0 <= low < high <= 1 and low <= hits / n <= high
        for end in (low, high):
            if 0 < end < 1:
                z = abs(hits / n - end) / (end * (1 - end) / n) ** 0.5
                assert z == pytest.approx(stats.norm.ppf(0.975), rel=1e-6)
    assert share_interval(40, 40)[1] == 1 and share_interval(0, 12)[0] == 0
    with pytest.raises(ValueError, match="hits: expected from 0 to n samples, and n at least 1, got 5 of 4"):
        share_interval(5, 4)


def test_jackknife_of_a_mean_is_students():
    """With as many groups as samples; with ten, the interval of the means of ten groups."""
    x = torch.from_numpy(skewed(40))
    for groups in (40, 10):
        found, intervals = jackknife(lambda keep: {"mean": float(x[keep].mean())}, 40, groups=groups)
        means = x.unflatten(0, (groups, -1)).mean(1).numpy()
        expected = stats.t.interval(0.95, groups - 1, means.mean(), stats.sem(means))
        assert found["mean"] == pytest.approx(float(x.mean()))
        assert intervals["mean"] == pytest.approx(list(expected))
    with pytest.raises(ValueError, match="groups: expected from 2 to the number of samples, 5, got 6"):
        jackknife(lambda keep: {}, 5, groups=6)


def test_jackknife_covers_what_is_not_a_mean():
    """The median and the coefficient of variation of normal samples, whose values are known: 10 and .1."""
    draw, held = torch.Generator().manual_seed(0), {"median": 0, "variation": 0}
    for _ in range(300):
        x = 10 + torch.randn(200, generator=draw)

        def measures(keep: torch.Tensor, x: torch.Tensor = x) -> dict[str, float]:
            return {"median": float(x[keep].quantile(0.5)), "variation": float(x[keep].std() / x[keep].mean())}

        _, intervals = jackknife(measures, 200)
        for name, truth in (("median", 10), ("variation", 0.1)):
            low, high = intervals[name]
            held[name] += low < truth < high
    assert 0.91 < held["variation"] / 300 < 0.98 and held["median"] / 300 > 0.88, held


def test_holm_is_the_step_down_procedure():
    """Against its definition: with sorted p, reject while p_(k) <= alpha / (m - k + 1)."""
    for seed in range(20):
        p = np.random.default_rng(seed).uniform(size=6) ** 4
        for alpha in (0.01, 0.05, 0.2):
            rejected, order = np.zeros(6, bool), np.argsort(p)
            for k, i in enumerate(order):
                if p[i] > alpha / (6 - k):
                    break
                rejected[i] = True
            assert (np.array(holm(p.tolist())) <= alpha).tolist() == rejected.tolist()
    assert holm([]) == []
    with pytest.raises(ValueError, match="p_values: expected numbers from 0 to 1"):
        holm([0.1, float("nan")])


def test_samples_needed_reach_the_power():
    """By simulation: so many samples find the effect in 80 % of 2000 sets, three fewer of ten do not."""
    n = samples_needed(0.7, 1.0)
    draw = np.random.default_rng(1)

    def found(size: int) -> float:
        return float((stats.ttest_1samp(draw.normal(0.7, 1, (2000, size)), 0, axis=1).pvalue <= 0.05).mean())

    assert found(n) == pytest.approx(0.8, abs=0.03) and found(round(0.7 * n)) < 0.72
    assert samples_needed(-1.4, 2.0) == n and samples_needed(0.7, 1.0, level=0.005) > n
    assert samples_needed(1.0, 0.0) == 2 and samples_needed(0.0, 1.0) is None and samples_needed(1e-6, 1.0) is None


def test_nan_counts_as_missing():
    values = np.array([1.0, 2.0, 4.0, np.nan])
    assert nanmean(values) == pytest.approx(7 / 3) and np.isnan(nanmean(values * np.nan))
    low, high = confidence_interval(values, method="percentile")
    assert 1 <= low < 7 / 3 < high <= 4
    assert confidence_interval(values, method="t") == confidence_interval(values[:3], method="t")
    assert all(np.isnan(confidence_interval(values * np.nan)))
    assert np.isfinite(confidence_interval(np.array([1.0, np.nan, np.nan]), method="bca")).all()


def test_infinite_values_have_no_interval():
    """The PSNR of equal images, for one."""
    for method in ("percentile", "bca", "t"):
        assert all(np.isnan(confidence_interval(np.full(3, np.inf), method=method)))
    low, high = confidence_interval(np.array([np.inf, 30.0, 30.0]), method="percentile")
    assert low == 30 and np.isnan(high)


def test_equal_values_and_single_ones():
    for method in ("percentile", "bca", "t"):
        assert confidence_interval(np.full(5, 2.0), method=method) == [2, 2]
    for method in ("percentile", "bca"):
        assert confidence_interval(np.array([2.0]), method=method) == [2, 2]
    assert all(np.isnan(confidence_interval(np.array([2.0]), method="t")))


def test_seeds_and_pairs():
    values, drawn = skewed(20), {"method": "percentile"}
    assert confidence_interval(values, **drawn) == confidence_interval(values, **drawn)
    assert confidence_interval(values, **drawn) != confidence_interval(values, **drawn, seed=1)
    shifted = [end - 5 for end in confidence_interval(values + 5, **drawn)]
    assert shifted == pytest.approx(confidence_interval(values, **drawn))  # equal resamples: the intervals are paired


def test_bad_input():
    with pytest.raises(ValueError, match=r"values: expected at least one sample, shape \(N,\), got shape \(0,\)"):
        confidence_interval(np.array([]))
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        confidence_interval(np.ones((2, 3)))
    with pytest.raises(ValueError, match="method: expected one of percentile, bca, t, got 'normal'"):
        confidence_interval(np.ones(3), method="normal")
    with pytest.raises(ValueError, match="expected the statistic to be a mean or scipy's gmean, got median"):
        confidence_interval(np.ones(3), np.median, method="t")


@pytest.mark.parametrize("level", [0.05, 0.00625, 0.002])
def test_larger_effects_never_need_more_samples(level):
    """Also where scipy's noncentral t is not a number: an effect of 3.5 standard deviations once needed 53."""
    needed = [samples_needed(float(effect), 1.0, level=level) for effect in np.arange(0.2, 8.0, 0.1)]
    assert needed == sorted(needed, reverse=True) and 2 <= needed[-1] <= 5
