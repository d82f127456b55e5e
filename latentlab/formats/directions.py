"""Files of editing directions: InterFaceGAN's boundaries (.npy), e4e's (.pt), GANSpace's components, and others."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentlab.formats.contents import read_contents
from latentlab.formats.pickles import printable
from latentlab.formats.tensors import find_tensor

MAX_BYTES = 64 * 2**20  # of an array; 512 directions of W+ at 1024 px have 19 MiB
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
    except (ValueError, OSError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(f"{path}: {printable(error)}") from error


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
