"""Tests of normality for latent codes that report when they are not informative (II2S, arXiv 2012.09036, section 3).

The null hypothesis of all tests except ``dip`` is that the samples are independent draws from one normal distribution
of any mean and covariance. A small p-value is evidence against it. A large one means that the test, which looks for one
kind of departure, found none in n samples; it does not show that the codes are normal. Where n samples are too few to
decide in d dimensions, ``p_value`` is None, and ``textbook_p`` is the misleading p-value of the asymptotic formula.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from latentlab.seeds import stream

Samples = Float[Tensor, "n d"] | Float[np.ndarray, "n d"]
Array = Float64[np.ndarray, "rows axes"]

FAMILIES = {
    "normal": lambda n, d, randn: randn(n, d),
    "uniform": lambda n, d, randn: math.sqrt(3) * (2 * torch.special.ndtr(randn(n, d)) - 1),
    "mixture": lambda n, d, randn: randn(n, d) + 2 / math.sqrt(d) * randn(n, 1).sign(),
    "t3": lambda n, d, randn: randn(n, d) / randn(3, n, d).square().mean(0).sqrt(),
    "elliptical t3": lambda n, d, randn: randn(n, d) / randn(3, n, 1).square().mean(0).sqrt(),
}
PAIRS = 50.0  # least effective number of pairs: with more, Henze and Zirkler's limit kept its level (n = 100 to 3000)
RATIO, LEAST = 20, 200  # least samples per dimension, and in total, for Mardia's limits without calibration
UNIVARIATE = {"skewness": (stats.skewtest,), "kurtosis": (stats.kurtosistest,)}
UNIVARIATE["both"] = UNIVARIATE["skewness"] + UNIVARIATE["kurtosis"]
SOURCE = "D'Agostino (1970), Anscombe and Glynn (1983), Benjamini and Hochberg (1995), scipy.stats"


@dataclass(frozen=True)
class TestResult:
    """Result of one test on n samples in d dimensions.

    p_value: None if the test is not informative. note: why it is not, or how the p-value was computed.
    textbook_p: the p-value of the limit for infinite n, whether it is valid or not, as other packages report it.
    table: for univariate tests, one row per axis: skewness, excess kurtosis, statistic, p_value; passes, p > 0.05,
        true for 95 % of normal axes; q_value (Benjamini-Hochberg): at most 5 % of those below 0.05 are false alarms.

    >>> TestResult("Mardia's skewness", 0.5, 0.25, 100, 2, "Mardia (1970)")
    Mardia's skewness: statistic 0.5, p = 0.25 (n = 100, d = 2)
    """

    __test__ = False  # pytest is not to collect it

    name: str
    statistic: float
    p_value: float | None
    n: int
    d: int
    source: str
    note: str = ""
    textbook_p: float | None = None
    table: pd.DataFrame | None = field(default=None, compare=False)

    @property
    def informative(self) -> bool:
        """Whether n samples are enough to decide in d dimensions."""
        return self.p_value is not None

    def rejects(self, alpha: float = 0.05) -> bool:
        """Whether normality is rejected at level ``alpha``; False also if the test is not informative."""
        return self.p_value is not None and self.p_value <= alpha

    def __repr__(self) -> str:
        p = "not informative" if self.p_value is None else f"p = {self.p_value:.3g}"
        text = f"{self.name}: statistic {self.statistic:.6g}, {p} (n = {self.n}, d = {self.d})"
        return f"{text}; {self.note}" if self.note else text


def _array(x: Samples) -> Array:
    """The samples minus their mean, in float64, after a check that they are finite and vary in every dimension."""
    a = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=np.float64)
    if a.ndim != 2 or a.shape[1] == 0:
        raise ValueError(f"samples: expected shape (n, d) with d >= 1, got {tuple(a.shape)}")
    if not np.isfinite(a).all():
        raise ValueError("samples: expected finite values, got NaN or infinity")
    _enough(len(a))
    constant = np.flatnonzero(np.ptp(a, axis=0) <= 1e-10 * np.abs(a).max(axis=0))
    if len(constant):
        raise ValueError(
            f"samples: expected dimensions that vary, got {len(constant)} constant, the first at index {constant[0]}"
        )
    return a - a.mean(axis=0)


def _enough(n: int, d: int = 1) -> None:
    least = max(20, d + 2)  # any d + 1 samples are the vertices of the same simplex once they are whitened
    if n < least:
        raise ValueError(f"samples: expected at least {least} in {d} dimensions, got {n}")


def _whitened(x: Samples) -> Array:
    """Samples transformed to mean 0 and covariance I (divisor n) by the Cholesky factor of their covariance."""
    a = torch.from_numpy(_array(x))
    if a.shape[1] < 2:
        raise ValueError("samples: expected at least 2 dimensions, got 1; use marginals for a single one")
    _enough(*a.shape)
    a = a / a.std(0, correction=0)
    factor, fault = torch.linalg.cholesky_ex(a.T @ a / len(a))
    if fault or factor.diagonal().min() < 1e-6:
        raise ValueError(
            "samples: expected linearly independent dimensions, got dependent ones; "
            "test fewer dimensions, or leading principal axes"
        )
    return torch.linalg.solve_triangular(factor, a.T, upper=False).T.numpy()


def _rows(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows of ``width`` float64 each, at most 32 MiB per slice, so that no (n, n) matrix is stored."""
    step = max(1, 2**22 // width)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def henze_zirkler(x: Samples) -> TestResult:
    """Test of Henze and Zirkler (1990), which compares empirical and normal characteristic function after whitening.

    With r_i = |z_i|^2 and D_ij = |z_i - z_j|^2 of samples z whitened with divisor n, and the bandwidth
    b = ((2 d + 1) n / 4)^(1 / (d + 4)) / sqrt(2),

        HZ = 1/n sum_ij exp(-b^2 D_ij / 2) - 2 (1 + b^2)^(-d/2) sum_i exp(-b^2 r_i / (2 + 2 b^2)) + n (1 + 2 b^2)^(-d/2)

    Large values reject; the test is consistent against every alternative. For normal samples log HZ is approximately
    normal with moments given in the paper. It takes O(n^2 d) time and little memory.

    Pitfall: D_ij grows as 2 d, so in high dimensions only the terms i = j, which add up to 1, are not negligible. What
    comes out then (as in II2S, n = 1000, d = 512) depends on the implementation: the formula as printed, in float64,
    gives HZ = 1, standard deviation 0 and p = NaN for any samples; with a logarithm of 1 + x that keeps small x, as in
    pingouin 0.7, it gives p = 0.5 for any samples, also for heavy tails. ``textbook_p`` is computed from HZ - 1
    instead: there it is 0.5 for any independent coordinates, and 0 for heavy tails that all coordinates share. The
    limit is valid only if enough pairs contribute. With k the kernel of D_ij, the effective number of pairs is, for
    normal samples,
    (sum k)^2 / sum k^2 = n (n - 1) / 2 ((1 + 4 b^2) / (1 + 2 b^2)^2)^(d/2).
    Below 50 the test is not informative: above d = 39 for n = 1000, above d = 22 for n = 200.
    """
    z = _whitened(x)
    n, d = z.shape
    b2 = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2
    r, near = (z * z).sum(axis=1), 0.0
    for rows in _rows(n, n):
        distance = r[rows, None] + r - 2 * z[rows] @ z.T
        distance[np.arange(len(distance)), np.arange(n)[rows]] = np.inf  # the terms i = j are the 1 added below
        near += float(np.exp(-b2 / 2 * distance).sum()) / n
    beyond = n * (1 + 2 * b2) ** (-d / 2) - 2 * (1 + b2) ** (-d / 2) * float(np.exp(-b2 * r / (2 + 2 * b2)).sum())
    p = _lognormal_p(near + beyond, d, b2)
    pairs = n * (n - 1) / 2 * ((1 + 4 * b2) / (1 + 2 * b2) ** 2) ** (d / 2)
    valid, note = (p, "") if pairs >= PAIRS else (None, f"only {pairs:.2g} effective pairs: test fewer axes")
    return TestResult("Henze-Zirkler", 1 + near + beyond, valid, n, d, "Henze and Zirkler (1990)", note, p)


def _lognormal_p(excess: float, d: int, b2: float) -> float:
    """P(HZ > 1 + excess), computed without adding 1, which would round off an excess as small as 1e-17."""
    a, w = 1 + 2 * b2, (1 + b2) * (1 + 3 * b2)
    mean = -(a ** (-d / 2)) * (1 + d * b2 / a + d * (d + 2) * b2**2 / (2 * a**2))  # minus 1
    variance = 2 * (1 + 4 * b2) ** (-d / 2)
    variance += 2 * a**-d * (1 + 2 * d * b2**2 / a**2 + 3 * d * (d + 2) * b2**4 / (4 * a**4))
    variance -= 4 * w ** (-d / 2) * (1 + 3 * d * b2**2 / (2 * w) + d * (d + 2) * b2**4 / (2 * w**2))
    spread = math.log1p(max(variance, 1e-300) / (1 + mean) ** 2)
    return float(stats.norm.sf((math.log1p(excess) - math.log1p(mean) + spread / 2) / math.sqrt(spread)))


def mardia(x: Samples, *, calibrate: bool | None = None, draws: int = 199, seed: int = 0) -> list[TestResult]:
    """Mardia's tests of multivariate skewness b1 and kurtosis b2 (1970), one result each.

    With g_ij = (x_i - mean)^T S^-1 (x_j - mean),

        b1 = 1/n^2 sum_ij g_ij^3        b2 = 1/n sum_i g_ii^2

    b1 is large for skewed samples, b2 large for heavy tails and small for light ones (two-sided). They do not detect
    everything: a symmetric mixture can have the b1 and b2 of a normal.

    Pitfall: textbooks compare n b1 / 6 with chi^2 of d (d + 1) (d + 2) / 6 degrees of freedom and b2 with
    N(d (d + 2), 8 d (d + 2) / n). For n = 1000, d = 512 the b2 of a normal is 11 of these standard deviations too low.
    If n >= 20 d and n >= 200, the exact mean of b1 and the exact mean and variance of b2 are used (Mardia 1974).
    Otherwise both are compared with ``draws`` normal samples of the same n and d; N(0, I) represents every normal,
    because b1 and b2 are affine invariant. The smallest possible p is 1 / (draws + 1), twice that for b2.

    calibrate: compare with normal samples if the limits are not valid (None), always (True), or never (False; then
    the result is "not informative" where they are not). The normal samples are cached for the next call.

    >>> axis = np.array([2, -0.5, -0.5, -0.5, -0.5])  # moments 0, 1, 1.5, 3.25: b1 = 2 * 1.5^2, b2 = 2 * 3.25 + 2
    >>> [round(t.statistic, 9) for t in mardia(np.stack(np.meshgrid(axis, axis), -1).reshape(25, 2))]
    [4.5, 8.5]
    """
    z = _whitened(x)
    (n, d), found = z.shape, _mardia(z)
    textbook, exact = _mardia_limits(*found, n, d)
    p, note, least = exact, "", max(LEAST, RATIO * d)
    if calibrate or (calibrate is None and n < least):
        null = _mardia_null(n, d, draws, seed)
        above, below = ((side.sum(axis=0) + 1) / (draws + 1) for side in (null >= found, null <= found))
        p = float(above[0]), min(1.0, 2 * float(min(above[1], below[1])))
        note = f"calibrated by {draws} normal samples"
    elif n < least:
        p, note = (None, None), f"the limit requires n >= {least}: calibrate, or test fewer axes"
    each = zip(("Mardia's skewness", "Mardia's kurtosis"), found, p, textbook, strict=True)
    return [TestResult(name, b, q, n, d, "Mardia (1970, 1974)", note, limit) for name, b, q, limit in each]


def _mardia(z: Array) -> tuple[float, float]:
    """b1 and b2 of whitened samples. b1 equals the squared norm of the third moments, which is cheaper for n > d^2."""
    n, d = z.shape
    b2 = float(((z * z).sum(axis=1) ** 2).mean())
    if n > d * d:
        moments = np.zeros((d * d, d))
        for rows in _rows(n, d * d):
            moments += (z[rows, :, None] * z[rows, None, :]).reshape(-1, d * d).T @ z[rows]
        return float((moments**2).sum()) / n**2, b2
    grams = (z[rows] @ z.T for rows in _rows(n, n))
    return sum(float(np.vdot(g * g, g)) for g in grams) / n**2, b2


def _mardia_limits(b1: float, b2: float, n: int, d: int) -> list[list[float]]:
    """p-values of b1 and b2: two with the moments of textbooks, two with the exact moments (Mardia 1974)."""
    correction = [1, (d + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (d + 1) - 6))]
    mean = d * (d + 2) * np.array([1, (n - 1) / (n + 1)])
    variance = np.array([1, n * (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))])
    score = np.abs(b2 - mean) / np.sqrt(8 * d * (d + 2) / n * variance)
    p = stats.chi2.sf(np.multiply(correction, n * b1 / 6), d * (d + 1) * (d + 2) / 6), 2 * stats.norm.sf(score)
    return np.transpose(p).tolist()


@lru_cache(maxsize=64)
def _mardia_null(n: int, d: int, draws: int, seed: int) -> np.ndarray:
    """b1 and b2 of normal samples, (draws, 2)."""
    steps = tqdm(range(draws), desc=f"normal samples, d = {d}", leave=False, disable=draws * n * n * d < 1e11)
    return np.array([_mardia(_whitened(sample("normal", n, d, seed=seed, use=f"null {i}"))) for i in steps])


def dip(x: Float[Tensor, " n"] | Float[np.ndarray, " n"]) -> TestResult:
    """Hartigan's dip test of unimodality (1985): the distance to the nearest unimodal distribution function.

    The null hypothesis is a single mode, normal or not; small p-values are evidence for two or more. They are computed
    under the uniform distribution, the least favourable unimodal one, so that normal samples give p near 1. Pitfall:
    all axes of a distribution can have one mode although the distribution has two.

    Requires the package diptest, which is under the GPL and therefore not a dependency.
    """
    try:
        from diptest import diptest
    except ImportError as error:
        raise ImportError("dip requires the package diptest, which is under the GPL: pip install diptest") from error
    if x.ndim != 1:
        raise ValueError(f"x: expected one axis of shape (n,), got {tuple(x.shape)}")
    a = _array(x[:, None])[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its table ends at 72,000 samples, where sqrt(n) dip has converged
        statistic, p = diptest(a)
    return TestResult("dip", float(statistic), float(p), len(a), 1, "Hartigan and Hartigan (1985), diptest")


def principal(x: Samples, keep: int | None = None, *, split: bool = False) -> Array:
    """Coordinates on the ``keep`` leading principal axes, with mean 0 and variance 1 (II2S, Eq. 2).

    split: fit mean and axes to every other sample and return the other half. Without it they overfit if n is close to
    d: all |z|^2 are close to d for any samples (equal to d at n = d + 1), so use ``split`` to examine |z|. Tests of
    single axes keep their level either way, because normal samples whitened by themselves are randomly rotated.
    """
    a, d = _array(x), x.shape[1]
    fit, rest = (a[::2], a[1::2]) if split else (a, a)
    _enough(len(fit), d)
    if keep is not None and not 1 <= keep <= d:
        raise ValueError(f"keep: expected 1 to {d} axes, got {keep}")
    values, vectors = np.linalg.eigh(np.cov(fit.T, bias=True).reshape(d, d))
    values, vectors = values[::-1][:keep], vectors[:, ::-1][:, :keep]
    if values[-1] < 1e-13 * values[0]:
        raise ValueError(
            "samples: expected linearly independent dimensions, got dependent ones; keep fewer principal axes"
        )
    return (rest - fit.mean(axis=0)) @ (vectors / np.sqrt(values))


def marginals(x: Samples, axes: str = "own", *, test: str = "both", split: bool = False) -> TestResult:
    """Univariate tests of each axis, in ``table``. The p-value, for all axes together, is their smallest q-value.

    axes: "own" for the samples' coordinates or "principal" for their principal axes; with ``split`` these are fitted
    to every other sample and the other half is tested.
    test: "skewness", "kurtosis", or "both", whose p is twice the smaller one. Pitfall: the usual sum of their squares,
    ``scipy.stats.normaltest``, gives p < 1e-4 for normal samples 4 times too often at n = 1000 and 11 times at
    n = 100; with 512 axes such p-values matter.

    Pitfall: an axis that mixes many independent coordinates looks normal whatever their distribution, and samples
    whose axes are all normal need not be normal. II2S finds 219 of 512 axes normal at 5 %; for normal samples it
    would be 486.
    """
    if axes not in ("own", "principal") or (axes == "own" and split):
        raise ValueError(f"axes: expected 'own', or 'principal' (also with split), got {axes!r} with split={split}")
    a = _array(x) if axes == "own" else principal(x, split=split)
    return _axis_tests(a, a.shape[1], f"marginals, {axes} axes", test)


def projections(x: Samples, k: int = 64, *, test: str = "both", split: bool = False, seed: int = 0) -> TestResult:
    """The tests of ``marginals`` along k random directions, uniform on the unit sphere, of the whitened samples.

    Samples are normal if and only if all their projections are. Pitfall: projections of many independent coordinates
    are close to normal, so that for d = 512 uniform coordinates are not detected. Properties that all coordinates
    share, such as a heavy-tailed radius, remain. Use ``marginals`` as well.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1 direction, got {k}")
    a = principal(x, split=split)
    directions = sample("normal", a.shape[1], k, seed=seed, use="directions").numpy()
    return _axis_tests(a @ directions, a.shape[1], f"{k} projections", test)


def _axis_tests(a: Array, d: int, name: str, test: str) -> TestResult:
    if test not in UNIVARIATE:
        raise ValueError(f"test: expected one of {', '.join(UNIVARIATE)}; got {test!r}")
    statistic = np.max([np.abs(one(a, axis=0).statistic) for one in UNIVARIATE[test]], axis=0)
    p = np.minimum(1, len(UNIVARIATE[test]) * 2 * stats.norm.sf(statistic))
    table = pd.DataFrame({"axis": range(a.shape[1]), "skewness": stats.skew(a), "excess_kurtosis": stats.kurtosis(a)})
    table = table.assign(statistic=statistic, p_value=p, passes=p > 0.05, q_value=stats.false_discovery_control(p))
    least, note = float(table.q_value.min()), f"{table.passes.sum()} of {len(p)} pass at 5 %"
    return TestResult(f"{name} ({test})", float(statistic.max()), least, len(a), d, SOURCE, note, table=table)


def sample(family: str, n: int, d: int, *, seed: int = 0, use: str = "sample") -> Float64[Tensor, "n d"]:
    """Draws n samples in d dimensions from one of ``FAMILIES``, all with mean 0; ``use`` names the random stream.

    The coordinates of "uniform" and "t3" (Student's t with 3 degrees of freedom) are independent, those of
    "elliptical t3" share their radius; "mixture" is two normals 4 standard deviations apart along the diagonal.
    """
    if family not in FAMILIES:
        raise ValueError(f"family: expected one of {', '.join(FAMILIES)}; got {family!r}")
    draw = stream(seed, "normality", family, n, d, use)
    return FAMILIES[family](n, d, partial(torch.randn, dtype=torch.float64, generator=draw))


def level_and_power(
    test: Callable[[Tensor], TestResult | Sequence[TestResult]],
    families: Sequence[str] = tuple(FAMILIES),
    dims: Sequence[int] = (2, 8, 32, 128, 512),
    n: int = 1000,
    repeats: int = 100,
    *,
    seed: int = 0,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Rates at which ``test`` rejects at level ``alpha``: its level on "normal", its power on the other families.

    One row for each family, dimension and test: the fraction of ``informative`` results; the fraction of these that
    ``rejected``, with its 95 % Wilson interval from ``low`` to ``high``; the fraction that the ``textbook`` p-value
    rejects. NaN if there is no result to count. All repeats of a calibrated test share one set of normal samples, so
    with 199 draws its level has a standard error of 1.5 %.
    """
    rows = []
    for family, d in tqdm(list(product(families, dims)), leave=False, disable=repeats * n * sum(dims) < 1e8):
        found = [test(sample(family, n, d, seed=seed, use=f"repeat {i}")) for i in range(repeats)]
        found = [[f] if isinstance(f, TestResult) else f for f in found]
        rows += [(family, d, n, repeats, *_rates(same, alpha)) for same in zip(*found, strict=True)]
    return pd.DataFrame(rows, columns="family d n repeats test informative rejected low high textbook".split())


def _rates(results: Sequence[TestResult], alpha: float) -> tuple[str, float, float, float, float, float]:
    """Columns ``test`` to ``textbook`` of ``level_and_power`` for the results of one test."""
    valid = [r.rejects(alpha) for r in results if r.informative]
    textbook = [r.textbook_p <= alpha for r in results if r.textbook_p is not None]
    low, high = stats.binomtest(sum(valid), len(valid)).proportion_ci(method="wilson") if valid else (math.nan,) * 2
    rejected, by_textbook = (sum(k) / len(k) if k else math.nan for k in (valid, textbook))
    return results[0].name, len(valid) / len(results), rejected, float(low), float(high), by_textbook
