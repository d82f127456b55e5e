"""Shipped weights: safetensors files, and a manifest with the sha256 and the provenance of each."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
# What belongs to one generator is shipped as NAME.KIND.safetensors.
ENCODERS = (
    "w_encoder", "psp", "e4e", "restyle", "lsap_e", "style_transformer", "clcae", "clcae_multi_token", "feature_style",
)  # fmt: skip
# HFGI's networks and those of the two branches, each for the codes of one encoder
REFINERS = ("hfgi_e4e", "hfgi_lsap_e", "two_branch_e4e", "two_branch_psp")
KINDS = ("generator", "discriminator", "statistics", "directions", "edits", "contrastive", *ENCODERS, *REFINERS)


def read_manifest(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The manifest: file name -> sha256 and provenance (command, images seen, seed, hardware, date)."""
    path = folder / "manifest.json"
    return json.loads(path.read_text())["files"] if path.is_file() else {}


def find(kind: str, fingerprint: str, folder: Path = FOLDER) -> str | None:
    """Name of the shipped file of a kind that belongs to the generator with this fingerprint; None if none does.

    kind: "generator", "discriminator" (to go on training with), "statistics", "directions", "edits", "contrastive"
    (CLCAE's pair), and encoders and refiners by name (these of the whole generator, so by its other fingerprint).
    Raises ``ValueError`` if several files do, as for generators that share a mapping network.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    of_kind = {file: e for file, e in read_manifest(folder).items() if file.endswith(f".{kind}.safetensors")}
    found = [file for file, entry in of_kind.items() if entry.get("fingerprint") == fingerprint]
    if len(found) > 1:
        raise ValueError(
            f"expected one {kind} file for generator {fingerprint}, got {', '.join(found)}; "
            "read one of them by its name"
        )
    return found[0] if found else None


def read_weights(file: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (float32 on the CPU) and metadata of a shipped file, after a check of its sha256.

    Raises ``FileNotFoundError`` for an unknown name, with the known ones, and ``ValueError`` for a damaged file.
    """
    known = read_manifest(folder)
    if file not in known:
        shipped = ", ".join(sorted(known)) or "a manifest without entries"
        raise FileNotFoundError(f"weights: expected one of the shipped files ({shipped}), got {file!r}")
    _check(folder / file, known[file]["sha256"])
    return read_tensors(folder / file)


@cache
def _check(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path}: expected the manifest's sha256 {expected[:12]}..., got {found[:12]}...: the file is damaged or "
            f"was replaced; restore it, e.g. with `git checkout -- {path.name}` in its folder"
        )


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of any safetensors file, half precision converted to float32, and its metadata: JSON decoded, anything
    else as text (other libraries write ``format: pt``)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = {k: _decode(v) for k, v in (file.metadata() or {}).items()}
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file written by latentlab, got {error}") from error
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in tensors.items()}, metadata


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or none that should be in a file: nested without end, 5000 digits
        return text


def write_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any], *, half: bool = False
) -> None:
    """Writes a safetensors file atomically; metadata values are encoded as JSON. half: store floating point tensors
    as float16."""
    from safetensors.torch import save

    path = Path(path)
    narrow = {
        k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous().clone()
        for k, v in tensors.items()
    }
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(save(narrow, {k: json.dumps(v) for k, v in metadata.items()}))
        os.replace(partial, path)
    except Exception as error:  # safetensors reports a full disk with an exception class of its own
        partial.unlink(missing_ok=True)
        raise OSError(f"{path}: writing failed ({error}); an earlier version of the file is untouched") from error


def publish(
    file: str,
    tensors: dict[str, Tensor],
    metadata: dict[str, Any],
    provenance: dict[str, Any],
    *,
    half: bool = True,
    folder: Path = FOLDER,
) -> Path:
    """Writes a file into the shipped weights and its sha256 and provenance into the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / file, tensors, metadata, half=half)
    entry = {"sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest()} | provenance
    files = dict(sorted((read_manifest(folder) | {file: entry}).items()))
    (folder / "manifest.json").write_text(json.dumps({"files": files}, indent=1) + "\n")
    return folder / file
