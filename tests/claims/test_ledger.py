"""The ledger's file, its state, and what the command prints and writes."""

import json
import math
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from worlds import world

from latentlab import claims
from latentlab.claims import ledger, pages
from latentlab.claims.explanations import NUMBERS
from latentlab.claims.finding import Finding, over_resamples, over_samples
from latentlab.claims.reasons import why
from latentlab.claims.rule import Cell, Estimate
from latentlab.cli import main
from latentlab.evaluation.intervals import confidence_interval, coverage

RECORDED = ledger.recorded_ids()


@pytest.fixture
def shipped(monkeypatch):
    """A small generator in the place of the shipped one."""
    G = world()
    monkeypatch.setattr(ledger, "_shipped", lambda: G)
    monkeypatch.setattr(ledger, "_mark", lambda: ledger.fingerprint(G, "generator"))
    return G


def test_the_ledger_gives_back_what_was_entered(tmp_path, shipped):
    path = tmp_path / "new" / "claims.json"
    (first,) = claims.write(["LSAP-1"], path, full=False)
    (second,) = claims.write(["II2S-4"], path, full=False)
    assert claims.recorded("LSAP-1", path) == first and claims.recorded("II2S-4", path) == second
    assert first.provenance["images"] is None and first.provenance["command"] == "latentlab claims --only LSAP-1"
    table = claims.table(path)
    assert list(table["id"]) == ["II2S-4", "LSAP-1"] and "norm_error" in table["measured"][0]
    assert list(table.columns[:6]) == ["id", "statement", "paper value", "measured", "verdict", "reason"]
    with pytest.raises(ValueError, match=r"expected a claim that the ledger holds \(II2S-4, LSAP-1\), got 'II2S-2'"):
        claims.recorded("II2S-2", path)
    with pytest.raises(ValueError, match="id: expected one of II2S-1, .*, got 'II2S-99'"):
        claims.measure("II2S-99")


def test_other_rules_and_other_weights_are_seen(tmp_path, shipped, monkeypatch):
    path = tmp_path / "claims.json"
    claims.write(["LSAP-1"], path, full=False)
    assert claims.recorded("LSAP-1", path).outdated == "" and "*" not in pages.line("LSAP-1", path)
    entries = json.loads(path.read_text())
    entries["LSAP-1"]["rule"] = "00000000"
    path.write_text(json.dumps(entries))
    found = claims.recorded("LSAP-1", path)
    assert found.outdated == "measured under an earlier version of the rule: to be measured again"
    assert "*" in pages.line("LSAP-1", path) and "recorded under 00000000" in found.explained()
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries | {"LSAP-4": {"provenance": {"fingerprint": "another"}}}))
    monkeypatch.setattr(ledger, "_mark", lambda: "another")
    outdated = claims.recorded("LSAP-1", path).outdated
    assert "under an earlier version of the rule and with other weights" in outdated
    assert f"({ledger.fingerprint(shipped, 'generator')}, now another)" in outdated


def test_a_ledger_of_another_generator_is_refused(tmp_path, shipped, monkeypatch):
    path, mark = tmp_path / "claims.json", ledger.fingerprint(shipped, "generator")
    claims.write(["LSAP-1"], path, full=False)
    monkeypatch.setattr(ledger, "_mark", lambda: "another")
    for read in (claims.table, partial(claims.recorded, "LSAP-1"), partial(claims.write, ["II2S-4"], full=False)):
        with pytest.raises(ValueError, match=f"a ledger of faces-64, another, got one of the generator {mark}; name"):
            read(path=path)


def test_other_generators_stand_beside_the_first(tmp_path, shipped):
    path, other = tmp_path / "claims.json", world(config=replace(shipped.config, w_dim=16))
    with pytest.raises(ValueError, match="expected a finding of faces-64 to put that of second beside, got none"):
        claims.write(["LSAP-1"], path, full=False, G=other, name="second")
    (first,) = claims.write(["LSAP-1"], path, full=False)
    (second,) = claims.write(["LSAP-1"], path, full=False, G=other, name="second")
    found = claims.recorded("LSAP-1", path)
    assert found.measured == first.measured and found.others["second"]["measured"] == second.measured
    assert "with second: partly reproduced" in found.explained().replace("\n", " ")
    (again,) = claims.write(["LSAP-1"], path, full=False)
    assert "second" in claims.recorded("LSAP-1", path).others  # kept


def test_a_half_written_ledger_is_recovered(tmp_path, shipped):
    path = tmp_path / "claims.json"
    claims.write(["II2S-4", "LSAP-1"], path, full=False)
    assert not path.with_name("claims.json.partial").exists()
    whole = path.read_text()
    path.write_text(whole[: whole.index('"LSAP-1"') + 200])
    with pytest.warns(UserWarning, match=r"got a damaged file; its whole entries are kept \(II2S-4\)"):
        assert ledger.recorded_ids(path) == ["II2S-4"]
    with pytest.warns(UserWarning, match="damaged"):
        claims.write(["LSAP-1"], path, full=False)
    assert json.loads(path.read_text()).keys() == json.loads(whole).keys()
    path.write_text(whole[:40])
    with pytest.raises(ValueError, match="expected a ledger in JSON, got a file without a whole entry"):
        claims.table(path)


def test_few_faces_are_refused_where_nothing_can_be_said(shipped, tmp_path):
    with pytest.raises(ValueError, match="faces: expected at least 2, got 1"):
        claims.write(["II2S-7"], tmp_path / "l.json", faces=1)


@pytest.mark.parametrize("id", RECORDED)
def test_the_committed_verdicts_are_what_the_rules_say(id: str):
    found = claims.recorded(id)
    assert "--full" in found.provenance["command"] and found.provenance["images"] > 0
    if found.outdated:
        assert "to be measured again" in found.outdated and f"{found.verdict}*" in pages.line(id)
    else:
        assert claims.CLAIMS[id].judge(found) == (found.verdict, found.reason)


def test_every_claim_has_a_rule_that_says_where_its_bars_come_from():
    versions = [claim.rule.version for claim in claims.CLAIMS.values()]
    assert len(set(versions)) == len(versions)
    for claim in claims.CLAIMS.values():
        assert claim.rule.data and all(part.source and part.cells for part in claim.rule.parts), claim.id
        assert set(RECORDED) <= claims.CLAIMS.keys()


def test_the_command_prints_a_line_a_claim(capsys, tmp_path):
    assert main(["claims"]) == 0
    printed = capsys.readouterr().out
    rows = printed.splitlines()[1:]
    assert [row.split()[0] for row in rows[: len(claims.CLAIMS)]] == list(claims.CLAIMS)
    assert all(claims.recorded(id).verdict in printed for id in RECORDED) and max(map(len, rows)) <= 100
    assert main(["claims", "--only", "LSAP-1"]) == 0
    assert sum(row.startswith("LSAP-1") for row in capsys.readouterr().out.splitlines()) == 1
    assert main(["claims", "--explain", "LSAP-1"]) == 0
    explained = capsys.readouterr().out
    assert "measured:" in explained and "against the bars" in explained
    assert claims.CLAIMS["LSAP-1"].rule.version in explained
    assert max(map(len, explained.splitlines())) <= 100
    assert main(["claims", "--ledger", str(tmp_path / "none.json")]) == 2
    assert "expected a ledger, got no file" in capsys.readouterr().err


def test_the_command_measures_and_writes(monkeypatch, capsys, tmp_path, shipped):
    monkeypatch.setattr("latentlab.weights.generators.load", lambda name, device: shipped)
    assert main(["claims", "--full", "--only", "LSAP-1", "--ledger", str(tmp_path / "l.json")]) == 0
    printed = capsys.readouterr().out
    assert "LSAP-1: no descents" in printed and "partly reproduced" in printed
    provenance = claims.recorded("LSAP-1", tmp_path / "l.json").provenance
    assert provenance["command"] == "latentlab claims --full --only LSAP-1" and provenance["generator"] == "faces-64"


def test_the_command_says_what_is_left(monkeypatch, capsys, shipped):
    monkeypatch.setattr("latentlab.weights.generators.load", lambda name, device: shipped)
    command = ["claims", "--left", "--only", "II2S-7", "LSAP-1", "--faces", "2", "--kinds", "clean"]
    assert main(command) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows == ["II2S-7   0 of 14 descents are made, the others in a time that is not known yet",
                    "LSAP-1   no descents"]  # fmt: skip
    assert main(command[:-2]) == 0 and "0 of 28 descents" in capsys.readouterr().out


def test_samples_and_need_are_of_one_comparison(monkeypatch):
    """Of the comparison that needs the most, not the smallest n beside the largest need."""
    def cell(name: str, n: int, needed: int | None, **more) -> Cell:
        return Cell(replace(rule.parts[0], **more), name, Estimate(1.0, 0.5, 1.5, n), 0.01, "holds", needed)

    rule, found = claims.CLAIMS["E4E-1"].rule, claims.recorded("E4E-1")
    cells = [cell("a", 80, 55), cell("b", 12, 9), cell("c", 40, None), cell("d", 3, 99, says="a control")]
    monkeypatch.setattr(Finding, "cells", cells)
    assert found.power == (80, 55) and "80 / 55 " in pages.line("E4E-1")
    cells[:] = [cell("a", 80, None), cell("b", 12, None)]
    assert found.power == (12, None) and "12 / - " in pages.line("E4E-1")
    cells[:] = [Cell(rule.parts[0], "a", None, math.nan, "not measured", None)]
    assert found.power == (None, None) and "/" not in pages.line("E4E-1").split("A (")[0]


def test_the_page_tells_outcomes_apart_and_folds_the_numbers():
    written = pages.PAGE.read_text()
    section = written.split("\n## E4E-5\n")[1].split("\n## ")[0]
    outcomes = claims.recorded("E4E-5").outcomes
    assert {"undecided", "fails"} <= outcomes.keys()
    assert all(f"\n- *{word}*: {says}\n" in section for word, says in outcomes.items())
    folded = re.findall(r"<details><summary>(.+?)</summary>\n\n(\|.+?\|)\n\n</details>\n", section, re.DOTALL)
    assert [title for title, _ in folded] == ["All numbers", "Controls"]
    found = claims.recorded("E4E-5")
    for (_, table), numbers in zip(folded, (found.measured, found.controls), strict=True):
        rows = [[cell.strip().replace("\\", "") for cell in row.split("|")[1:-1]] for row in table.splitlines()]
        assert rows[0] == ["number", "value", "95 % interval"] and [row[0] for row in rows[2:]] == list(numbers)
    told = {row.split("|")[1].strip().replace("\\", ""): row.split("|")[5].strip()
            for row in section.splitlines() if row.count("|") == 9}  # fmt: skip
    assert {cell.name: cell.outcome for cell in found.cells}.items() <= told.items()
    introduction = written.split("\n## ")[0]
    assert all(f"| {word} | " in introduction for word in ("holds", "fails", "undecided"))
    assert written.count("<details>") == written.count("</details>") > 20


def test_no_part_is_taken_for_two():
    """A reason separates parts by semicolons, so none has one of its own."""
    for claim in claims.CLAIMS.values():
        assert not any("; " in part.says for part in (*claim.rule.parts, *claim.rule.controls)), claim.id


def test_the_page_is_that_of_the_ledger():
    """`latentlab claims --pages` has been run since the ledger or a rule changed."""
    written = pages.PAGE.read_text()
    assert written == pages.page(coverages=pages.read_between(written, "coverage")), "run `latentlab claims --pages`"
    assert pages.short_table() in written


def test_the_page_keeps_its_coverage(tmp_path, shipped):
    path = tmp_path / "claims.json"
    claims.write(["LSAP-1"], path, full=False)
    assert pages.write_pages(path, folder=tmp_path, coverages="| n |") == [tmp_path / "docs" / "claims.md"]
    page = (tmp_path / "docs" / "claims.md").read_text()
    assert "[LSAP-1](#lsap-1)" in page and "not measured yet" in page
    assert "| n |" in page and "## LSAP-1" in page and claims.CLAIMS["II2S-9"].rule.version in page
    pages.write_pages(path, folder=tmp_path)
    assert (tmp_path / "docs" / "claims.md").read_text() == page  # the coverage stays
    (tmp_path / "docs" / "claims.md").write_text("no marks")
    with pytest.raises(ValueError, match="page: expected '<!-- coverage"):
        pages.write_pages(path, folder=tmp_path)


def test_coverage_on_the_page_is_the_simulations():
    """One cell of the table again, with fewer sets."""
    rows = pages.read_between(pages.PAGE.read_text(), "coverage").splitlines()
    cells = {tuple(c.strip() for c in row.split("|")[1:3]): [float(c) for c in row.split("|")[3:6]]
             for row in rows if row.startswith(("| normal", "| exp", "| log"))}  # fmt: skip
    assert len(cells) == 12
    for population in ("normal", "exponential"):
        again = coverage(12, population, sets=500, resamples=400)
        assert cells[population, "12"] == pytest.approx([again[m] for m in pages.METHODS], abs=0.05)


def test_shares_have_wilsons_interval_and_differences_have_not():
    """A column of booleans is a share; a difference that happens to be 0 or 1 on every face is none."""
    hits = np.arange(40) < 38
    columns = {"share": torch.from_numpy(hits), "difference": hits.astype(float), "none": np.zeros(40, bool)}
    found = over_samples(columns)
    assert found["intervals"]["share"] == pytest.approx([0.8350, 0.9862], abs=1e-4)  # Wilson (1927)
    assert found["intervals"]["difference"] == pytest.approx(list(stats.ttest_1samp(hits, 0).confidence_interval()))
    assert found["intervals"]["none"] == pytest.approx([0, 0.0876], abs=1e-4) and found["measured"]["none"] == 0
    assert found["measured"]["share"] == 0.95 and found["samples"]["share"] == found["samples"]["difference"]
    for id in RECORDED:  # no recorded share leaves the unit interval, and none is a rule's own number
        e = claims.recorded(id)
        shares = {k: e.intervals[k] for k in e.controls if k.startswith("matched_")}
        assert all(0 <= low < high <= 1 for low, high in shares.values()), (id, shares)


def test_what_is_no_mean_is_resampled_over_faces():
    values = np.random.default_rng(0).exponential(size=30)
    found = over_resamples({"median": (lambda faces, axis=-1: np.median(values[faces.astype(int)], axis), 30)})
    assert found["measured"]["median"] == np.median(values) and found["samples"]["median"] == {"n": 30}
    assert found["intervals"]["median"] == confidence_interval(values, np.median, method="bca")


def test_findings_of_ratios_know_their_samples():
    found = Finding({"x": 2.0}, {"x": [1.0, 4.0]}, samples={"x": {"n": 9, "sd": 0.9, "log": 1}})
    e = found.estimates["x"]
    assert (e.value, e.low, e.high, e.n, e.sd, e.log) == (2.0, 1.0, 4.0, 9, 0.9, True)


def test_an_excerpt_has_the_numbers_asked_for_and_folds_the_rest():
    found = claims.recorded("II2S-1")
    cut = found.excerpt("w_median", "untrained_*")
    assert {"w_median", "untrained_w_median"} <= set(cut.names) and "p_median" not in cut.names
    text, page = repr(cut), cut._repr_html_()
    assert f"w_median {found.measured['w_median']:.3g}" in text and found.verdict in text
    shown, _, folded = page.partition("<details>")
    assert "w_median" in shown and found.verdict in shown and "<td>p_median" not in shown
    assert "p_median" in folded and "<script" not in page
    with pytest.raises(ValueError, match="names: expected numbers among w_median"):
        found.excerpt("nonsense")
    assert "nonsense not measured yet" in repr(replace(found, outdated="another rule").excerpt("nonsense"))


def explained_names(id: str) -> dict[str, str]:
    """The names in an explanation, with a pattern in which "x", "a", "b", "y" and ".." stand for anything."""
    quoted = re.findall("`([^`]+)`", NUMBERS[id])
    wild = {name: ".*".join(re.escape(part) for part in name.split("..")) for name in quoted}
    return {name: re.sub(r"(?<![a-z])[abxy](?![a-z])", ".+", pattern) for name, pattern in wild.items()}


def cells_of(id: str) -> set[str]:
    rule = claims.CLAIMS[id].rule
    return {name for part in (*rule.parts, *rule.controls) for name in part.cells}


@pytest.mark.parametrize("id", claims.CLAIMS)
def test_the_numbers_of_every_rule_are_explained(id: str):
    """Each contains one of the names in the explanation."""
    patterns = explained_names(id).values()
    for name in cells_of(id):
        assert any(re.search(pattern, name) for pattern in patterns), name


@pytest.mark.parametrize("id", claims.CLAIMS)
def test_explanations_have_no_names_of_numbers_that_do_not_exist(id: str):
    """Each is part of the name of a number that the rule names or the ledger holds. Names with ".." are left out: they
    are mostly of numbers beside the rule, which are known only once the claim is measured."""
    found = claims.recorded(id) if id in RECORDED else Finding({})
    if found.outdated:
        pytest.skip("the numbers of today's measurement are not in the ledger yet")
    known = cells_of(id) | found.measured.keys() | found.controls.keys()
    names = {name: pattern for name, pattern in explained_names(id).items() if ".." not in name}
    assert not [name for name, pattern in names.items() if not any(re.search(pattern, number) for number in known)]


def test_a_reason_is_given_from_the_numbers_and_changes_no_verdict():
    found = claims.recorded("EDIT-4")
    fewer = replace(found, outdated="", settings=found.settings | {"faces": 28}, verdict="partly reproduced")
    assert why(fewer).startswith("Lacks: 12 of 40 clean faces.")
    assert "Lacks" not in why(replace(fewer, settings={"faces": 40}))
    assert why(replace(fewer, verdict="reproduced")) == why(replace(fewer, outdated="other weights")) == ""
    assert "Lacks" in fewer.explained() and claims.CLAIMS["EDIT-4"].judge(fewer) == claims.CLAIMS["EDIT-4"].judge(found)


def test_reasons_are_given_only_where_the_numbers_say_so():
    found = replace(claims.recorded("E4E-4"), outdated="", verdict="not reproduced")
    assert "returns the same code" in why(found)
    better = {name: 1.5 if name.endswith("_constant") else value for name, value in found.measured.items()}
    assert why(replace(found, measured=better)) == ""
    wide = replace(claims.recorded("II2S-8"), outdated="", verdict="partly reproduced")
    assert "pSp's codes" in why(wide)
    assert why(replace(wide, measured={name: 3.0 for name in wide.measured})) == ""
    b = replace(claims.recorded("E4E-6"), outdated="", verdict="not reproduced")
    assert why(b).startswith("B, with short offsets")
    assert why(replace(b, measured=b.measured | {"clean_lec_B": 1.2})) == ""
    assert why(replace(b, intervals=b.intervals | {"clean_error_A": [0.1, 0.2]})) == ""


@pytest.mark.parametrize(("id", "says", "otherwise"), [
    ("TWO-1", "0.25 to 0.28 less of the change", {"controls": {"asked_clean_11_reach": 0.1}}),
    ("CLCAE-1", "costs 1.4 to 2.4 dB", {"measured": {"clean_21_psnr": 0.5}}),
    ("CLCAE-2", "the part that holds is ours", {"measured": {"strange_block_psnr": 0.2}}),
    ("CLCAE-4", "W+ is below pSp and e4e", {"measured": {"clean_psp_to_w+_psnr": 0.2}}),
])  # fmt: skip
def test_reasons_of_trained_runs_end_where_a_number_turns(id, says, otherwise):
    found = replace(claims.recorded(id), outdated="")
    assert says in why(found)
    ((part, values),) = otherwise.items()
    assert why(replace(found, **{part: getattr(found, part) | values})) == ""
