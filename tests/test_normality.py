"""Normality tests: agreement with R, MATLAB, pingouin and scipy, level, power, and results that are not informative."""

import sys

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_iris

from latentlab import normality
from latentlab.normality import (
    FAMILIES,
    dip,
    henze_zirkler,
    level_and_power,
    mardia,
    marginals,
    principal,
    projections,
    sample,
)

IRIS = load_iris().data  # rows 0 to 49 are setosa, identical to R's iris[1:50, 1:4]
MULTIVARIATE = {"henze_zirkler": henze_zirkler, "mardia": mardia}
BY_AXIS = {
    "own": marginals,
    "principal": lambda x: marginals(x, "principal"),
    "split": lambda x: marginals(x, "principal", split=True),
    "projections": projections,
}


def waves(n: int, d: int) -> np.ndarray:
    """Samples that do not depend on a random generator: sin(i sqrt(j)) for i = 1..n, j = 2..d+1."""
    return np.sin(np.arange(1, n + 1)[:, None] * np.sqrt(np.arange(2, d + 2)))


def plausible(share: float, repeats: int, level: float = 0.05) -> bool:
    """Whether this fraction of rejections lies in the 99.9 % interval of a test with this level."""
    low, high = stats.binom.interval(0.999, repeats, level)
    return low <= round(share * repeats) <= high


@pytest.mark.parametrize(
    "x, statistic, p, digits",
    [
        (IRIS[:50], 0.9488453, 0.04995356, 7),  # R, MVN 4 (and MATLAB, Trujillo-Ortiz' HZmvntest: p 0.0499536)
        (IRIS[:40], 0.8562336, 0.1503585, 7),  # R, MVN, as quoted in the tests of Math.NET Numerics
        (IRIS[:50, :2], 0.286, 0.915, 3),  # R, tutorial of MVN 6
        (waves(60, 3), 1.374013636042054, 0.00032871171331455535, 12),  # pingouin 0.7.0, run once, not a dependency
        (waves(200, 6), 1.5072729231760247, 2.40595870312056e-24, 12),
    ],
)
def test_henze_zirkler_agrees_with_other_packages(x: np.ndarray, statistic: float, p: float, digits: int):
    found = henze_zirkler(x)
    assert found.statistic == pytest.approx(statistic, abs=0.6 * 10**-digits)
    assert found.textbook_p == pytest.approx(p, rel=1e-6, abs=0.6 * 10 ** -max(digits, 7) if digits > 3 else 6e-4)
    assert found.p_value == found.textbook_p and found.informative


def test_mardia_agrees_with_other_packages():
    """iris setosa: psych 2 (b1), MVN 5.9 (textbook p-values), MVN 4 (p-value with the exact mean of b1)."""
    skewness, kurtosis = mardia(IRIS[:50], calibrate=False)
    assert skewness.statistic == pytest.approx(3.079721342, abs=1e-9)
    assert skewness.textbook_p == pytest.approx(0.177185884467652, abs=1e-12)
    assert kurtosis.statistic == pytest.approx(24 + 1.29499223711605 * np.sqrt(8 * 24 / 50), abs=1e-9)
    assert kurtosis.textbook_p == pytest.approx(0.195322907441935, abs=1e-12)
    assert normality._mardia_limits(3.079721342, 26.5, 50, 4)[1][0] == pytest.approx(0.1127617, abs=1e-7)


def test_mardia_by_hand():
    """The 25 points of {2, -1/2 (4 times)}^2: two independent axes with moments 0, 1, 3/2, 13/4."""
    axis = np.array([2, -0.5, -0.5, -0.5, -0.5])
    x = np.stack(np.meshgrid(axis, axis), -1).reshape(25, 2)
    skewness, kurtosis = mardia(x, calibrate=False)
    assert skewness.statistic == pytest.approx(2 * 1.5**2) and kurtosis.statistic == pytest.approx(2 * 3.25 + 2)
    assert skewness.textbook_p == pytest.approx(stats.chi2.sf(25 * 4.5 / 6, 4))
    assert kurtosis.textbook_p == pytest.approx(2 * stats.norm.sf(0.5 / np.sqrt(8 * 8 / 25)))


@pytest.mark.parametrize("n, d", [(2100, 3), (2100, 50), (60, 8)])  # third moments, Gram in two slices, Gram in one
def test_slices_agree_with_whole_matrices(n: int, d: int):
    x = sample("t3", n, d).numpy()
    c = x - x.mean(0)
    g = c @ np.linalg.inv(c.T @ c / n) @ c.T
    r = np.diag(g)
    skewness, kurtosis = mardia(x, calibrate=False)
    assert skewness.statistic == pytest.approx((g**3).mean()) and kurtosis.statistic == pytest.approx((r**2).mean())
    b2 = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2
    pairs = np.exp(-b2 / 2 * (r[:, None] + r - 2 * g)).sum() / n
    rest = -2 * (1 + b2) ** (-d / 2) * np.exp(-b2 / (2 + 2 * b2) * r).sum() + n * (1 + 2 * b2) ** (-d / 2)
    assert henze_zirkler(x).statistic == pytest.approx(pairs + rest)


def test_marginals_agree_with_scipy():
    x = sample("t3", 300, 5)
    table = marginals(x).table
    skewness, kurtosis = stats.skewtest(x.numpy()), stats.kurtosistest(x.numpy())
    np.testing.assert_allclose(table.p_value, np.minimum(1, 2 * np.minimum(skewness.pvalue, kurtosis.pvalue)))
    np.testing.assert_allclose(table.q_value, stats.false_discovery_control(table.p_value))
    np.testing.assert_allclose(table.skewness, stats.skew(x.numpy()))
    np.testing.assert_allclose(table.excess_kurtosis, stats.kurtosis(x.numpy()))
    np.testing.assert_allclose(marginals(x, test="skewness").table.p_value, skewness.pvalue)
    np.testing.assert_allclose(marginals(x, test="kurtosis").table.p_value, kurtosis.pvalue)
    found = marginals(x)
    assert found.p_value == table.q_value.min() and found.note == f"{(table.p_value > 0.05).sum()} of 5 pass at 5 %"


def test_affine_invariance():
    x = sample("mixture", 150, 4)
    moved = x @ sample("normal", 4, 4) * torch.tensor([1e-3, 1, 10, 1e4]) + torch.arange(4)
    for a, b in zip([henze_zirkler(x), *mardia(x)], [henze_zirkler(moved), *mardia(moved)], strict=True):
        assert b.statistic == pytest.approx(a.statistic, rel=1e-8)
        assert b.p_value == pytest.approx(a.p_value, rel=1e-6)


def test_input_types():
    x = sample("normal", 100, 3)
    assert henze_zirkler(x.numpy()) == henze_zirkler(x) == henze_zirkler(x.clone().requires_grad_())
    assert henze_zirkler(x.float()).statistic == pytest.approx(henze_zirkler(x).statistic, rel=1e-5)


@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("name", [*MULTIVARIATE, *BY_AXIS])
def test_level_on_normal_samples(name: str, d: int):
    table = level_and_power((MULTIVARIATE | BY_AXIS)[name], ["normal"], [d], n=200, repeats=150)
    assert (table.informative == 1).all()
    assert all(plausible(share, 150) for share in table.rejected), table


def test_power_and_blind_spots():
    shown = level_and_power(henze_zirkler, dims=[2, 8], n=500, repeats=10).set_index(["family", "d"]).rejected
    assert all(shown[family, 2] == 1 for family in FAMILIES if family != "normal")
    assert shown["t3", 8] == shown["elliptical t3", 8] == 1
    shown = level_and_power(mardia, dims=[8], n=500, repeats=20).set_index(["test", "family"]).rejected
    assert shown["Mardia's skewness", "t3"] == shown["Mardia's kurtosis", "uniform"] == 1
    assert shown["Mardia's skewness", "uniform"] <= 0.1  # symmetric


def test_no_choice_of_axes_detects_everything():
    mixture, uniform, elliptical = (sample(family, 1000, 128) for family in ("mixture", "uniform", "elliptical t3"))
    assert not marginals(mixture).rejects() and marginals(mixture, "principal").rejects()
    assert marginals(uniform).rejects(1e-6) and not projections(uniform).rejects()
    assert projections(elliptical).rejects(1e-6) and marginals(elliptical).table.passes.sum() == 0
    passing = marginals(sample("normal", 1000, 128), "principal").table.passes.mean()
    assert plausible(1 - passing, 128)


@pytest.mark.parametrize("family", ["normal", "uniform", "t3"])
def test_henze_zirkler_is_not_informative_at_the_papers_n_and_d(family: str):
    """The textbook p-value there is 0.5 for independent coordinates of any distribution."""
    found = henze_zirkler(sample(family, 1000, 512))
    assert found.textbook_p == pytest.approx(0.5) and found.statistic == pytest.approx(1)
    assert found.p_value is None and not found.informative and not found.rejects()
    assert "not informative" in repr(found) and "test fewer axes" in repr(found)
    assert henze_zirkler(principal(sample("t3", 1000, 64), 16)).rejects()


def test_henze_zirkler_is_informative_up_to_39_dimensions_for_1000_samples():
    assert henze_zirkler(sample("normal", 1000, 39)).informative
    assert not henze_zirkler(sample("normal", 1000, 40)).informative


def test_calibration_keeps_the_level_of_mardia_in_128_dimensions():
    table = level_and_power(lambda x: mardia(x, draws=99), ["normal"], [128], n=1000, repeats=20).set_index("test")
    assert (table.informative == 1).all() and all(plausible(share, 20) for share in table.rejected), table
    assert table.textbook["Mardia's kurtosis"] > 0.5 and table.textbook["Mardia's skewness"] < 0.05
    for result in mardia(sample("t3", 1000, 128), draws=99):
        assert result.rejects() and result.p_value <= 0.02 and "99 normal samples" in result.note
    assert not any(result.informative for result in mardia(sample("t3", 1000, 128), calibrate=False))


def test_exact_moments_and_calibration_agree():
    x = sample("normal", 400, 4, use="another")
    for exact, drawn in zip(mardia(x), mardia(x, calibrate=True, draws=999), strict=True):
        assert not exact.note and drawn.note
        assert drawn.p_value == pytest.approx(exact.p_value, abs=0.06)


def test_results_are_reproducible_by_seed():
    x = sample("mixture", 60, 3)
    first = mardia(x)
    normality._mardia_null.cache_clear()
    assert mardia(x) == first
    assert [t.p_value for t in mardia(x, seed=1)] != [t.p_value for t in first]
    assert projections(x, 8) == projections(x, 8) != projections(x, 8, seed=1)
    assert torch.equal(sample("t3", 5, 2), sample("t3", 5, 2))
    assert not torch.equal(sample("t3", 5, 2), sample("t3", 5, 2, seed=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_their_distributions(family: str):
    x = sample(family, 20_000, 3)
    assert x.dtype == torch.float64 and x.median(0).values.abs().max() < 0.1
    if family == "uniform":
        assert x.abs().max() <= 3**0.5
        assert stats.kstest(x[:, 0].numpy(), "uniform", (-(3**0.5), 12**0.5)).pvalue > 1e-3
    if "t3" in family:
        assert stats.kstest(x[:, 0].numpy(), "t", (3,)).pvalue > 1e-3
    if family == "mixture":
        along = x.sum(1) / 3**0.5
        assert float(along.std()) == pytest.approx(5**0.5, rel=0.02)


def test_principal_axes_whiten():
    x = sample("normal", 400, 6) * torch.tensor([5.0, 4, 3, 2, 1, 0.5]).double() + 7
    z = principal(x)
    np.testing.assert_allclose(z.T @ z / 400, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(principal(x, 2), z[:, :2])
    assert abs(np.corrcoef(z[:, 0], x[:, 0])[0, 1]) > 0.9  # largest variance first
    halves = principal(x, split=True)
    assert halves.shape == (200, 6) and 0.5 < halves.var() < 2


def test_split_shows_radii_that_whitening_equalises():
    """Heavy-tailed radius, 80 samples for 64 axes: samples whitened by themselves all have |z|^2 close to 64."""
    x = sample("elliptical t3", 160, 64)
    hidden, shown = ((z**2).sum(1) for z in (principal(x[::2]), principal(x, split=True)))
    assert hidden.mean() == pytest.approx(64) and hidden.std() < 0.3 * hidden.mean()
    assert shown.std() > shown.mean()


def test_dip_counts_modes():
    pytest.importorskip("diptest", reason="diptest (GPL) is optional")
    one, two = sample("normal", 1000, 1)[:, 0], sample("mixture", 1000, 1)[:, 0]
    assert dip(one).p_value > 0.5 and dip(two.numpy()).p_value < 0.01
    assert dip(np.repeat([0.0, 1.0], 20)).statistic == pytest.approx(0.25)  # two atoms: the largest possible dip
    assert dip(np.arange(50.0)).p_value > 0.99
    assert dip(sample("normal", 80_000, 1)[:, 0]).p_value > 0.5  # beyond the package's table
    with pytest.raises(ValueError, match="expected at least 20 in 1 dimensions, got 19"):
        dip(one[:19])


def test_dip_takes_one_axis(unchecked):
    pytest.importorskip("diptest", reason="diptest (GPL) is optional")
    with pytest.raises(ValueError, match=r"x: expected one axis of shape \(n,\), got \(30, 4\)"):
        dip(sample("normal", 30, 4))


def test_dip_without_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diptest", None)
    with pytest.raises(ImportError, match="pip install diptest"):
        dip(np.arange(50.0))


def test_level_and_power_table():
    table = level_and_power(henze_zirkler, ["normal", "t3"], [2, 40], n=100, repeats=4, alpha=1)
    assert list(table.family) == ["normal"] * 2 + ["t3"] * 2 and list(table.d) == [2, 40] * 2
    assert list(table.informative) == [1, 0, 1, 0] and table.rejected.isna().tolist() == [False, True] * 2
    assert (table.rejected[::2] == 1).all() and (table.low[::2] < 1).all() and (table.high[::2] >= 1 - 1e-9).all()
    assert level_and_power(marginals, ["t3"], [2], n=50, repeats=2).textbook.isna().all()


def test_bad_input(unchecked):
    x = sample("normal", 30, 4)
    for test in (henze_zirkler, mardia, marginals, projections, principal):
        with pytest.raises(ValueError, match="samples: expected finite values, got NaN"):
            test(x * torch.nan)
        with pytest.raises(ValueError, match=r"samples: expected shape \(n, d\) with d >= 1, got \(30,\)"):
            test(x[:, 0])
        with pytest.raises(ValueError, match=r"samples: expected shape \(n, d\) with d >= 1, got \(30, 0\)"):
            test(x[:, :0])
        with pytest.raises(ValueError, match="expected dimensions that vary, got 1 constant, the first at index 2"):
            test(x * torch.tensor([1, 1, 0, 1]) + 5)
        with pytest.raises(ValueError, match="expected at least 20 in 1 dimensions, got 19"):
            test(x[:19])
    for test in (henze_zirkler, mardia, projections, principal):
        with pytest.raises(ValueError, match="expected at least 31 in 29 dimensions, got 30"):
            test(sample("normal", 30, 29))
        with pytest.raises(ValueError, match="expected linearly independent dimensions"):
            test(torch.cat([x, x[:, :1] + x[:, 1:2]], 1))
    for test in (henze_zirkler, mardia):
        with pytest.raises(ValueError, match="expected at least 2 dimensions, got 1; use marginals"):
            test(x[:, :1])


def test_bad_arguments(unchecked):
    x = sample("normal", 30, 4)
    with pytest.raises(ValueError, match="expected at least 20 in 15 dimensions, got 15"):
        principal(sample("normal", 30, 15), split=True)
    with pytest.raises(ValueError, match="keep: expected 1 to 4 axes, got 5"):
        principal(x, 5)
    with pytest.raises(ValueError, match="axes: expected 'own', or 'principal' .*, got 'pca'"):
        marginals(x, "pca")
    with pytest.raises(ValueError, match="'principal' .also with split., got 'own' with split=True"):
        marginals(x, split=True)
    with pytest.raises(ValueError, match="test: expected one of skewness, kurtosis, both; got 'shapiro'"):
        marginals(x, test="shapiro")
    with pytest.raises(ValueError, match="k: expected at least 1 direction, got 0"):
        projections(x, 0)
    with pytest.raises(ValueError, match="family: expected one of normal, .*; got 'cauchy'"):
        sample("cauchy", 30, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", "principal", "projections"])
def test_level_in_512_dimensions(name: str):
    table = level_and_power(BY_AXIS[name], ["normal"], [512], n=1000, repeats=60)
    assert plausible(float(table.rejected[0]), 60), table


@pytest.mark.slow
def test_mardia_in_512_dimensions():
    table = level_and_power(lambda x: mardia(x, draws=99), ["normal", "uniform"], [512], n=1000, repeats=20)
    shown = table.set_index(["test", "family"])
    assert all(plausible(share, 20) for share in shown.rejected[:, "normal"]), table
    assert shown.rejected["Mardia's kurtosis", "uniform"] == 1
    assert shown.textbook["Mardia's kurtosis", "normal"] == 1  # the textbook p-value rejects all normal samples
