"""The ledger: measures claims, applies their rules and records the findings in ``notebooks/claims.json``."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from latentlab.claims import editing, inversion, latent_spaces
from latentlab.claims.finding import Claim, Finding
from latentlab.spaces import fingerprint
from latentlab.stylegan.generator import Generator
from latentlab.weights import find, read_manifest
from latentlab.weights.generators import load


def _place(claim: Claim) -> tuple[str, int]:
    paper, number = claim.id.split("-")
    return paper, int(number)


CLAIMS: dict[str, Claim] = {
    c.id: c for c in sorted((*latent_spaces.CLAIMS, *inversion.CLAIMS, *editing.CLAIMS), key=_place)
}
LEDGER = Path(__file__).parents[2] / "notebooks" / "claims.json"
STATED = ("paper", "statement", "paper_value")


def measure(id: str, full: bool = False, G: Generator | None = None) -> Finding:
    """Measures a claim on ``G`` (None: the shipped faces-64), on a quick subset or at the ``full`` size of the ledger,
    and adds the verdict of the claim's rule."""
    claim = _claim(id)
    found = claim.measure(_shipped() if G is None else G, full)
    verdict, reason = claim.rule(found)
    return replace(found, verdict=verdict, reason=reason, claim=claim)


def recorded(id: str, path: str | Path | None = None) -> Finding:
    """The recorded finding of a claim, from the ledger at ``path`` (None: the repository's)."""
    claim, entries = _claim(id), _read(path)
    if id not in entries:
        known = ", ".join(entries) or "none"
        raise ValueError(
            f"id: expected a claim that the ledger holds ({known}), got {id!r}; "
            f"measure it with `latentlab claims --full --only {id}`"
        )
    return Finding(claim=claim, **{k: v for k, v in entries[id].items() if k not in STATED})


def table(path: str | Path | None = None) -> pd.DataFrame:
    """The ledger as a table, one row for each claim: id, statement, paper value, measured, verdict, reason."""
    findings = [recorded(id, path) for id in _read(path)]
    rows = [(f.claim.id, f.claim.statement, f.claim.paper_value, f.listed(), f.verdict, f.reason) for f in findings]
    return pd.DataFrame(rows, columns=["id", "statement", "paper value", "measured", "verdict", "reason"])


def write(
    ids: Sequence[str] = (), path: str | Path | None = None, *, full: bool = True, G: Generator | None = None
) -> list[Finding]:
    """Measures these claims (default: all) and records each one as soon as it is measured; other entries stay."""
    path, G = Path(path or LEDGER), _shipped() if G is None else G
    mark = fingerprint(G)
    seen = read_manifest()[file].get("images") if (file := find("statistics", mark)) else None
    findings = []
    for claim in [_claim(id) for id in ids or CLAIMS]:
        began, found = time.perf_counter(), measure(claim.id, full, G)
        command = f"latentlab claims {'--full ' * full}--only {claim.id}"
        told = {"date": date.today().isoformat(), "seconds": round(time.perf_counter() - began)}
        found = replace(found, provenance={"command": command, **told, "fingerprint": mark, "images": seen})
        entry = {k: getattr(claim, k) for k in STATED} | {k: v for k, v in vars(found).items() if k != "claim"}
        entries = (_read(path) if path.exists() else {}) | {claim.id: entry}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({id: entries[id] for id in CLAIMS if id in entries}, indent=1) + "\n")
        findings.append(found)
    return findings


@lru_cache(maxsize=1)
def _shipped() -> Generator:
    """The default generator, loaded once, because claims share inversions by the generator's identity."""
    return load("faces-64")


def _claim(id: str) -> Claim:
    if id not in CLAIMS:
        raise ValueError(f"id: expected one of {', '.join(CLAIMS)}, got {id!r}")
    return CLAIMS[id]


def _read(path: str | Path | None) -> dict[str, dict[str, Any]]:
    path = Path(path or LEDGER)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a ledger, got no file; measure one with `latentlab claims --full`")
    return json.loads(path.read_text())
