"""Files of editing directions: InterFaceGAN's boundaries (.npy), e4e's (.pt), GANSpace's components, and others."""

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentlab.formats.contents import read_contents
from latentlab.formats.pickles import printable
from latentlab.formats.tensors import MAX_DIMENSIONS, find_tensor
from latentlab.formats.torch_files import map_file

MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096
_HEADER = re.compile(
    rb"\{'descr': ?'([<=]f[248])', ?'fortran_order': ?(True|False), ?'shape': ?\(([\dL, ]*)\),? *\}\s*"
)
MAX_BYTES = 64 * 2**20  # of an array; 512 directions of W+ at 1024 px have 19 MiB
# What reading nonsense ends in, of zipfile and zlib as well.
_DAMAGED = (ValueError, OSError, EOFError, MemoryError, LookupError, TypeError, RuntimeError, zipfile.BadZipFile,
            zlib.error)  # fmt: skip
# Names of unit vectors (K, 1, D) and of their standard deviations in W, (K,): GANSpace's, and e4e's copy of them.
_COMPONENTS = (("lat_comp", "lat_stdev"), ("comp", "std"))


def read_directions(path: str | Path) -> dict[str, Tensor]:
    """Directions by name, float32, with the lengths that the file has: (D,) of W, or (K, D).

    The latter is one direction of W+ with a row for each layer, or K directions of W: the file does not say which;
    ``latentlab.editing.files.read_edits`` decides by the generator. A file of one array names it after itself.
    InterFaceGAN's boundaries have length 1. GANSpace's components ("component 0", ..) come multiplied by their standard
    deviation in W where the file has it; of closed-form factorisation ("eigvec") the columns are the components.
    Nothing of the file is run. Raises ``ValueError`` for what is no direction.
    """
    path = Path(path)
    try:
        found = _of_numpy(path) if _is_numpy(path) else _of_torch(read_contents(path), path.stem)
        directions = {name: _shaped(name, tensor) for name, tensor in _components(found).items()}
        if not directions:
            raise ValueError("it holds no directions")
        return directions
    except _DAMAGED as error:
        says = error if isinstance(error, ValueError) else f"it is damaged ({type(error).__name__}: {error})"
        raise ValueError(f"{path}: {printable(says)}") from error


def _is_numpy(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.read(6) == MAGIC:
            return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _of_numpy(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        return {path.stem: _read_array(map_file(path))}
    with zipfile.ZipFile(path) as archive:
        entries = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if sum(info.file_size for info in entries) > MAX_BYTES:
            raise ValueError(f"its arrays claim more than {MAX_BYTES >> 20} MiB, and directions are small")
        return {info.filename.removesuffix(".npy"): _read_array(archive.read(info)) for info in entries}


def _read_array(data: bytes | memoryview) -> Tensor:
    """The floats of a .npy file. numpy itself would parse its header as an expression of Python; here it is matched."""
    wide = bytes(data[6:7]) != b"\x01"  # from version 2 on, the length of the header has 4 bytes
    start = 12 if wide else 10
    end = start + int.from_bytes(data[8:start], "little")
    found = _HEADER.fullmatch(bytes(data[start : min(end, start + MAX_HEADER)])) if bytes(data[:6]) == MAGIC else None
    if found is None:
        raise ValueError(f"expected an array of floats, got the header {bytes(data[start : start + 60])!r}")
    kind, columns, sizes = np.dtype(found[1].decode()), found[2] == b"True", found[3].replace(b"L", b"")
    shape = tuple(int(n) for n in sizes.split(b",") if n.strip())
    count = math.prod(shape)
    if count * kind.itemsize > min(MAX_BYTES, len(data) - end) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"an array of shape {shape} is claimed, and {max(0, len(data) - end)} bytes are there; "
                         f"{MAX_BYTES >> 20} MiB and {MAX_DIMENSIONS} dimensions are the most")  # fmt: skip
    numbers = np.frombuffer(data, kind, count, end).reshape(shape, order="F" if columns else "C")
    return torch.from_numpy(np.array(numbers, dtype=np.float32))


def _of_torch(value: Any, name: str) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        value = {name: value}
    tensors = {str(k): v if isinstance(v, Tensor) else find_tensor(v) for k, v in value.items()}
    sound = {k: v for k, v in tensors.items() if v is not None and v.nbytes <= MAX_BYTES}
    return {k: (v if isinstance(v, Tensor) else v.read()).float() for k, v in list(sound.items())[:1000]}


def _components(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The components of GANSpace or of closed-form factorisation, (D,) each; other tensors as they are."""
    for vectors, std in _COMPONENTS:
        if vectors in found:
            steps = _shaped(vectors, found[vectors]).reshape(-1, found[vectors].shape[-1])
            if std in found:
                if found[std].numel() != len(steps):
                    raise ValueError(f"{std}: expected one for each of {len(steps)} components, got the shape "
                                     f"{tuple(found[std].shape)}")  # fmt: skip
                steps = steps * found[std].reshape(-1, 1)
            return {f"component {i}": step for i, step in enumerate(steps)}
    if "eigvec" in found:
        vectors = _shaped("eigvec", found["eigvec"])
        return {f"component {i}": column for i, column in enumerate(vectors.reshape(-1, vectors.shape[-1]).T)}
    return found


def _shaped(name: str, direction: Tensor) -> Tensor:
    """To (D,) or (K, D), without dimensions of size 1."""
    given = tuple(direction.shape)
    if direction.ndim > 1:
        direction = direction.reshape(*(n for n in given[:-1] if n > 1), given[-1])
    if direction.ndim not in (1, 2) or direction.shape[-1] < 2:
        raise ValueError(f"{name[:80]}: expected a direction of W (D,) or of W+ (L, D), or several, got the shape "
                         f"{given}")  # fmt: skip
    if not bool(direction.isfinite().all()) or not bool(direction.any()):
        raise ValueError(f"{name[:80]}: expected a direction, got zeros, NaN or infinite numbers")
    return direction.contiguous()
