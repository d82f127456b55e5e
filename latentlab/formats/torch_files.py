"""Files of torch.save and bare pickles, opened without torch's unpickler.

torch.load(weights_only=True) refuses the argparse.Namespace that trainers put beside their weights, follows what
a file claims about sizes, and before torch 2.6 could be made to run code (CVE-2025-32434). Here one interpreter,
which calls nothing, reads all three layouts: zip archives, the layout before torch 1.6, and pickles whose tensors
carry that layout inside (``torch.storage._load_from_bytes``), as NVIDIA's do.
"""

import io
import mmap
import struct
import zipfile
from pathlib import Path
from typing import Any

from latentlab.formats.pickles import Source, read_pickle
from latentlab.formats.tensors import BUILDERS, Storage, check, is_data, make_storage

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the layout before torch 1.6
MAX_DIRECTORY = 4 * 2**20  # bytes of a zip's table of contents; a large checkpoint has half a megabyte


class _Guarded(io.FileIO):
    """A file whose single reads are bounded, for zipfile believes what an archive claims."""

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise ValueError(f"its table of contents claims {size} bytes; {MAX_DIRECTORY} are the most")
        return super().read(size)


def map_file(path: Path) -> memoryview:
    """The bytes of a file, read as they are looked at."""
    with open(path, "rb") as file:
        if path.stat().st_size == 0:
            raise ValueError("it is empty: the download broke off before it began; get it again")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_objects(path: Path) -> Any:
    """What a pickle or a file of torch.save holds, as plain data and ``StoredTensor``.

    Raises ``ValueError`` for what is damaged, and ``RefusedName`` for what names anything but data.
    """
    data = map_file(path)
    if bytes(data[:4]) == b"PK\x03\x04":
        return _read_archive(path, data)
    source = Source(data)
    if _is_legacy(data):
        return _read_legacy(source)
    builders = BUILDERS | {"torch.storage._load_from_bytes": _Nested(source).load}
    return read_pickle(source, builders=builders, is_data=is_data)


# --- zip archives: torch 1.6 and later ----------------------------------------------------------------------


def _read_archive(path: Path, data: memoryview) -> Any:
    entries = _read_directory(path)
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1 or f"{roots[0]}constants.pkl" in entries:
        raise ValueError("it is a zip archive, but not one of torch.save" + _looks_like(entries))
    root = roots[0]
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(_content(order, data)) != b"little":
        raise ValueError("its numbers are big-endian: save it again on a machine of the usual kind")

    pickled = entries[f"{root}data.pkl"]
    content = _content(pickled, data)
    check(content, pickled.CRC)
    find = _Archived(entries, root, data).find
    return read_pickle(Source(content), builders=BUILDERS, is_data=is_data, persistent=find)


class _Storages(dict[str, Storage]):
    """The storages that a pickle refers to, by their keys."""

    def find(self, persistent: Any) -> Storage:
        """The storage of a persistent id, one for each key."""
        storage, key = make_storage(persistent)
        if key not in self:
            self[key] = storage
            self.fill(storage, key)
        elif (self[key].dtype, self[key].count) != (storage.dtype, storage.count):
            raise ValueError(f"the storage {key!r} is described in two ways")
        return self[key]

    def fill(self, storage: Storage, key: str) -> None:
        """Nothing: before torch 1.6 the numbers stand behind the pickle."""


class _Archived(_Storages):
    """The storages of a zip archive, whose numbers are there from the start."""

    def __init__(self, entries: dict[str, zipfile.ZipInfo], root: str, data: memoryview) -> None:
        self.entries, self.root, self.data = entries, root, data

    def fill(self, storage: Storage, key: str) -> None:
        entry = self.entries.get(f"{self.root}data/{key}")
        if entry is None:
            raise ValueError(f"the archive lacks the numbers {key!r} of a tensor")
        storage.fill(_content(entry, self.data))
        storage.checksum = entry.CRC


def _read_directory(path: Path) -> dict[str, zipfile.ZipInfo]:
    try:
        with _Guarded(path) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, struct.error, OSError, NotImplementedError, ValueError, OverflowError) as error:
        raise ValueError(f"it begins as a zip archive and has no readable table of contents ({error}): "
                         "the download was probably cut off; get it again") from error  # fmt: skip
    entries = {info.filename: info for info in infos}
    if len(entries) < len(infos):
        raise ValueError("the archive has two entries of one name")
    return entries


def _content(info: zipfile.ZipInfo, data: memoryview) -> memoryview:
    """The bytes of an entry, in place: torch never compresses, so what unpacks to more than the file is refused."""
    name = info.filename[:80]
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
        raise ValueError(f"the entry {name!r} is compressed or encrypted, which torch.save never does")
    head = data[info.header_offset : info.header_offset + 30]
    if info.header_offset < 0 or len(head) < 30 or bytes(head[:4]) != b"PK\x03\x04":
        raise ValueError(f"the entry {name!r} is not where the table of contents says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
    content = data[start : start + info.file_size]
    if len(content) != info.file_size:
        raise ValueError(f"the entry {name!r} is cut off: get the file again")
    return content


def _looks_like(entries: dict[str, zipfile.ZipInfo]) -> str:
    if any(name.endswith(".npy") for name in entries):
        return ": it is an .npz of numpy arrays"
    if any(name.endswith("constants.pkl") for name in entries):
        return ": it is TorchScript, a program; a file of tensors (a state dict) is wanted"
    return f" (it holds {', '.join(sorted(entries)[:3])[:120]})" if entries else " (it is empty)"


# --- before torch 1.6 -----------------------------------------------------------------------------------------


def _is_legacy(data: memoryview) -> bool:
    try:
        return read_pickle(Source(data[:64]), builders={}, is_data=lambda _: False) == MAGIC
    except ValueError:
        return False


def _read_legacy(source: Source) -> Any:
    """Five pickles (magic number, version, the writing machine, the object, keys), then the numbers of each key."""
    storages = _Storages()
    plain = {"builders": {}, "is_data": lambda _: False}
    for _ in range(2):
        read_pickle(source, **plain)
    machine = read_pickle(source, **plain)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian: save it again on a machine of the usual kind")
    value = read_pickle(source, builders=BUILDERS, is_data=is_data, persistent=storages.find)
    keys = read_pickle(source, **plain)
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str) or key not in storages or storages[key].data is not None:
            raise ValueError("the list of storages does not fit the tensors")
        count = int.from_bytes(source.read(8), "little")
        if count != storages[key].count:
            raise ValueError(f"a tensor claims {storages[key].count} numbers, and its storage has {count}")
        storages[key].fill(source.take(count * storages[key].dtype.itemsize))
    if missing := sum(storage.data is None for storage in storages.values()):
        raise ValueError(f"the numbers of {missing} tensors are missing")
    return value


class _Nested:
    """``torch.storage._load_from_bytes``: a storage as a file inside of the file, read within the same budgets."""

    def __init__(self, outer: Source) -> None:
        self.outer = outer

    def load(self, data: Any) -> Storage:
        if not isinstance(data, memoryview) or not _is_legacy(data):
            raise ValueError("a storage is no file of torch.save inside of the file")
        source = Source(data)
        source.operations, source.text = self.outer.operations, self.outer.text
        storage = _read_legacy(source)
        self.outer.operations, self.outer.text = source.operations, source.text
        if not isinstance(storage, Storage):
            raise ValueError(f"the bytes of a storage hold a {type(storage).__name__}")
        return storage
