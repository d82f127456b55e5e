"""The shipped weights: safetensors beside a manifest with the sha256 and the provenance of each."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent


def read_manifest(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The shipped files: name -> sha256 and provenance (command, images seen, seed, hardware, date)."""
    path = folder / "manifest.json"
    return json.loads(path.read_text())["files"] if path.is_file() else {}


def read_weights(file: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (float32 on the CPU) and metadata of a shipped file, after its sha256 was checked.

    Raises ``FileNotFoundError`` that lists what is shipped, and ``ValueError`` for a damaged file.
    """
    known = read_manifest(folder)
    if file not in known:
        raise FileNotFoundError(f"no weights {file!r} are shipped; there are: {', '.join(sorted(known)) or 'none'}")
    _check(folder / file, known[file]["sha256"])
    return read_tensors(folder / file)


@cache
def _check(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} is damaged or was replaced: its sha256 is {found[:12]}..., the manifest has "
            f"{expected[:12]}...; get it again, e.g. with `git checkout -- {path.name}` in its folder"
        )


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of any safetensors file, half precision widened to float32, and its decoded metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file of latentlab ({error})") from error
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in tensors.items()}, metadata


def write_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any], *, half: bool = False
) -> None:
    """Writes a safetensors file atomically; metadata values are encoded as JSON, ``half`` narrows
    floating tensors to float16."""
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
    except Exception as error:  # safetensors reports a full disk under a class of its own
        partial.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({error}); the file before it is untouched") from error


def publish(
    file: str,
    tensors: dict[str, Tensor],
    metadata: dict[str, Any],
    provenance: dict[str, Any],
    *,
    half: bool = True,
    folder: Path = FOLDER,
) -> Path:
    """Adds weights to the shipped ones and enters sha256 and provenance into the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / file, tensors, metadata, half=half)
    entry = {"sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest()} | provenance
    files = dict(sorted((read_manifest(folder) | {file: entry}).items()))
    (folder / "manifest.json").write_text(json.dumps({"files": files}, indent=1) + "\n")
    return folder / file
