"""The ledger: measures claims, applies their rules and records the findings in ``notebooks/claims.json``."""

import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from latentlab.claims import (
    alignment,
    conditional,
    contrastive,
    editing,
    encoding,
    inversion,
    inverted_codes,
    latent_spaces,
    ranks,
    refinement,
    two_branch,
)
from latentlab.claims.finding import Claim, Finding
from latentlab.claims.runs import KINDS, Bench
from latentlab.spaces import fingerprint
from latentlab.stylegan.generator import Generator
from latentlab.weights import find, read_manifest
from latentlab.weights.generators import load

SHIPPED = "faces-64"  # the generator that the ledger belongs to


ORDER = ("II2S", "E4E", "LSAP", "CLCAE", "TWO", "ALL", "EDIT")  # of the papers, and of our own claims


def _place(claim: Claim) -> tuple[int, int]:
    paper, number = claim.id.split("-")
    return ORDER.index(paper), int(number)


_ALL = (
    *latent_spaces.CLAIMS, *inversion.CLAIMS, *conditional.CLAIMS, *inverted_codes.CLAIMS, *encoding.CLAIMS,
    *alignment.CLAIMS, *contrastive.CLAIMS, *ranks.CLAIMS, *refinement.CLAIMS, *two_branch.CLAIMS,
    *editing.CLAIMS,
)  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in sorted(_ALL, key=_place)}
LEDGER = Path(__file__).parents[2] / "notebooks" / "claims.json"
STATED = ("paper", "statement", "paper_value")
NOT_RECORDED = ("claim", "outdated")
COLUMNS = ["id", "statement", "paper value", "measured", "verdict", "reason", "samples needed", "outdated"]


def measure(id: str, full: bool = False, G: Generator | None = None) -> Finding:
    """Measures a claim on ``G`` (None: the shipped faces-64), on a quick subset or at the ``full`` size of the ledger,
    and adds the verdict of the claim's rule. Descents are kept in this process only; see ``write``."""
    return _measure(_claim(id), Bench(_shipped() if G is None else G, full))


def _measure(claim: Claim, bench: Bench) -> Finding:
    found = claim.measure(bench)
    found = replace(found, rule=claim.rule.version, claim=claim)
    verdict, reason = claim.judge(found)
    return replace(found, verdict=verdict, reason=reason)


def recorded(id: str, path: str | Path | None = None) -> Finding:
    """The recorded finding of a claim, from the ledger at ``path`` (None: the repository's).

    Its ``outdated`` says if it was measured under an earlier version of the rule or with other weights.
    """
    claim, entries = _claim(id), _read(path)
    if id not in entries:
        known = ", ".join(entries) or "none"
        raise ValueError(
            f"id: expected a claim that the ledger holds ({known}), got {id!r}; "
            f"measure it with `latentlab claims --full --only {id}`"
        )
    known = {f.name for f in fields(Finding)} - set(NOT_RECORDED)
    found = Finding(claim=claim, **{k: v for k, v in entries[id].items() if k in known})
    return replace(found, outdated=_outdated(found))


def recorded_ids(path: str | Path | None = None) -> list[str]:
    """The claims that the ledger holds."""
    return list(_read(path))


def table(path: str | Path | None = None) -> pd.DataFrame:
    """The ledger as a table, one row for each claim: id, statement, paper value, measured, verdict, reason, samples
    needed for 80 % power, and why it has to be measured again, if it has."""
    findings = [recorded(id, path) for id in _read(path)]
    rows = [(f.claim.id, f.claim.statement, f.claim.paper_value, f.listed(), f.verdict, f.reason, f.power[1],
             f.outdated) for f in findings]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def write(
    ids: Sequence[str] = (), path: str | Path | None = None, *, full: bool = True, G: Generator | None = None,
    name: str = SHIPPED, faces: int | None = None, kinds: Sequence[str] = KINDS, tables: Path | None = None,
    batch: int | None = None, say: Callable[[str], object] | None = None,
) -> list[Finding]:  # fmt: skip
    """Measures these claims (default: all) and records each one as soon as it is measured; other entries stay.

    At full size the descents are kept in the user's cache folder, so that an interrupted measurement goes on where it
    stopped. name: of ``G``; that of another generator than faces-64 (None: ``load(name)``) makes the finding a
    replication, recorded beside the first. faces, kinds: at most so many of each kind, and only these kinds; the record
    then says what it lacks. tables: folder of the generator's tables of runs (None: docs, with those of faces-64).
    batch: faces that descend together. say: is told what is done and what is left.
    """
    if faces is not None and faces < 2:
        raise ValueError(f"faces: expected at least 2, got {faces}; without them no interval can be given")
    path, G = Path(path or LEDGER), G or (_shipped() if name == SHIPPED else load(name))
    given = {"tables": tables, "batch": batch, "say": say}
    knobs = {"faces": faces, "kinds": kinds} | {name: value for name, value in given.items() if value}
    bench = Bench.kept(G, **knobs) if full else Bench(G, **knobs)
    findings = []
    for claim in [_claim(id) for id in ids or CLAIMS]:
        if say:
            say(f"{claim.id}: {remaining(claim.id, bench)}")
        began, found = time.perf_counter(), _measure(claim, bench)
        told = {"command": _command(claim.id, full, name, faces, kinds, tables), "date": date.today().isoformat()}
        told |= {"seconds": round(time.perf_counter() - began), "generator": name}
        if pace := bench.pace(claim.plan(bench)):
            told["seconds a face"] = round(pace, 1)  # of all descents, also those that other claims share
        found = replace(found, provenance=told | _origin(G))
        _enter(path, claim, found, name)
        findings.append(found)
    return findings


def remaining(id: str, bench: Bench) -> str:
    """How many descents of a claim are made and how long the others take, in words."""
    claim = _claim(id)
    total, missing, seconds = bench.left(claim.plan(bench))
    if total == 0:
        return "no descents"
    took = "in a time that is not known yet" if seconds != seconds else f"in about {_duration(seconds)}"
    return f"{total - missing} of {total} descents are made" + (f", the others {took}" if missing else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _command(
    id: str, full: bool, name: str, faces: int | None, kinds: Sequence[str], tables: Path | None
) -> str:  # fmt: skip
    parts = ["latentlab claims", "--full" * full, f"--only {id}", f"--generator {name}" * (name != SHIPPED)]
    parts += [f"--tables {tables.name}" if tables else "", f"--faces {faces}" * (faces is not None)]
    parts += [f"--kinds {' '.join(kinds)}" * (set(kinds) != set(KINDS))]
    return " ".join(part for part in parts if part)


def _origin(G: Generator) -> dict[str, str | int | None]:
    """Fingerprint of the generator, number of images that it was trained on, and the hardware."""
    file = find("statistics", fingerprint(G))
    device = G.w_avg.device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    seen = read_manifest()[file].get("images") if file else None
    return {"fingerprint": fingerprint(G, "generator"), "images": seen, "hardware": hardware + threads}


def _enter(path: Path, claim: Claim, found: Finding, name: str) -> None:
    """Records a finding: as the claim's, or beside it if it is that of another generator than the shipped one."""
    entries = _read(path) if path.exists() else {}
    numbers = {k: v for k, v in vars(found).items() if k not in NOT_RECORDED}
    before = entries.get(claim.id, {})
    if name == SHIPPED:
        entry = {k: getattr(claim, k) for k in STATED} | numbers | {"others": before.get("others", {})}
    elif not before:
        raise ValueError(
            f"{claim.id}: expected a finding of {SHIPPED} to put that of {name} beside, got none; measure "
            f"`latentlab claims --full --only {claim.id}` first"
        )
    else:
        entry = before | {"others": before.get("others", {}) | {name: numbers}}
    entries |= {claim.id: entry}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({id: entries[id] for id in CLAIMS if id in entries}, indent=1) + "\n")
    os.replace(partial, path)


def _outdated(found: Finding) -> str:
    reasons = []
    if found.rule != found.claim.rule.version:
        reasons.append("under an earlier version of the rule")
    mark = found.provenance.get("fingerprint")
    if mark is not None and mark != _mark():
        reasons.append(f"with other weights ({mark}, now {_mark()})")
    return f"measured {' and '.join(reasons)}: to be measured again" if reasons else ""


@lru_cache(maxsize=1)
def _shipped() -> Generator:
    """The default generator, loaded once, because claims share descents by the generator's identity."""
    return load(SHIPPED)


@lru_cache(maxsize=1)
def _mark() -> str:
    return fingerprint(_shipped(), "generator")


def _claim(id: str) -> Claim:
    if id not in CLAIMS:
        raise ValueError(f"id: expected one of {', '.join(CLAIMS)}, got {id!r}")
    return CLAIMS[id]


def _read(path: str | Path | None) -> dict[str, dict[str, Any]]:
    path = Path(path or LEDGER)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a ledger, got no file; measure one with `latentlab claims --full`")
    text = path.read_text()
    try:
        entries = json.loads(text)
    except json.JSONDecodeError:
        entries = _recover(text)
        if not entries:
            raise ValueError(f"{path}: expected a ledger in JSON, got a file without a whole entry; restore it, e.g. "
                             "with `git checkout`, or remove it and measure again") from None  # fmt: skip
        warnings.warn(f"{path}: expected a ledger in JSON, got a damaged file; its whole entries are kept "
                      f"({', '.join(entries)}), measure the others again", stacklevel=3)  # fmt: skip
    _check_owner(path, entries)
    return entries


def _check_owner(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Refuses a ledger none of whose entries was measured on the shipped generator."""
    marks = {mark for entry in entries.values() if (mark := entry.get("provenance", {}).get("fingerprint"))}
    if marks and _mark() not in marks:
        raise ValueError(f"{path}: expected a ledger of {SHIPPED}, {_mark()}, got one of the generator "
                         f"{' and '.join(sorted(marks))}; name another file to begin a new one")  # fmt: skip


def _recover(text: str) -> dict[str, dict[str, Any]]:
    """The whole entries of a ledger that was cut off, in their order."""
    decoder, entries = json.JSONDecoder(), {}
    at = text.find("{") + 1
    try:
        while True:
            id, at = decoder.raw_decode(text, text.index('"', at))
            entry, at = decoder.raw_decode(text, text.index("{", at))
            if id not in CLAIMS or not isinstance(entry, dict) or "measured" not in entry:
                return entries
            entries[id] = entry
    except ValueError:  # of the decoder, or of index at the end of the text
        return entries
