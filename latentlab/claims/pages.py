"""The ledger as text: a line a claim for a terminal, and the page in docs, which begins with a short table."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from latentlab.claims.explanations import COMMON, NUMBERS
from latentlab.claims.finding import WIDTH, Finding, p_text
from latentlab.claims.ledger import CLAIMS, recorded, recorded_ids
from latentlab.claims.reasons import why
from latentlab.claims.rule import Cell
from latentlab.evaluation.intervals import METHODS, POPULATIONS, coverage

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "claims.md"
SIZES = (12, 24, 40, 120)  # samples behind the ledger's intervals
FOOTNOTES = {"*": "measured under an earlier version of its rule, or with other weights: to be measured again"}
INTRODUCTION = f"""# The claims ledger

Each claim is judged by a rule that was committed before its data and that stands in `latentlab/claims/rules.py`: what
must hold, against which bar, and where the bar comes from (the paper's words, a sign, an equality with a margin, or a
bar of our own). A rule has a version; data measured under another version, or with other weights, are marked with a
star and count for nothing until they are measured again. Faces without (clean) and with out-of-domain detail (strange)
are judged apart. Intervals are at 95 %, over faces, each with random starts of its own where starts are random:
Student's for means, and for ratios through their logarithms; Wilson's for shares; by resampling (BCa, or the jackknife)
for what is no mean.

A part of a rule sets one or more numbers against a bar. Each comparison has one of three outcomes:

| outcome | meaning |
|---|---|
| holds | the whole interval lies on the claimed side of the bar, also after Holm's correction |
| fails | the whole interval lies on the other side of the bar |
| undecided | neither: the data do not tell |

Where a rule says that the number decides, and not its interval, the comparison holds or fails by the side on which the
number lies. A part holds if all its comparisons hold, and fails if one fails; else it is undecided, or not measured.
Where the comparisons of a part differ, they are counted in brackets. A control is a condition without which the
measurement shows nothing: it must hold as well, and is told only where it does not. In the tables of comparisons,

- *p, after Holm* is the two-sided p-value after Holm's correction over all comparisons of the rule: below .05 the
  comparison holds; 1 where the number lies on the other side of the bar. Controls, and what is by construction, are
  not part of the correction, and their p-values are without it;
- *n* is the number of samples, most often of faces;
- *for 80 %* is the number of samples with which such a comparison would hold in 80 % of cases, at the level that
  Holm's correction asks of the smallest p-value, if samples go on to vary as they did. It is empty where the number
  lies on the other side of the bar, and where the spread of the samples is not known.

| verdict | meaning |
|---|---|
| by construction | algebra guarantees it; the measurement checks the code |
| reproduced | all parts of the rule hold |
| partly reproduced | some parts hold; others fail, are undecided or were not measured |
| not reproduced | no part holds, or a control does not hold |

*With* another generator: the same rule, measured on that one. The mapping network of `faces-64-deep` has eight layers
and another seed; the convolutions of `faces-64` began as its own ([generators](generators.md)).

{textwrap.fill(COMMON, 119, break_long_words=False, break_on_hyphens=False)} Other words are in the
[glossary](glossary.md).

`latentlab claims` prints a line a claim, `latentlab claims --explain ID` a whole record, `latentlab claims --full`
measures, and goes on where it stopped. This page is written by `latentlab claims --pages`.
"""


def line(id: str, path: str | Path | None = None) -> str:
    """A claim in one line: id, verdict, samples at hand beside those needed for 80 % power, statement."""
    statement = CLAIMS[id].statement
    if id not in recorded_ids(path):
        verdict, samples = "not measured", ""
    else:
        found = recorded(id, path)
        verdict, samples = found.verdict + "*" * bool(found.outdated), _samples(found)
    return f"{id:8} {verdict:18} {samples:>10}  {textwrap.shorten(statement, WIDTH - 40, placeholder=' ..')}"


def _samples(found: Finding) -> str:
    """Samples at hand and needed of the comparison that needs the most: "40 / 55"."""
    have, need = found.power
    return f"{have} / {need or '-'}" if have else ""


def listing(ids: Sequence[str] = (), path: str | Path | None = None) -> str:
    """The lines of these claims (default: all), under a head, with the footnotes that they need."""
    rows = [line(id, path) for id in ids or CLAIMS]
    head = f"{'claim':8} {'verdict':18} {'n / need':>10}  statement"
    notes = [f"{mark} {text}" for mark, text in FOOTNOTES.items() if any(f"{mark} " in row[:30] for row in rows)]
    notes.append("n / need: samples (most often faces) of the comparison that needs the most for 80 % power, and how "
                 "many it needs (-: not known)")  # fmt: skip
    return "\n".join([head, *rows, "", *(textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes)])


def short_table(path: str | Path | None = None) -> str:
    """One row for each claim, linked to its section of the page, in Markdown."""
    rows = ["| claim | paper | verdict here |", "|---|---|---|"]
    starred = False
    for id, claim in CLAIMS.items():
        verdict = "not measured yet"
        if id in recorded_ids(path):
            found = recorded(id, path)
            verdict, starred = found.verdict + r"\*" * bool(found.outdated), starred or bool(found.outdated)
        where = "" if claim.paper == "latentlab" else f"{_cell(claim.paper)}: {_cell(claim.paper_value)}"
        rows.append(f"| [{id}](#{id.lower()}) {_cell(claim.statement)} | {where} | {verdict} |")
    return "\n".join(rows + [f"\n\\* {FOOTNOTES['*']}"] * starred)


def page(path: str | Path | None = None, coverages: str = "") -> str:
    """docs/claims.md: the short table, then every record whole. coverages: the table of ``coverage_table``."""
    parts = [INTRODUCTION, short_table(path) + "\n"]
    for id, claim in CLAIMS.items():
        parts.append(f"## {id}\n\n{claim.statement} *{claim.paper}: {claim.paper_value}*\n")
        parts.append(_section(recorded(id, path)) if id in recorded_ids(path) else _unmeasured(id))
    return "\n".join(parts) + "\n" + between("coverage", coverages) + "\n"


def _unmeasured(id: str) -> str:
    return f"Not measured yet. {_rule(id)}\n{_numbers(id)}\n"


def explanation(id: str, path: str | Path | None = None) -> str:
    """The whole record of a claim, or its rule where it was not measured."""
    if id in CLAIMS and id not in recorded_ids(path):
        claim = CLAIMS[id]
        rule = f"  not measured; rule {claim.rule.version}\n{textwrap.indent(claim.rule.text, '    ')}"
        rows = [f"{id}  {claim.statement} {claim.paper}: {claim.paper_value}", *rule.splitlines()]
        return "\n".join(textwrap.fill(row, WIDTH, subsequent_indent=" " * 8) for row in rows)
    return recorded(id, path).explained()


def _rule(id: str) -> str:
    return f"Rule {CLAIMS[id].rule.version}:\n\n```text\n{CLAIMS[id].rule.text}\n```\n"


def _numbers(id: str) -> str:
    """What the numbers of a claim are."""
    return f"*Numbers:* {NUMBERS[id]}\n" if id in NUMBERS else ""


def _section(found: Finding) -> str:
    told, rule = found.provenance, found.claim.rule
    rows = [_reason(found)]
    if explained := why(found):
        rows.append(f"*Why:* {explained}\n")
    if found.outdated:
        rows.append(f"\\* {found.outdated[0].upper()}{found.outdated[1:]}.\n")
    if cells := [cell for cell in found.cells if cell.estimate is not None]:
        head = ("number", "value", "95 % interval", "bar", "outcome", "p, after Holm", "n", "for 80 %")
        rows += [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_row(cell) for cell in cells), ""]
    rows += [_numbers(found.claim.id), _rule(found.claim.id)]
    named = (("measured", "All numbers"), ("controls", "Controls"))
    rows += [_folded(title, found, name) for name, title in named if getattr(found, name)]
    rows += [f"Settings: {found.listed('settings')}.\n"] if found.settings else []
    for name, other in found.others.items():
        old = " (under another version of the rule)" if other.get("rule") != rule.version else ""
        rows.append(f"With {name}{old}: **{other['verdict']}**: {other['reason']}.\n")
    seeds = f"{1 + len(found.others)} generators" if found.others else "one generator"
    told = {k: v for k, v in told.items() if v is not None}
    rows.append(f"Measured by `{told.pop('command', '')}`, {seeds}; "
                + ", ".join(f"{key} {value}" for key, value in told.items()) + ".\n")  # fmt: skip
    return "\n".join(rows)


def _reason(found: Finding) -> str:
    """Verdict and reason, as a list of the outcomes with the remark below."""
    if not (outcomes := found.outcomes):
        return f"**{found.verdict}**: {found.reason}.\n"
    rows = [f"**{found.verdict}**\n", *(f"- *{word}*: {says}" for word, says in outcomes.items())]
    remark = found.claim.remark(found)
    return "\n".join(rows + [f"\n{remark}."] * bool(remark)) + "\n"


def _folded(title: str, found: Finding, name: str) -> str:
    """One of the finding's dictionaries of numbers, with their intervals, as a table that is folded."""
    rows = ["| number | value | 95 % interval |", "|---|---|---|"]
    for key, value in getattr(found, name).items():
        low, high = found.intervals.get(key, (float("nan"),) * 2)
        rows.append(f"| {_cell(key)} | {value:.3g} | {_interval(low, high)} |")
    # GitHub reads Markdown inside HTML only where empty lines set it apart.
    return "\n".join([f"<details><summary>{title}</summary>\n", *rows, "\n</details>\n"])


def _interval(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}" if low == low else ""


def _row(cell: Cell) -> str:
    e, bar = cell.estimate, _cell(f"{cell.part.relation} {cell.part.bar:g}")
    told = (_cell(cell.name), f"{e.value:.3g}", _interval(e.low, e.high), bar, cell.outcome, _cell(p_text(cell)),
            str(e.n or ""), str(cell.needed or ""))  # fmt: skip
    return f"| {' | '.join(told)} |"


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    for mark in "|<>*_":
        text = text.replace(mark, f"\\{mark}")
    return text


def coverage_table(sets: int = 4_000) -> str:
    """Share of 95 % intervals that hold the mean, by simulation, for populations and sizes, in Markdown."""
    rows = [
        "## Coverage of the intervals\n",
        f"Of {sets:,} simulated sets of n samples each, the share whose 95 % interval holds the mean of the "
        "population (`latentlab claims --coverage`). The ledger takes Student's, which covers most often; of the "
        "log-normal population from n = 24 on BCa is ahead by up to one point. Ratios, which are skewed like that, go "
        "through their logarithms:\n",
        f"| population | n | {' | '.join(METHODS)} |",
        f"|---|---|{'---|' * len(METHODS)}",
    ]
    for population in POPULATIONS:
        for n in SIZES:
            held = coverage(n, population, sets=sets)
            rows.append(f"| {population} | {n} | {' | '.join(f'{held[method]:.3f}' for method in METHODS)} |")
    return "\n".join(rows)


def between(name: str, text: str) -> str:
    """A part of a page between marks that ``replace_between`` finds again."""
    return f"<!-- {name}: written by latentlab claims -->\n{text}\n<!-- end of {name} -->"


def read_between(whole: str, name: str) -> str:
    """The part of a page between its marks. Raises ``ValueError`` where the marks are missing."""
    start, end = f"<!-- {name}: written by latentlab claims -->\n", f"\n<!-- end of {name} -->"
    if whole.count(start) != 1 or whole.count(end) != 1:
        raise ValueError(f"page: expected {start.strip()!r} and {end.strip()!r} once each, got another number of them")
    return whole.partition(start)[2].partition(end)[0]


def write_pages(path: str | Path | None = None, *, folder: Path = ROOT, coverages: str | None = None) -> list[Path]:
    """Writes docs/claims.md from the ledger. coverages: a new table of coverage; None: the one that the page has."""
    long = folder / PAGE.relative_to(ROOT)
    if coverages is None:
        coverages = read_between(long.read_text(), "coverage") if long.is_file() else ""
    long.parent.mkdir(parents=True, exist_ok=True)
    long.write_text(page(path, coverages))
    return [long]
