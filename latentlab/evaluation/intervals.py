"""Confidence intervals of a statistic over samples, their coverage, tests of several cells, and sample sizes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from latentlab.seeds import stream

RESAMPLES = 2000
TAILS = (0.025, 0.975)
METHODS = ("percentile", "bca", "t")
# Populations whose means are known, for the coverage of intervals: name -> (draw, mean)
POPULATIONS = {
    "normal": (lambda draw, size: draw.normal(size=size), 0.0),
    "exponential": (lambda draw, size: draw.exponential(size=size), 1.0),
    "log-normal": (lambda draw, size: draw.lognormal(size=size), float(np.exp(0.5))),
}
MOST = 100_000  # samples; more are not looked for

Statistic = Callable[..., Any]  # values and axis=: numpy's mean and median, scipy's gmean


def nanmean(values: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """Mean without the NaN values, NaN where there are no others (``numpy.nanmean`` warns about those)."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis) / known.sum(axis)


_MEANS = (np.mean, nanmean)


def _geometric_mean() -> Statistic:
    from scipy.stats import gmean

    return gmean


def confidence_interval(
    values: np.ndarray, statistic: Statistic = nanmean, *, method: str | None = None, seed: int = 0
) -> list[float]:
    """The 95 % confidence interval [low, high] of a statistic of N independent samples, (N,).

    method: "t", Student's interval of a mean, or of scipy's ``gmean`` through the logarithms; "percentile",
    quantiles of the statistic over 2000 resamples of N drawn with replacement (Efron and Tibshirani, 1993, section
    13.3); "bca", the same quantiles corrected for bias and skewness (section 14.3). None: "t" where the statistic
    allows it, because of 12 to 120 samples that are normal or moderately skewed it covers the mean most often
    (``coverage``), else "bca". Equal N and seed give equal resamples, so the bootstrap intervals of several columns are
    paired.

    NaN samples take part in the resamples but not in the default statistic; [NaN, NaN] if all are NaN. An end among
    infinite values (the PSNR of equal images) is NaN, too.

    >>> confidence_interval(np.array([1.0, 2.0, 3.0]))  # 2 +- 4.303 * 1 / sqrt(3)
    [-0.484..., 4.484...]
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values: expected at least one sample, shape (N,), got shape {values.shape}")
    if method is None:
        method = "t" if statistic in _MEANS or statistic is _geometric_mean() else "bca"
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if np.isnan(values).all():
        return [float("nan")] * 2
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        if method == "t":
            return _student(values[~np.isnan(values)], statistic)
        return _bootstrap(values, statistic, method, seed)


def _bootstrap(values: np.ndarray, statistic: Statistic, method: str, seed: int) -> list[float]:
    picks = torch.randint(len(values), (RESAMPLES, len(values)), generator=stream(seed, "bootstrap"))
    resampled = statistic(values[picks], axis=1)
    tails = _corrected_tails(values, statistic, resampled) if method == "bca" and len(values) > 1 else TAILS
    return np.nanquantile(resampled, tails).tolist()


def _corrected_tails(values: np.ndarray, statistic: Statistic, resampled: np.ndarray) -> np.ndarray:
    """The levels of the two quantiles that BCa takes instead of 2.5 % and 97.5 %; numbers of Efron and Tibshirani."""
    from scipy.stats import norm

    found, resampled = statistic(values, axis=0), resampled[~np.isnan(resampled)]
    # Eq. 14.14: bias, from the share of resamples below the statistic (ties count a half)
    bias = norm.ppf(((resampled < found).mean() + (resampled <= found).mean()) / 2)
    # Eq. 14.15: acceleration, from the statistic without each sample in turn
    left_out = np.array([statistic(np.delete(values, i), axis=0) for i in range(len(values))])
    d = nanmean(left_out) - left_out
    spread = 6 * np.nansum(d**2) ** 1.5
    acceleration = np.nansum(d**3) / spread if spread > 0 else 0.0
    z = bias + norm.ppf(TAILS)
    tails = norm.cdf(bias + z / (1 - acceleration * z))  # Eq. 14.10
    # A statistic that no resample changes has an infinite bias: the interval is that one value.
    return np.nan_to_num(tails, nan=0.5)


def _student(values: np.ndarray, statistic: Statistic) -> list[float]:
    from scipy.stats import sem, t

    gmean = _geometric_mean()
    if statistic not in (*_MEANS, gmean):
        raise ValueError(
            "method 't': expected the statistic to be a mean or scipy's gmean, "
            f"got {getattr(statistic, '__name__', statistic)}; use 'percentile' or 'bca'"
        )
    if len(values) < 2:
        return [float("nan")] * 2
    x = np.log(values) if statistic is gmean else values
    half = t.ppf(TAILS[1], len(x) - 1) * sem(x)
    ends = [x.mean() - half, x.mean() + half]
    return [float(v) for v in (np.exp(ends) if statistic is gmean else ends)]


def jackknife(
    statistics: Callable[[torch.Tensor], Mapping[str, float]], n: int, *, groups: int = 10
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Statistics of N samples, and their 95 % intervals [low, high] by leaving out one group of samples at a time.

    For smooth statistics that have no interval of their own, such as distances of distributions (Efron and Tibshirani,
    1993, section 11.5). statistics: of the samples that a mask (N,) keeps. groups: consecutive and of equal size, up to
    one sample; with as many groups as samples the interval of a mean is Student's.

    >>> x = torch.tensor([1.0, 2.0, 3.0])
    >>> jackknife(lambda keep: {"mean": float(x[keep].mean())}, 3, groups=3)[1]
    {'mean': [-0.484..., 4.484...]}
    """
    from scipy.stats import t

    if not 2 <= groups <= n:
        raise ValueError(f"groups: expected from 2 to the number of samples, {n}, got {groups}")
    group = torch.arange(n) * groups // n
    found = dict(statistics(group >= 0))
    left_out = [statistics(group != g) for g in range(groups)]
    half = t.ppf(TAILS[1], groups - 1) * (groups - 1) ** 0.5
    halves = {name: half * np.std([part[name] for part in left_out]) for name in found}  # Eq. 11.5
    return found, {name: [float(x - halves[name]), float(x + halves[name])] for name, x in found.items()}


def share_interval(hits: int, n: int) -> list[float]:
    """Wilson's (1927) 95 % interval [low, high] of a share: ``hits`` of ``n`` independent samples.

    It stays within 0 and 1 and has a width also where none or all of the samples count.

    >>> share_interval(40, 40)
    [0.912..., 1.0]
    """
    from scipy.stats import binomtest

    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"hits: expected from 0 to n samples, and n at least 1, got {hits} of {n}")
    low, high = binomtest(hits, n).proportion_ci(method="wilson")
    return [max(0.0, float(low)), min(1.0, float(high))]  # rounding leaves the unit interval by 1e-16


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests adjusted by Holm (1979): all at most alpha together keep the family-wise error alpha.

    >>> holm([0.01, 0.04, 0.02])
    [0.03, 0.04, 0.04]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p_values: expected numbers from 0 to 1, got {list(p_values)}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def samples_needed(effect: float, sd: float, *, power: float = 0.8, level: float = 0.05) -> int | None:
    """The number of samples with which a two-sided t-test of a mean finds an ``effect`` with this ``power``.

    effect: distance of the mean from the value that is tested. sd: standard deviation of the samples, or of the paired
    differences. None where more than 100,000 are needed, or the effect is 0.

    >>> samples_needed(0.5, 1.0)  # Cohen (1988): 34
    34
    """
    from scipy.stats import nct, t

    if not (sd >= 0 and np.isfinite(sd) and np.isfinite(effect)):
        raise ValueError(f"sd: expected a finite number of at least 0 and a finite effect, got {sd} and {effect}")
    if effect == 0:
        return None

    def enough(n: int) -> bool:
        edge = t.ppf(1 - level / 2, n - 1)
        shift = min(abs(effect) / sd * n**0.5, 37.0) if sd else 37.0  # beyond, scipy's distribution is not finite
        # Far out scipy's lower tail is not a number, where it is negligible: the upper one decides.
        lower = np.nan_to_num(nct.cdf(-edge, n - 1, shift))
        return bool(nct.sf(edge, n - 1, shift) + lower >= power)

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= MOST else None


def coverage(n: int, population: str, *, sets: int = 4_000, resamples: int = 1_000, seed: int = 0) -> dict[str, float]:
    """Share of ``sets`` of n samples whose nominal 95 % interval holds the population's mean, for each method.

    population: "normal", "exponential" (skewness 2) or "log-normal" (skewness 6.2). The intervals are those of
    ``confidence_interval``, computed for all sets together and with fewer resamples.
    """
    from scipy.stats import norm, t

    if population not in POPULATIONS:
        raise ValueError(f"population: expected one of {', '.join(POPULATIONS)}, got {population!r}")
    draw = np.random.default_rng(stream(seed, "coverage", population, n).initial_seed())
    sample, truth = POPULATIONS[population]
    held = dict.fromkeys(METHODS, 0)
    for _ in range(sets):
        x = sample(draw, n)
        mean, half = x.mean(), t.ppf(TAILS[1], n - 1) * x.std(ddof=1) / n**0.5
        means = x[draw.integers(n, size=(resamples, n))].mean(1)
        ends = {"t": (mean - half, mean + half), "percentile": np.quantile(means, TAILS)}
        bias = norm.ppf(((means < mean).mean() + (means <= mean).mean()) / 2)
        d = x - mean  # of a mean, proportional to the differences that the jackknife leaves
        acceleration = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
        z = bias + norm.ppf(TAILS)
        ends["bca"] = np.quantile(means, norm.cdf(bias + z / (1 - acceleration * z)))
        for method, (low, high) in ends.items():
            held[method] += int(low < truth < high)
    return {method: count / sets for method, count in held.items()}
