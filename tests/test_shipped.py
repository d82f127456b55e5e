"""What a clone brings: few and small files, and weights that are those of the manifest."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WEIGHTS = "latentlab/weights"
MIB = 2**20


def too_large(files: dict[str, int]) -> list[str]:
    """Faults of a tree of tracked files, name -> bytes; it must move to a GPU machine whole."""
    weights = sum(size for name, size in files.items() if name.startswith(f"{WEIGHTS}/"))
    faults = [f"{name} has {size / MIB:.1f} MiB, over 16" for name, size in files.items() if size > 16 * MIB]
    faults += [f"the weights have {weights / MIB:.1f} MiB, over 36"] if weights > 36 * MIB else []
    total = sum(files.values())
    return faults + ([f"all files have {total / MIB:.1f} MiB, over 48"] if total > 48 * MIB else [])


def test_tracked_files_stay_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert too_large({str(p.relative_to(ROOT)): p.stat().st_size for p in files if p.is_file()}) == []


def test_a_large_file_is_found():
    assert too_large({"a": 16 * MIB, "b": 16 * MIB, f"{WEIGHTS}/c": 16 * MIB}) == []
    assert len(too_large({"a": 16 * MIB + 1})) == 1
    assert len(too_large({f"{WEIGHTS}/{i}": 13 * MIB for i in range(3)})) == 1
    assert len(too_large({str(i): 13 * MIB for i in range(4)})) == 1


def manifest_faults(folder: Path) -> list[str]:
    """Every shipped file stands in the manifest with its sha256, and nothing else does."""
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
