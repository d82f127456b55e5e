"""Sizes of the tracked files, and the match of shipped weights and manifest."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from latentlab.weights import ENCODERS, REFINERS

ROOT = Path(__file__).parents[1]
WEIGHTS = "latentlab/weights"
MIB = 2**20
FILE, ALL_WEIGHTS, ALL = 16 * MIB, 42 * MIB, 56 * MIB  # so that a clone is quick and the tree can be moved whole
SMALL = {f".{kind}.safetensors": 3 * MIB for kind in (*ENCODERS, *REFINERS, "contrastive")}


def too_large(files: dict[str, int]) -> list[str]:
    """Faults of a tree of tracked files, name -> bytes."""
    limits = {name: next((v for end, v in SMALL.items() if name.endswith(end)), FILE) for name in files}
    sums = {"the weights": sum(size for name, size in files.items() if name.startswith(f"{WEIGHTS}/"))}
    sums["all files"] = sum(files.values())
    limits |= {"the weights": ALL_WEIGHTS, "all files": ALL}
    sizes = {name: (size, limits[name]) for name, size in (files | sums).items()}
    large = {name: (size, most) for name, (size, most) in sizes.items() if size > most}
    return [f"{k}: expected at most {most // MIB} MiB, got {size / MIB:.2f}" for k, (size, most) in large.items()]


def test_tracked_files_stay_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert too_large({str(p.relative_to(ROOT)): p.stat().st_size for p in files if p.is_file()}) == []


def test_a_large_file_is_found():
    encoder = f"{WEIGHTS}/faces.e4e.safetensors"
    assert too_large({"a": 16 * MIB, "b": 16 * MIB, f"{WEIGHTS}/c": 16 * MIB, encoder: 3 * MIB}) == []
    assert too_large({"a": 16 * MIB + 1}) == ["a: expected at most 16 MiB, got 16.00"]
    assert too_large({encoder: 3.5 * MIB}) == [f"{encoder}: expected at most 3 MiB, got 3.50"]
    assert too_large({f"{WEIGHTS}/{i}": 14.1 * MIB for i in range(3)}) == [
        "the weights: expected at most 42 MiB, got 42.30"
    ]
    assert too_large({str(i): 14.1 * MIB for i in range(4)}) == ["all files: expected at most 56 MiB, got 56.40"]


def manifest_faults(folder: Path) -> list[str]:
    """Every shipped file is in the manifest, with its sha256, and the manifest has no other entries."""
    entries = json.loads((folder / "manifest.json").read_text())["files"]
    shipped = {p.name: p for p in folder.iterdir() if p.is_file() and p.suffix != ".py"}
    del shipped["manifest.json"]
    alone = sorted(shipped.keys() ^ entries.keys())
    faults = [f"{name} is in only one of folder and manifest" for name in alone]
    for name in sorted(shipped.keys() & entries.keys()):
        if hashlib.sha256(shipped[name].read_bytes()).hexdigest() != entries[name]["sha256"]:
            faults.append(f"{name} does not have the manifest's sha256")
        if not set(entries[name]) - {"sha256"}:
            faults.append(f"{name} has no provenance")
    return faults


def test_weights_are_those_of_the_manifest():
    folder = ROOT / WEIGHTS
    if not (folder / "manifest.json").is_file():
        pytest.skip("no weights are shipped yet")
    assert manifest_faults(folder) == []


def test_a_replaced_weight_is_found(tmp_path: Path):
    def enter(**files: str) -> None:
        hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
        entries = {f"{name}.safetensors": {"sha256": h, "command": "..."} for name, h in hashes.items()}
        (tmp_path / "manifest.json").write_text(json.dumps({"files": entries}))

    weights = tmp_path / "a.safetensors"
    weights.write_text("weights")
    enter(a="weights")
    assert manifest_faults(tmp_path) == []
    enter(a="others")
    assert manifest_faults(tmp_path) == ["a.safetensors does not have the manifest's sha256"]
    enter(a="weights", b="none")
    assert manifest_faults(tmp_path) == ["b.safetensors is in only one of folder and manifest"]
    enter()
    assert manifest_faults(tmp_path) == ["a.safetensors is in only one of folder and manifest"]
