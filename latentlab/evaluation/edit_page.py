"""The page of the table of edits: goals, ways by factors, and what an edit of one factor does to the others."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from latentlab.evaluation.edit_cells import FACES, NO_EDIT, ORACLE, SAMPLES, SHIPPED, Cell, place
from latentlab.evaluation.edits import AMOUNT, LIMIT
from latentlab.faces import NAMES

if TYPE_CHECKING:
    import pandas

# What the project asks of the shipped edits on inverted faces: measure -> (1: at least, -1: less than; value).
GOALS = {"gain": (1, 0.9), "leakage above floor": (-1, 0.1), "identity": (1, 0.9), "error": (-1, 1.0)}
# What stands beside them: measures of the oracle, and how their columns are called.
LIMITS = {
    "gain": "gain of the oracle",
    "error": "total error of the oracle",
    "leakage above floor": "leakage above its floor of the oracle",
    "identity": "identity of the oracle",
}
# The tables of the page: measure -> heading and what it says.
HEADINGS = {
    "matched": ("Matched", "share of the usable pictures on which some strength reaches what was asked"),
    "gain": ("Gain", "share of the true change that happened; 1 is all of it"),
    "error": ("Total error", "distance from the true change, relative to its size; no edit has 1, the truth 0"),
    "leakage above floor": ("Leakage above its floor", "mean absolute change of the other factors in standard "
                            "deviations, less what the judge reads when the truth itself is edited"),
    "leakage": ("Leakage", "mean absolute change of the other factors in standard deviations"),
    "leakage max": ("Largest leak", "absolute change of the factor that changes most, in standard deviations"),
    "systematic": ("Systematic part of the leakage", "mean over the other factors of the absolute mean change"),
    "scatter": ("Scatter of the leakage", "mean over the other factors of the standard deviation of the change over "
                "pictures: subtracting one more fixed step does not remove it"),
    "identity": ("Identity", "similarity of the picture before and after; 1 is the same person"),
    "strength": ("Strength", "the strength found, divided by the one at which the edit itself claims to make the asked "
                 "change; 1: its scale is right"),
}  # fmt: skip
SHOWN = {
    FACES: ("matched", "gain", "error", "leakage above floor", "leakage max", "identity", "strength"),
    SAMPLES: ("matched", "leakage", "leakage max", "systematic", "scatter", "identity", "strength"),
}
COMPARED = {FACES: ("error", "gain", "leakage above floor", "identity"), SAMPLES: ("leakage", "identity")}
SHARED = ("leakage", "scatter", "identity")  # measures of both tasks
TIED = {"glasses": "age", "beard": "hair_length", "smile": "mouth_open"}  # by the face world's correlations
REFUSED = (
    "The gaps of the tables: a way has no edit of a factor where what it finds does not move the factor by one "
    "standard deviation, as the losses' network reads it in the generator's own samples, at the largest strength that "
    "is tried (in the found edit's own unit)."
)
LARGEST = 3  # leaks onto factors that have no column of their own


def describe(table: "pandas.DataFrame", cells: Sequence[Cell], baseline: str = SHIPPED) -> str:
    """The table of ``tabulate`` as a page of Markdown, with what it was made from."""
    parts = ["# Edits, measured", _introduction()]
    for task in (label for label in (FACES, SAMPLES) if label in set(table["task"])):
        rows, own = table[table["task"] == task], [cell for cell in cells if place(cell)[0] == task]
        parts.append(f"## {task.capitalize()}\n\n{_about(own[0])}")
        if task == FACES and baseline in set(rows["way"]):
            parts += [_goals(rows, own, baseline), *_limits(rows, baseline)]
        parts += [_grid(rows, measure) for measure in SHOWN[task] if measure in set(rows["measure"])]
        if baseline in set(rows["way"]):
            parts += [_differences(rows, measure, baseline) for measure in COMPARED[task]]
        parts += [*_leaks(own, baseline), *_ties(own)]
    parts += _shares(table)
    refused = [(*place(cell)[1:], cell["refused"]) for cell in cells if "refused" in cell]
    if refused:
        lines = dict.fromkeys(f"- {way}, {factor}: {why}" for way, factor, why in refused)
        parts.append(f"## Edits that could not be found\n\n{REFUSED}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _introduction() -> str:
    return (
        "Written by `latentlab benchmark --only edits`; `edits.jsonl` holds the values of every picture, `edits.csv` "
        "all measures with intervals.\n\n"
        f"Each picture is asked to change one factor by {AMOUNT:g} standard deviations of the face world, upwards and "
        "downwards in turn where it has room for both; glasses are switched. Every edit is measured at matched "
        f"strength: on each picture the strength, up to {LIMIT} times the edit's own, at which the attribute judge "
        "sees the factor move as far as in the edited truth, or is nearly as sure of the switch. Standard deviations "
        "are those of the factors over the face world. Means are over matched pictures; the column \"mean\" is over "
        "the factors. A row with gaps has a mean of fewer factors. The oracle is the inversion of the edited truth "
        "by the same method. Numbers in brackets are 95 % intervals over the pictures."
    )


def _about(cell: Cell) -> str:
    told = {k: v for k, v in cell["key"].items() if k not in ("task", "way", "factor", "edit")}
    made = cell.get("made", {})
    told |= {k: made[k] for k in ("latentlab", "torch", "date") if k in made}
    return ", ".join(f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in told.items()) + "."


def _goals(rows: "pandas.DataFrame", cells: Sequence[Cell], baseline: str) -> str:
    """Factors by goals of the baseline: mean, interval and verdict."""
    some = rows[(rows["way"] == baseline) & rows["measure"].isin([*GOALS, "matched"])]
    spaces = {place(cell)[2]: cell.get("edit", {}).get("space", "") for cell in cells if place(cell)[1] == baseline}
    factors, met = dict.fromkeys(some["factor"]), dict.fromkeys(GOALS, 0)
    found = {(factor, "space"): spaces[factor] for factor in factors}
    for r in some.itertuples():
        if r.measure == "matched":
            found[r.factor, "matched"] = _number(r.mean)
        else:
            verdict = _verdict(r.mean, r.low, r.high, r.measure)
            met[r.measure] += verdict != "missed"
            found[r.factor, _goal(r.measure)] = f"{_interval(r.mean, r.low, r.high)} {verdict}"
    count = ", ".join(f"{_goal(measure)} in {n}" for measure, n in met.items())
    wide = _wide(found, factors, ["space", "matched", *map(_goal, GOALS)])
    return (
        f"### Goals of the {baseline} edits\n\nOf {len(factors)} factors, the mean meets: {count}. Where it does but "
        f"the interval reaches beyond the goal, the verdict is \"by the mean\".\n\n{_markdown(wide)}"
    )


def _goal(measure: str) -> str:
    sign, value = GOALS[measure]
    return f"{HEADINGS[measure][0].lower()} {'>=' if sign > 0 else '<'} {value:g}"


def _verdict(mean: float, low: float, high: float, measure: str) -> str:
    sign, goal = GOALS[measure]
    if mean != mean or sign * (mean - goal) < 0 or (sign < 0 and mean == goal):
        return "missed"
    worst = low if sign > 0 else high
    return "met" if sign * (worst - goal) >= 0 else "by the mean"


def _limits(rows: "pandas.DataFrame", baseline: str) -> list[str]:
    """What bounds the goals, whatever the edit: the same measures of the oracle, and the identity of the truth."""
    truth = "identity of the truth"
    asked = [(ORACLE, measure, name) for measure, name in LIMITS.items()] + [(baseline, "identity floor", truth)]
    cells = {}
    for way, measure, name in asked:
        some = rows[(rows["way"] == way) & (rows["measure"] == measure)]
        cells |= {(r.factor, name): _interval(r.mean, r.low, r.high) for r in some.itertuples()}
    if not cells:
        return []
    factors = dict.fromkeys(rows[rows["way"] == baseline]["factor"])
    says = (
        "The oracle is no edit: it inverts the edited truth. It is a yardstick and no bound. The "
        "identity of the truth is the judge's similarity of a face and the same face rendered with the factor changed."
    )
    return [f"### Beside the oracle\n\n{says}\n\n{_markdown(_wide(cells, factors, [*LIMITS.values(), truth]))}"]


def _grid(rows: "pandas.DataFrame", measure: str) -> str:
    """Ways by factors, means alone."""
    some = rows[rows["measure"] == measure]
    title, says = HEADINGS[measure]
    wide = some.pivot(index="way", columns="factor", values="mean")
    wide = wide.reindex(index=dict.fromkeys(some["way"]), columns=dict.fromkeys(some["factor"]))
    wide = wide.dropna(how="all")
    wide["mean"] = wide.mean(axis=1)
    return f"### {title}\n\n{says[0].upper()}{says[1:]}.\n\n{_markdown(wide.map(_number))}"


def _differences(rows: "pandas.DataFrame", measure: str, baseline: str) -> str:
    some = rows[(rows["measure"] == measure) & ~rows["way"].isin((baseline, ORACLE, NO_EDIT))]
    cells = {(r.way, r.factor): _interval(r.difference, r.difference_low, r.difference_high) for r in some.itertuples()}
    wide = _wide(cells, dict.fromkeys(some["way"]), dict.fromkeys(some["factor"]))
    return f"### {HEADINGS[measure][0]}: difference to {baseline}, paired\n\n{_markdown(wide)}"


def _leaks(cells: Sequence[Cell], way: str) -> list[str]:
    """Edited factors by the factors that change with them: mean and standard deviation over the pictures."""
    known = {place(cell)[2]: _changes(cell) for cell in cells if place(cell)[1] == way and _changes(cell)}
    if not known:
        return []
    found = {}
    for factor, leaks in known.items():
        found |= {(factor, other): f"{leaks[other][0]:+.2f} ({leaks[other][1]:.2f})" for other in known}
        rest = sorted((-abs(mean), k) for k, (mean, _) in leaks.items() if k not in known)[:LARGEST]
        found[factor, "largest of the others"] = ", ".join(f"{k} {leaks[k][0]:+.2f}" for _, k in rest)
    says = (
        f"Change of each factor (column) in the {way} edit of another (row): mean over the pictures and, in brackets, "
        "standard deviation, in standard deviations of the factor, positive for the direction in which it changes when "
        "the edited factor is asked to grow."
    )
    return [f"### Leakage matrix\n\n{says}\n\n{_markdown(_wide(found, known, [*known, 'largest of the others']))}"]


def _changes(cell: Cell) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the change of each factor; empty where they were not kept."""
    change = cell.get("change", {})
    means, stds = change.get("mean", ()), change.get("std", ())
    return dict(zip(NAMES, zip(means, stds, strict=True), strict=True)) if len(means) == len(NAMES) else {}


def _ties(cells: Sequence[Cell]) -> list[str]:
    """Ways by pairs of factors that are correlated in the face world: the leak from one onto the other."""
    found = {}
    for cell in cells:
        _, way, factor = place(cell)
        if (other := TIED.get(factor)) and (leaks := _changes(cell)):
            n = sum(v is not None for v in cell["values"]["leakage"])
            mean, half = leaks[other][0], 1.96 * leaks[other][1] / n**0.5
            found[way, f"{factor} -> {other}"] = _interval(mean, mean - half, mean + half)
    if not found:
        return []
    says = "Mean change of a factor that is correlated with the edited one in the face world, in standard deviations."
    wide = _wide(found, dict.fromkeys(way for way, _ in found), [f"{a} -> {b}" for a, b in TIED.items()])
    return [f"### Changes of correlated factors\n\n{says}\n\n{_markdown(wide)}"]


def _shares(table: "pandas.DataFrame") -> list[str]:
    """Ways by measures on both tasks, means over the factors that both have."""
    parts = []
    for measure in SHARED:
        some = table[(table["measure"] == measure) & table["task"].isin((FACES, SAMPLES))]
        wide = some.pivot(index=["way", "factor"], columns="task", values="mean").dropna()
        if set(wide.columns) == {FACES, SAMPLES} and len(wide):
            means = wide.groupby("way").mean().reindex(dict.fromkeys(some["way"])).dropna()
            means = means[[FACES, SAMPLES]].assign(difference=means[FACES] - means[SAMPLES])
            parts.append(f"### {HEADINGS[measure][0]}\n\n{_markdown(means.map(_number))}")
    if not parts:
        return []
    says = (
        "The same edits on inverted faces and on the generator's own samples, where nothing is inverted: means over "
        "the factors that were measured on both. The difference is what the inversion adds. The pictures of the two "
        "tasks differ."
    )
    return [f"## The share of the inversion\n\n{says}", *parts]


def _wide(cells: dict[tuple[str, str], str], index: Iterable[str], columns: Iterable[str]) -> "pandas.DataFrame":
    import pandas

    wide = pandas.Series(cells, dtype=object).unstack() if cells else pandas.DataFrame()
    return wide.reindex(index=list(index), columns=list(columns)).dropna(axis=1, how="all").fillna("")


def _markdown(wide: "pandas.DataFrame") -> str:
    head = ["", *map(str, wide.columns)]
    body = ([name, *row] for name, row in zip(wide.index, wide.values, strict=True))
    lines = [head, ["---", *["---:"] * len(wide.columns)], *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _number(value: float) -> str:
    return "" if value != value else f"{round(value, 2) + 0.0:.2f}"  # + 0: without the sign of -0.00


def _interval(mean: float, low: float, high: float) -> str:
    return "" if mean != mean else f"{_number(mean)} [{_number(low)}, {_number(high)}]"
