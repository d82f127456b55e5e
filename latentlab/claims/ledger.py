"""The ledger: every claim measured, judged by its rule, and recorded in ``notebooks/claims.json``."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from latentlab.claims import inversion, latent_spaces
from latentlab.claims.finding import Claim, Finding
from latentlab.spaces import fingerprint
from latentlab.stylegan.generator import Generator
from latentlab.weights import read_manifest
from latentlab.weights.generators import load


def _place(claim: Claim) -> tuple[str, int]:
    paper, number = claim.id.split("-")
    return paper, int(number)


CLAIMS: dict[str, Claim] = {c.id: c for c in sorted((*latent_spaces.CLAIMS, *inversion.CLAIMS), key=_place)}
LEDGER = Path(__file__).parents[2] / "notebooks" / "claims.json"
STATED = ("paper", "statement", "paper_value")


def measure(id: str, full: bool = False, G: Generator | None = None) -> Finding:
    """Measures a claim on ``G`` (None: the shipped faces-64): seconds on a subset, or at the ``full`` size of the
    ledger. The verdict is what the claim's rule says of the numbers."""
    claim = _claim(id)
    found = claim.measure(_shipped() if G is None else G, full)
    verdict, reason = claim.rule(found)
    return replace(found, verdict=verdict, reason=reason, claim=claim)


def recorded(id: str, path: str | Path | None = None) -> Finding:
    """What the ledger at ``path`` (None: the repository's) holds of a claim: its last measurement at full size."""
    claim, entries = _claim(id), _read(path)
    if id not in entries:
        raise ValueError(f"the ledger holds nothing of {id}; it holds {', '.join(entries) or 'nothing'}")
    return Finding(claim=claim, **{k: v for k, v in entries[id].items() if k not in STATED})


def table(path: str | Path | None = None) -> pd.DataFrame:
    """The ledger, a row a claim: id, statement, paper value, measured, verdict, reason."""
    findings = [recorded(id, path) for id in _read(path)]
    rows = [(f.claim.id, f.claim.statement, f.claim.paper_value, f.listed(), f.verdict, f.reason) for f in findings]
    return pd.DataFrame(rows, columns=["id", "statement", "paper value", "measured", "verdict", "reason"])


def write(
    ids: Sequence[str] = (), path: str | Path | None = None, *, full: bool = True, G: Generator | None = None
) -> list[Finding]:
    """Measures these claims (none named: all) and enters each into the ledger at once; what else it holds stays."""
    path, G = Path(path or LEDGER), _shipped() if G is None else G
    mark = fingerprint(G)
    statistics = (e for file, e in read_manifest().items() if file.endswith(".statistics.safetensors"))
    seen = next((e.get("images") for e in statistics if e.get("fingerprint") == mark), None)
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
    """One and the same for all claims, so that they may share what they make of it."""
    return load("faces-64")


def _claim(id: str) -> Claim:
    if id not in CLAIMS:
        raise ValueError(f"no claim {id!r}: there are {', '.join(CLAIMS)}")
    return CLAIMS[id]


def _read(path: str | Path | None) -> dict[str, dict[str, Any]]:
    path = Path(path or LEDGER)
    if not path.is_file():
        raise FileNotFoundError(f"there is no ledger at {path}: measure one with `latentlab claims --full`")
    return json.loads(path.read_text())
