"""Are latent codes normal? Tests that say when they cannot know (II2S, arXiv 2012.09036, section 3).

Null hypothesis of all but ``dip``: the rows are independent draws of one normal distribution of any mean and
covariance. A small p-value speaks against it. A large one says that a test which looks for one kind of
departure found none in n samples, never that the codes are normal. Where n samples cannot tell in d
dimensions, ``p_value`` is None, and ``textbook_p`` keeps what the textbook's formula says there: the trap.
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
PAIRS = 50.0  # effective pairs from which the limit of Henze and Zirkler kept its level (100 to 3000 samples)
RATIO, LEAST = 20, 200  # samples a dimension, and in all, from which Mardia's limits are used uncalibrated
UNIVARIATE = {"skewness": (stats.skewtest,), "kurtosis": (stats.kurtosistest,)}
UNIVARIATE["both"] = UNIVARIATE["skewness"] + UNIVARIATE["kurtosis"]
SOURCE = "D'Agostino (1970), Anscombe and Glynn (1983), Benjamini and Hochberg (1995), scipy.stats"


@dataclass(frozen=True)
class TestResult:
    """What one test says of n samples in d dimensions.

    p_value: None where the test is not informative; ``note`` says why, or how the p-value was found.
    textbook_p: the p-value by the limit n to infinity, right or wrong, which is what other packages print.
    table: of univariate tests, a row an axis: skewness, excess kurtosis, statistic, p_value; ``passes``, p > 0.05,
        which 95 % of normal axes do; q_value (Benjamini-Hochberg): of q < 0.05 at most 5 % are false alarms.

    >>> TestResult("Mardia's skewness", 0.5, 0.25, 100, 2, "Mardia (1970)")
    Mardia's skewness: statistic 0.5, p = 0.25 (n = 100, d = 2)
    """

    __test__ = False  # no test for pytest to collect

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
        """Whether n samples in d dimensions can tell."""
        return self.p_value is not None

    def rejects(self, alpha: float = 0.05) -> bool:
        """Whether normality is rejected; False also where the test is not informative."""
        return self.p_value is not None and self.p_value <= alpha

    def __repr__(self) -> str:
        says = "not informative" if self.p_value is None else f"p = {self.p_value:.3g}"
        told = f"{self.name}: statistic {self.statistic:.6g}, {says} (n = {self.n}, d = {self.d})"
        return f"{told}; {self.note}" if self.note else told


def _array(x: Samples) -> Array:
    """The samples about their mean, float64; ``ValueError`` unless finite and varied."""
    a = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=np.float64)
    if a.ndim != 2 or a.shape[1] == 0:
        raise ValueError(f"samples are wanted as (n, d), one a row, not {tuple(a.shape)}")
    if not np.isfinite(a).all():
        raise ValueError("samples hold NaN or infinite values")
    _enough(len(a))
    constant = np.flatnonzero(np.ptp(a, axis=0) <= 1e-10 * np.abs(a).max(axis=0))
    if len(constant):
        raise ValueError(f"{len(constant)} of the dimensions are constant, first number {constant[0]}")
    return a - a.mean(axis=0)


def _enough(n: int, d: int = 1) -> None:
    least = max(20, d + 2)  # of d + 1 samples, whitened, all clouds are the same simplex
    if n < least:
        raise ValueError(f"{n} samples are too few in {d} dimensions: take {least} or more")


def _whitened(x: Samples) -> Array:
    """Samples turned to mean 0 and covariance I (divisor n) by the Cholesky factor of their covariance."""
    a = torch.from_numpy(_array(x))
    if a.shape[1] < 2:
        raise ValueError("one column is no case for a multivariate test: use marginals")
    _enough(*a.shape)
    a = a / a.std(0, correction=0)
    factor, fault = torch.linalg.cholesky_ex(a.T @ a / len(a))
    if fault or factor.diagonal().min() < 1e-6:
        raise ValueError("the dimensions are linearly dependent: test fewer, or leading principal axes")
    return torch.linalg.solve_triangular(factor, a.T, upper=False).T.numpy()


def _rows(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows of ``width`` float64 each, at most 32 MiB a slice: no (n, n) is ever held."""
    step = max(1, 2**22 // width)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def henze_zirkler(x: Samples) -> TestResult:
    """The test of Henze and Zirkler (1990): the whitened samples' characteristic function against the normal's.

    With r_i = |z_i|^2 and D_ij = |z_i - z_j|^2 of samples z whitened with divisor n, and the bandwidth
    b = ((2 d + 1) n / 4)^(1 / (d + 4)) / sqrt(2),

        HZ = 1/n sum_ij exp(-b^2 D_ij / 2) - 2 (1 + b^2)^(-d/2) sum_i exp(-b^2 r_i / (2 + 2 b^2)) + n (1 + 2 b^2)^(-d/2)

    Large HZ rejects, every alternative for n large enough; of normal samples log HZ is about normal with the
    moments they give. Takes time n^2 d and little memory.

    Trap: D_ij grows as 2 d. In high dimensions a sample sees none but itself, and all else drowns in that 1: by
    the plain float64 formula HZ = 1, spread 0 and p = NaN for any cloud (II2S: n = 1000, d = 512).
    ``textbook_p`` is reckoned with HZ - 1: 0.5 there for independent coordinates whatever they are, 0 for tails
    that all share. The limit needs pairs near enough to count; of normal samples these are
    (sum k)^2 / sum k^2 = n (n - 1) / 2 ((1 + 4 b^2) / (1 + 2 b^2)^2)^(d/2), k the kernel of D_ij.
    Below 50 the answer is "not informative": above d = 39 for n = 1000, above d = 22 for n = 200.
    """
    z = _whitened(x)
    n, d = z.shape
    b2 = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2
    r, near = (z * z).sum(axis=1), 0.0
    for rows in _rows(n, n):
        distance = r[rows, None] + r - 2 * z[rows] @ z.T
        distance[np.arange(len(distance)), np.arange(n)[rows]] = np.inf  # i = j: all these ones are the 1 below
        near += float(np.exp(-b2 / 2 * distance).sum()) / n
    beyond = n * (1 + 2 * b2) ** (-d / 2) - 2 * (1 + b2) ** (-d / 2) * float(np.exp(-b2 * r / (2 + 2 * b2)).sum())
    p = _lognormal_p(near + beyond, d, b2)
    pairs = n * (n - 1) / 2 * ((1 + 4 * b2) / (1 + 2 * b2) ** 2) ** (d / 2)
    told, note = (p, "") if pairs >= PAIRS else (None, f"{pairs:.2g} pairs lie near enough to count: test fewer axes")
    return TestResult("Henze-Zirkler", 1 + near + beyond, told, n, d, "Henze and Zirkler (1990)", note, p)


def _lognormal_p(excess: float, d: int, b2: float) -> float:
    """P(HZ > 1 + excess), reckoned relative to 1: an excess of 1e-17 would drown in it."""
    a, w = 1 + 2 * b2, (1 + b2) * (1 + 3 * b2)
    mean = -(a ** (-d / 2)) * (1 + d * b2 / a + d * (d + 2) * b2**2 / (2 * a**2))  # less 1
    variance = 2 * (1 + 4 * b2) ** (-d / 2)
    variance += 2 * a**-d * (1 + 2 * d * b2**2 / a**2 + 3 * d * (d + 2) * b2**4 / (4 * a**4))
    variance -= 4 * w ** (-d / 2) * (1 + 3 * d * b2**2 / (2 * w) + d * (d + 2) * b2**4 / (2 * w**2))
    spread = math.log1p(max(variance, 1e-300) / (1 + mean) ** 2)
    return float(stats.norm.sf((math.log1p(excess) - math.log1p(mean) + spread / 2) / math.sqrt(spread)))


def mardia(x: Samples, *, calibrate: bool | None = None, draws: int = 199, seed: int = 0) -> list[TestResult]:
    """Mardia's skewness and kurtosis (1970), the two of them: with g_ij = (x_i - mean)^T S^-1 (x_j - mean),

        b1 = 1/n^2 sum_ij g_ij^3        b2 = 1/n sum_i g_ii^2

    Skewed samples have a large b1; b2 is large with heavy tails and small with short ones (two-sided). Neither
    sees all: symmetric modes may have a normal's values of both.
    Trap: the textbook compares n b1 / 6 with chi^2 of d (d + 1) (d + 2) / 6 degrees and b2 with
    N(d (d + 2), 8 d (d + 2) / n). For n = 1000, d = 512 a normal's b2 lies 11 such standard deviations low.
    Here b1 takes its exact mean, b2 its exact mean and variance (Mardia 1974) where n >= 20 d and n >= 200;
    elsewhere both are compared with ``draws`` normal samples of the same n and d (``calibrate`` None; True:
    always; False: never, "not informative" there). Affine invariance lets N(0, I) stand for every normal.
    The draws are kept for the next call; the least p is 1 / (draws + 1), and twice that for b2.

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
        p, note = (None, None), f"its limit wants n >= {least}: calibrate, or test fewer axes"
    each = zip(("Mardia's skewness", "Mardia's kurtosis"), found, p, textbook, strict=True)
    return [TestResult(name, b, q, n, d, "Mardia (1970, 1974)", note, wrong) for name, b, q, wrong in each]


def _mardia(z: Array) -> tuple[float, float]:
    """b1 and b2 of whitened samples. b1 is also the squared norm of the third moments, cheaper where n > d^2."""
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
    """p-values of b1 and b2 by the textbook's moments and by the exact ones of Mardia (1974)."""
    swell = [1, (d + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (d + 1) - 6))]
    mean = d * (d + 2) * np.array([1, (n - 1) / (n + 1)])
    variance = np.array([1, n * (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))])
    score = np.abs(b2 - mean) / np.sqrt(8 * d * (d + 2) / n * variance)
    p = stats.chi2.sf(np.multiply(swell, n * b1 / 6), d * (d + 1) * (d + 2) / 6), 2 * stats.norm.sf(score)
    return np.transpose(p).tolist()


@lru_cache(maxsize=64)
def _mardia_null(n: int, d: int, draws: int, seed: int) -> np.ndarray:
    """(draws, 2): b1 and b2 of as many normal samples."""
    steps = tqdm(range(draws), desc=f"normal samples, d = {d}", leave=False, disable=draws * n * n * d < 1e11)
    return np.array([_mardia(_whitened(sample("normal", n, d, seed=seed, use=f"null {i}"))) for i in steps])


def dip(x: Float[Tensor, " n"] | Float[np.ndarray, " n"]) -> TestResult:
    """Hartigan's dip (1985): how far the samples' distribution function lies from the nearest unimodal one.

    The null is one mode, normal or not; small p-values speak for two or more. They are those of the uniform
    distribution, the hardest with one mode: normal samples give p near 1. Trap: all axes of a cloud may have one
    mode while the cloud has two.
    Needs the package diptest, whose licence is the GPL and which is therefore not among the dependencies.
    """
    try:
        from diptest import diptest
    except ImportError as error:
        raise ImportError("the dip test is computed by a package under the GPL: pip install diptest") from error
    if x.ndim != 1:
        raise ValueError(f"the dip test takes one axis, (n,), not {tuple(x.shape)}")
    a = _array(x[:, None])[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more than 72,000 samples: its table ends and sqrt(n) dip has converged
        statistic, p = diptest(a)
    return TestResult("dip", float(statistic), float(p), len(a), 1, "Hartigan and Hartigan (1985), diptest")


def principal(x: Samples, keep: int | None = None, *, split: bool = False) -> Array:
    """Coordinates on the ``keep`` leading principal axes, of mean 0 and variance 1: II2S, Eq. 2, from the samples.

    With ``split`` every other row gives mean and axes, and the rest is returned. Without, n near d overfits: all
    |z|^2 come near d, whatever the cloud (n = d + 1: they are d), so radii are read with ``split``. The tests by
    axis keep their level either way: normal samples whitened by themselves are a random rotation.
    """
    a, d = _array(x), x.shape[1]
    fit, rest = (a[::2], a[1::2]) if split else (a, a)
    _enough(len(fit), d)
    if keep is not None and not 1 <= keep <= d:
        raise ValueError(f"1 to {d} axes can be kept, not {keep}")
    values, vectors = np.linalg.eigh(np.cov(fit.T, bias=True).reshape(d, d))
    values, vectors = values[::-1][:keep], vectors[:, ::-1][:, :keep]
    if values[-1] < 1e-13 * values[0]:
        raise ValueError("the dimensions are linearly dependent: keep fewer principal axes")
    return (rest - fit.mean(axis=0)) @ (vectors / np.sqrt(values))


def marginals(x: Samples, axes: str = "own", *, test: str = "both", split: bool = False) -> TestResult:
    """Tests of skewness, kurtosis or ``both`` along each axis, in ``table``; their least q says if all are normal.

    axes: the samples' ``own``, or ``principal`` (``split``: fitted on every other row, tested on the rest).
    test: ``both`` is twice the smaller p. Trap: the usual sum of squares, ``scipy.stats.normaltest``, gives
    p < 1e-4 to normal samples 4 times too often at n = 1000, 11 times at n = 100; with 512 axes one looks there.
    Trap: an axis that mixes many independent coordinates looks normal whatever these are, and samples need not
    be normal though all their axes are. II2S finds 219 of 512 normal at 5 %; of normal samples 486 would pass.
    """
    if axes not in ("own", "principal") or (axes == "own" and split):
        raise ValueError(f"axes are 'own' or 'principal', these alone with split; not {axes!r}, split={split}")
    a = _array(x) if axes == "own" else principal(x, split=split)
    return _axis_tests(a, a.shape[1], f"marginals, {axes} axes", test)


def projections(x: Samples, k: int = 64, *, test: str = "both", split: bool = False, seed: int = 0) -> TestResult:
    """The tests of ``marginals`` along k random directions, uniform on the sphere of the whitened samples.

    Samples are normal exactly if all their projections are. Trap: independent coordinates average out to normal;
    of uniform ones nothing is seen in d = 512. What stays is what all coordinates share, such as a heavy-tailed
    radius. Use ``marginals`` as well.
    """
    if k < 1:
        raise ValueError(f"at least one direction is wanted, not {k}")
    a = principal(x, split=split)
    directions = sample("normal", a.shape[1], k, seed=seed, use="directions").numpy()
    return _axis_tests(a @ directions, a.shape[1], f"{k} projections", test)


def _axis_tests(a: Array, d: int, name: str, test: str) -> TestResult:
    if test not in UNIVARIATE:
        raise ValueError(f"test is one of {', '.join(UNIVARIATE)}, not {test!r}")
    statistic = np.max([np.abs(one(a, axis=0).statistic) for one in UNIVARIATE[test]], axis=0)
    p = np.minimum(1, len(UNIVARIATE[test]) * 2 * stats.norm.sf(statistic))
    table = pd.DataFrame({"axis": range(a.shape[1]), "skewness": stats.skew(a), "excess_kurtosis": stats.kurtosis(a)})
    table = table.assign(statistic=statistic, p_value=p, passes=p > 0.05, q_value=stats.false_discovery_control(p))
    least, note = float(table.q_value.min()), f"{table.passes.sum()} of {len(p)} pass at 5 %"
    return TestResult(f"{name} ({test})", float(statistic.max()), least, len(a), d, SOURCE, note, table=table)


def sample(family: str, n: int, d: int, *, seed: int = 0, use: str = "sample") -> Float64[Tensor, "n d"]:
    """n samples in d dimensions of one of ``FAMILIES``, all of mean 0 (``use`` names the stream).

    "uniform" and "t3" (Student's t, 3 degrees of freedom) have independent coordinates; those of "elliptical t3"
    share their radius; "mixture" is two normal clouds 4 standard deviations apart along the diagonal.
    """
    if family not in FAMILIES:
        raise ValueError(f"no family {family!r}: there are {', '.join(FAMILIES)}")
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
    """How often ``test`` rejects at ``alpha``: its level on "normal", its power on the rest.

    A row a family, dimension and test: share ``informative``; share of these ``rejected``, with its 95 %
    interval (Wilson) from ``low`` to ``high``; share that the ``textbook`` p-value rejects. NaN: none to count.
    All repeats of a calibrated test share one null: with 199 draws the level itself is uncertain by 1.5 %.
    """
    rows = []
    for family, d in tqdm(list(product(families, dims)), leave=False, disable=repeats * n * sum(dims) < 1e8):
        found = [test(sample(family, n, d, seed=seed, use=f"repeat {i}")) for i in range(repeats)]
        found = [[f] if isinstance(f, TestResult) else f for f in found]
        rows += [(family, d, n, repeats, *_rates(same, alpha)) for same in zip(*found, strict=True)]
    return pd.DataFrame(rows, columns="family d n repeats test informative rejected low high textbook".split())


def _rates(results: Sequence[TestResult], alpha: float) -> tuple[str, float, float, float, float, float]:
    told = [r.rejects(alpha) for r in results if r.informative]
    textbook = [r.textbook_p <= alpha for r in results if r.textbook_p is not None]
    low, high = stats.binomtest(sum(told), len(told)).proportion_ci(method="wilson") if told else (math.nan,) * 2
    rejected, wrong = (sum(k) / len(k) if k else math.nan for k in (told, textbook))
    return results[0].name, len(told) / len(results), rejected, float(low), float(high), wrong
