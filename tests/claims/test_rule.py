"""Rules: comparison with bars, Holm's correction, verdicts, versions and sample sizes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from latentlab.claims.rule import LEVEL, Estimate, Part, Rule
from latentlab.evaluation.intervals import confidence_interval, samples_needed


def estimate(values: np.ndarray, *, log: bool = False) -> Estimate:
    statistic = stats.gmean if log else np.mean
    sd = float(np.std(np.log(values) if log else values, ddof=1))
    return Estimate(float(statistic(values)), *confidence_interval(values, statistic), len(values), sd, log)


def part(*cells: str, says: str = "a", relation: str = "<", bar: float = 0, **more) -> Part:
    return Part(says, cells, relation, bar, "sign", **more)


def test_p_values_are_those_of_students_test():
    x = np.random.default_rng(0).normal(0.4, 1, 20)
    for bar in (-0.5, 0.0, 0.4, 1.0):
        for relation, alternative in ((">", "greater"), ("<", "less")):
            theirs = stats.ttest_1samp(x, bar, alternative=alternative).pvalue
            assert estimate(x).p_value(relation, bar) == pytest.approx(theirs, abs=1e-12)
    ratios = np.exp(x)
    theirs = stats.ttest_1samp(x, math.log(1.2), alternative="greater").pvalue
    assert estimate(ratios, log=True).p_value(">", 1.2) == pytest.approx(theirs)


def test_the_interval_decides_a_single_cell():
    for end in (-0.01, 0.01):  # also for intervals that are not symmetric
        e = Estimate(-1.0, -9.0, end, n=12)
        assert (e.p_value("<", 0) < LEVEL) == (end < 0)
    equal = Estimate(2.0, 2.0, 2.0, n=5)
    assert equal.p_value(">", 1) == 0 and equal.p_value(">", 2) == 1
    assert Estimate(1.0).p_value(">", 0) == 1  # without an interval nothing is shown
    assert Estimate(math.nan, math.nan, math.nan).p_value(">", 0) == 1


def test_verdicts():
    numbers = {"x": Estimate(-1.0, -2.0, -0.5, 40), "y": Estimate(1.0, 0.5, 2.0, 40), "z": Estimate(3.0)}
    down, up = part("x", says="x falls"), part("y", says="y falls")
    assert Rule("", (down,)).judge(numbers) == ("reproduced", "holds: x falls")
    assert Rule("", (down, up)).judge(numbers) == ("partly reproduced", "holds: x falls; fails: y falls")
    assert Rule("", (up,)).judge(numbers, "So") == ("not reproduced", "fails: y falls. So")
    assert Rule("", (down, part("w", says="w falls"))).judge(numbers) == (
        "partly reproduced", "holds: x falls; not measured: w falls"
    )  # fmt: skip
    assert Rule("", (part("w", says="w falls"),)).judge(numbers)[0] == "not measured"
    below_4 = part("z", says="z is seen", bar=4, exact=True)
    assert Rule("", (down,), (below_4,)).judge(numbers)[0] == "reproduced"
    assert Rule("", (down,), (replace(below_4, bar=2),)).judge(numbers) == (
        "not reproduced", "control that fails: z is seen; holds: x falls"
    )  # fmt: skip


BELOW, ACROSS, ABOVE = Estimate(-1.0, -1.5, -0.5, 40), Estimate(-1.0, -2.5, 0.5, 40), Estimate(1.0, 0.5, 1.5, 40)


def test_nothing_fails_that_is_undecided():
    """Fails: the whole interval on the other side, whatever Holm's correction says."""

    def outcome(e: Estimate, **more) -> str:
        return Rule("", (part("x", **more),)).compare({"x": e})[0].outcome

    assert [outcome(e) for e in (BELOW, ACROSS, ABOVE)] == ["holds", "undecided", "fails"]
    assert [outcome(e, relation=">") for e in (BELOW, ACROSS, ABOVE)] == ["fails", "undecided", "holds"]
    assert [outcome(e, exact=True) for e in (BELOW, ACROSS, ABOVE)] == ["holds", "holds", "fails"]
    assert outcome(Estimate(1.0)) == outcome(Estimate(-1.0)) == "undecided"  # no interval
    assert outcome(Estimate(1.0, -math.inf, math.inf, 5)) == outcome(Estimate(math.nan), exact=True) == "undecided"
    e = replace(ACROSS, high=-0.1)  # p = 0.03, times 2
    cells = Rule("", (part("x", "y", "z"),)).compare({"x": e, "y": e})
    assert [c.outcome for c in cells] == ["undecided", "undecided", "not measured"] and 0.01 < cells[0].p < 0.1


def test_reasons_tell_what_is_undecided_from_what_fails():
    a, b, c = part("a", says="A"), part("b", "c", says="B"), part("c", says="C")
    told = Rule("", (a, b, c)).judge({"a": ABOVE, "b": BELOW, "c": ACROSS})
    assert told == ("not reproduced", "undecided: B (1 holds, 1 undecided), C; fails: A")
    control = part("d", says="D")
    told = Rule("", (a,), (control,)).judge({"a": BELOW, "d": ACROSS})
    assert told == ("not reproduced", "control undecided: D; holds: A")
    assert Rule("", (b,)).summarize({"b": ABOVE}) == {"fails": ["B (1 fails, 1 not measured)"]}
    assert Rule("", (b,)).summarize({"b": ABOVE, "c": ABOVE}) == {"fails": ["B"]}


def test_undecided_does_not_count_as_held():
    """Verdicts of random numbers, by the definition: a comparison is held or not."""
    draw, seen = np.random.default_rng(0), set()
    for _ in range(400):
        names, known = iter("abcdefgh"), (BELOW, BELOW, BELOW, ACROSS, ABOVE, None)
        parts = tuple(part(next(names), next(names), exact=bool(draw.integers(2)), says=str(i)) for i in range(2))
        rule = Rule("", parts, (part(next(names)),) * int(draw.integers(2)))
        drawn = {name: known[draw.integers(len(known))] for name in "abcde"}
        numbers = {name: e for name, e in drawn.items() if e}

        def held(p: Part, numbers=numbers) -> list[bool | None]:
            return [None if name not in numbers else numbers[name].value < 0 if p.exact else numbers[name].high < 0
                    for name in p.cells]  # fmt: skip

        cells = [held(p) for p in parts]
        if any(False in held(p) for p in rule.controls):
            expected = "not reproduced"
        elif not any(all(c) for c in cells):
            expected = "not reproduced" if any(False in c for c in cells) else "not measured"
        else:
            whole = all(all(held(p)) for p in (*parts, *rule.controls))
            expected = "reproduced" if whole else "partly reproduced"
        assert rule.judge(numbers)[0] == expected, (rule, numbers)
        seen.add(expected)
    assert len(seen) == 4


def test_what_algebra_guarantees_does_not_count():
    numbers = {"x": Estimate(-1.0, -2.0, -0.5, 40), "y": Estimate(1.0, 0.5, 2.0, 40)}
    built = part("x", says="x falls", constructed=True)
    assert Rule("", (built,)).judge(numbers) == ("by construction", "by construction: x falls")
    assert Rule("", (built, part("y", says="y falls"))).judge(numbers)[0] == "not reproduced"
    assert Rule("", (built, down := part("y", says="y"))).text.count("Holm") == 0 and down.cells == ("y",)
    wrong = replace(built, relation=">")
    assert Rule("", (wrong, built)).judge(numbers)[0] == "not reproduced"  # then the code is at fault


def test_holm_corrects_over_the_cells_of_a_rule():
    """One cell at p = 0.02 holds, one of six at the same p does not."""
    e = Estimate(-1.0, -1.0 * (1 + stats.norm.isf(LEVEL) / stats.norm.isf(0.02)), 0.0)
    e = replace(e, high=-1.0 + stats.norm.isf(LEVEL) / stats.norm.isf(0.02))
    assert e.p_value("<", 0) == pytest.approx(0.02)
    assert Rule("", (part("a"),)).judge({"a": e})[0] == "reproduced"
    cells = [part(name, says=name) for name in "abcdef"]
    assert Rule("", tuple(cells)).judge(dict.fromkeys("abcdef", e))[0] == "not reproduced"
    sure = dict.fromkeys("bcdef", Estimate(-1.0, -1.1, -0.9))
    assert Rule("", tuple(cells)).judge(sure | {"a": e})[0] == "reproduced"  # the last step is at the full level
    of_six = Rule("", (part(*"abcdef"),)).judge(sure | {"a": replace(e, high=0.1)})
    assert of_six == ("not reproduced", "undecided: a (5 hold, 1 undecided)")


def test_samples_needed_are_those_of_the_corrected_level():
    x = np.random.default_rng(1).normal(-0.3, 1, 12)
    e = estimate(x)
    (cell,) = Rule("", (part("a"),)).compare({"a": e})
    assert cell.needed == samples_needed(x.mean(), x.std(ddof=1)) > 12
    corrected = Rule("", (part("a", "b"),)).compare({"a": e, "b": e})[0].needed
    assert corrected == samples_needed(x.mean(), x.std(ddof=1), level=0.025)
    assert Rule("", (part("a", relation=">"),)).compare({"a": e})[0].needed is None  # it lies on the other side
    ratio = estimate(np.exp(x), log=True)
    assert Rule("", (part("a", bar=1.0),)).compare({"a": ratio})[0].needed == cell.needed


def test_lacking_faces_are_told():
    rule = Rule("", (part("clean_x", "strange_x"),), faces={"clean": 40, "strange": 40})
    few = {"clean_x": Estimate(-1.0, -1.1, -0.9, 40), "strange_x": Estimate(-1.0, -1.1, -0.9, 12)}
    assert rule.judge(few) == ("reproduced", "holds: a; lacks: 28 of 40 strange faces")
    del few["strange_x"]
    assert "lacks: 40 of 40 strange faces" in rule.judge(few)[1]


def test_versions_change_with_any_word_of_the_rule():
    rule = Rule("40 faces", (part("x"),), (part("y"),), {"clean": 40})
    other = [replace(rule, data="41 faces"), replace(rule, parts=(part("x", bar=0.1),)),
             replace(rule, parts=(part("x", exact=True),)), replace(rule, parts=(part("x", relation=">"),)),
             replace(rule, controls=()), replace(rule, parts=(replace(part("x"), source="our own bar"),)),
             replace(rule, faces={"clean": 12})]  # fmt: skip
    assert len({r.version for r in [rule, *other]}) == 8 and replace(rule).version == rule.version
    assert "control: a: the interval of y < 0 (sign)" in rule.text
