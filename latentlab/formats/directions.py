"""Files of editing directions: InterFaceGAN's boundaries (.npy), e4e's (.pt), GANSpace's components, and others."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentlab.formats.contents import read_contents
from latentlab.formats.tensors import find_tensor

MAX_BYTES = 64 * 2**20  # of an array; 512 directions of W+ at 1024 px have 19 MiB
MAX_LAYERS = 32


def read_directions(path: str | Path) -> dict[str, Tensor]:
    """Directions by name: (D,) in W or (L, D) in W+, float32, with the lengths that the file has.

    A file of one direction names it after itself. InterFaceGAN's boundaries have length 1; GANSpace's components
    ("component 0", ..) come multiplied by their standard deviation in W. Nothing of the file is run. Raises
    ``ValueError`` for what is no direction.
    """
    path = Path(path)
    try:
        found = _of_numpy(path) if _is_numpy(path) else _of_torch(read_contents(path), path.stem)
        directions = {name: _shaped(name, tensor) for name, tensor in found.items()}
        if not directions:
            raise ValueError("it holds no directions")
        return directions
    except (ValueError, OSError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(f"{path}: {error}") from error


def _is_numpy(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _of_numpy(path: Path) -> dict[str, Tensor]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(info.file_size > MAX_BYTES for info in archive.infolist()):
                raise ValueError(f"an array claims more than {MAX_BYTES >> 20} MiB, and directions are small")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _of_array(arrays[name]) for name in arrays.files}
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return {path.stem: _of_array(array)}


def _of_array(array: np.ndarray) -> Tensor:
    if array.dtype.kind != "f" or array.nbytes > MAX_BYTES:
        raise ValueError(f"expected an array of floats, got {array.dtype} with {array.nbytes} bytes")
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _of_torch(value: Any, name: str) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        value = {name: value}
    tensors = {str(k): v if isinstance(v, Tensor) else find_tensor(v) for k, v in value.items()}
    sound = {k: v for k, v in tensors.items() if v is not None and v.nbytes <= MAX_BYTES}
    read = {k: (v if isinstance(v, Tensor) else v.read()).float() for k, v in list(sound.items())[:1000]}
    if {"lat_comp", "lat_stdev"} <= read.keys():  # GANSpace: (K, 1, D) unit vectors, (K,) standard deviations
        steps = read["lat_comp"].flatten(1) * read["lat_stdev"].flatten()[:, None]
        return {f"component {i}": step for i, step in enumerate(steps)}
    return read


def _shaped(name: str, direction: Tensor) -> Tensor:
    """(D,), (1, D) and (1, 1, D) to (D,); (L, D) and (1, L, D) to (L, D)."""
    given = tuple(direction.shape)
    if direction.ndim == 3 and len(direction) == 1:
        direction = direction[0]
    if direction.ndim == 2 and len(direction) == 1:
        direction = direction[0]
    if direction.ndim not in (1, 2) or (direction.ndim == 2 and len(direction) > MAX_LAYERS) or direction.shape[-1] < 2:
        raise ValueError(f"{name[:80]}: expected a direction of W (D,) or of W+ (L, D), got the shape {given}")
    if not bool(direction.isfinite().all()) or not bool(direction.any()):
        raise ValueError(f"{name[:80]}: expected a direction, got zeros, NaN or infinite numbers")
    return direction.contiguous()
