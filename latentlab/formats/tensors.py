"""Tensors and arrays of pickles: described first, read when wanted."""

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentlab.formats.pickles import Name, Record, enter

MAX_DIMENSIONS = 8
STORAGES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip
_NUMPY = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i1": torch.int8, "i2": torch.int16,
    "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
_ARRAY = re.compile(r"numpy\.(_core|core)\.(multiarray\._reconstruct|numeric\._frombuffer)")
_SCALAR = re.compile(r"numpy\.(_core|core)\.multiarray\.scalar")
_DATA = re.compile(
    r"torch\.(\w+Storage|storage\.\w+Storage|Size|device|b?float\d*|bfloat16|half|double|u?int\d*|long|bool)"
    r"|torch\.nn\.(modules\.\w+|parameter)\.[A-Z]\w*|torch_utils\.persistence\._reconstruct_persistent_obj"
    r"|numpy\.(_core|core)\.(multiarray\.(_reconstruct|scalar)|numeric\._frombuffer)"
    r"|numpy\.(dtype|ndarray|bool_?|float\d+|u?int\d+)"
    r"|argparse\.Namespace|types\.SimpleNamespace|pathlib\.\w*Path|builtins\.object"
)


def is_data(name: str) -> bool:
    """Whether objects of that name may stand in a file of weights; they are kept as records, never built."""
    return _DATA.fullmatch(name) is not None


@dataclass(eq=False, repr=False)
class Storage:
    """``count`` numbers of one type; ``data`` are their bytes, which some formats hold behind the pickle."""

    dtype: torch.dtype
    count: int
    data: memoryview | None = None
    checksum: int | None = None  # CRC-32 of the bytes where the file has one

    def fill(self, data: memoryview) -> None:
        """Sets the bytes; raises ``ValueError`` unless they are as many as claimed."""
        if len(data) != self.count * self.dtype.itemsize:
            raise ValueError(f"a tensor claims {self.count} numbers of {self.dtype}, and {len(data)} bytes are there")
        self.data = data

    def verify(self) -> None:
        """Raises ``ValueError`` where there are no bytes, or other ones than were written; looks once."""
        if self.data is None:
            raise ValueError("a tensor's numbers are not in the file")
        if self.checksum is not None:
            check(self.data, self.checksum)
            self.checksum = None


def check(data: memoryview, checksum: int) -> None:
    """Raises ``ValueError`` unless the bytes have this CRC-32."""
    if zlib.crc32(data) != checksum:
        raise ValueError("the numbers of a tensor are not those that were saved (wrong checksum): get the file again, "
                         "or save it again if it was saved with torch's checksums off")  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class StoredTensor:
    """A tensor that was not read yet: where its numbers lie in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def read(self) -> Tensor:
        """A copy of its numbers, in memory of its own."""
        self.storage.verify()
        size = self.storage.dtype.itemsize
        extent = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        part = bytearray(self.storage.data[self.offset * size : (self.offset + extent) * size])
        flat = torch.frombuffer(part, dtype=torch.uint8)
        if self.storage.dtype is torch.bool:  # a byte other than 0 and 1 would be no bool
            flat = (flat != 0).view(torch.uint8)
        return flat.view(self.storage.dtype).as_strided(self.shape, self.stride).contiguous()


def _whole(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**48


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """A description of a part of a storage. Whatever reaches beyond it, or repeats its numbers, is refused."""
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor is made of a {type(storage).__name__}, not of a storage")
    sizes = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride) <= MAX_DIMENSIONS
    if not sizes or not all(map(_whole, (offset, *shape, *stride))):
        raise ValueError("a tensor's shape, strides or offset are no small whole numbers")
    reach = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1
    if 0 not in shape and (reach > storage.count or math.prod(shape) > storage.count):
        raise ValueError(f"a tensor of shape {shape} and strides {stride} does not fit its {storage.count} numbers")
    return StoredTensor(storage, offset, shape, stride)


def _rebuild_parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise ValueError(f"a parameter is made of a {type(tensor).__name__}, not of a tensor")
    return tensor


def _make_dict(*args: Any) -> dict:
    """OrderedDict(), OrderedDict([[key, value], ..]), defaultdict(kind)."""
    made: dict = {}
    if args and isinstance(args[-1], dict):
        made.update(args[-1])
    elif args and isinstance(args[-1], list):
        enter(made, [(key, value) for key, value in args[-1]])
    return made


def _make_list(items: Any = ()) -> list:
    if not isinstance(items, list | tuple):
        raise ValueError(f"a list is made of a {type(items).__name__}")
    return list(items)


def _encode(text: Any, encoding: Any = "latin1") -> memoryview:
    """How pickles of protocol 2 write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes are written in an unknown encoding")
    return memoryview(text.encode("latin1"))


BUILDERS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _make_dict,
    "collections.defaultdict": _make_dict,
    "dnnlib.util.EasyDict": _make_dict,
    "builtins.dict": _make_dict,
    "builtins.set": _make_list,
    "builtins.frozenset": _make_list,
    "builtins.list": _make_list,
    "builtins.bytes": lambda: memoryview(b""),
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def make_storage(persistent: Any) -> tuple[Storage, str]:
    """The storage, still empty, and its key, of a persistent id ("storage", type, key, device, count, ...)."""
    if not isinstance(persistent, tuple) or len(persistent) < 5 or persistent[0] != "storage":
        raise ValueError("an outside reference is not torch's ('storage', type, key, device, count)")
    _, kind, key, _, count, *view = persistent
    if not isinstance(kind, Name) or kind.text not in STORAGES:
        raise ValueError(f"a tensor is stored as {kind.text if isinstance(kind, Name) else type(kind).__name__}; "
                         f"known are {', '.join(STORAGES)}")  # fmt: skip
    if not isinstance(key, str) or not _whole(count) or any(v is not None for v in view):
        raise ValueError("a tensor's storage has no name, no length, or is a view of another")
    return Storage(STORAGES[kind.text], count), key


# --- numpy --------------------------------------------------------------------------------------------------


def _numpy_type(record: Any) -> torch.dtype:
    """numpy.dtype('f4', False, True), state (3, '<', ...)."""
    is_type = isinstance(record, Record) and record.name == "numpy.dtype" and len(record.args) > 0
    code = record.args[0] if is_type and isinstance(record.args[0], str) else ""
    order = record.state[1] if is_type and isinstance(record.state, tuple) and len(record.state) > 1 else "<"
    if code not in _NUMPY or order not in ("<", "|", "="):
        raise ValueError(f"an array is of an unknown type {code[:20]!r}, or big-endian; known are {', '.join(_NUMPY)}")
    return _NUMPY[code]


def _array(record: Record) -> StoredTensor:
    """numpy's _reconstruct with the state (1, shape, dtype, by columns, bytes), or _frombuffer(bytes, dtype, shape,
    "C" or "F") of protocol 5."""
    if record.name.endswith("_frombuffer") and len(record.args) == 4:
        data, kind, shape, order = record.args
        columns = order == "F"
    elif isinstance(record.state, tuple) and len(record.state) == 5:
        _, shape, kind, columns, data = record.state
    else:
        raise ValueError("an array has no numbers")
    if not isinstance(data, memoryview) or not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        raise ValueError("an array's shape or numbers are damaged")
    if not all(map(_whole, shape)):
        raise ValueError("an array's shape is not of small whole numbers")
    storage = Storage(_numpy_type(kind), math.prod(shape))
    storage.fill(data)
    stride, step = [], 1
    for n in shape if columns else reversed(shape):
        stride.append(step)
        step *= n
    return rebuild_tensor(storage, 0, shape, tuple(stride if columns else reversed(stride)))


def find_tensor(value: Any) -> StoredTensor | None:
    """``value`` as a stored tensor if it is one or a numpy array, else None."""
    if isinstance(value, Record) and _ARRAY.fullmatch(value.name):
        return _array(value)
    return value if isinstance(value, StoredTensor) else None


def as_plain(value: Any, depth: int = 2) -> Any:
    """Numbers, strings, lists and dicts of options; of anything else its name, of what lies deeper "..."."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Name):
        return value.text
    if isinstance(value, Record) and _SCALAR.fullmatch(value.name) and len(value.args) == 2:
        storage = Storage(_numpy_type(value.args[0]), 1)
        storage.fill(value.args[1])
        return rebuild_tensor(storage, 0, (), ()).read().item()
    if isinstance(value, Record) and value.name.startswith("pathlib."):
        return "/".join(part for part in value.args if isinstance(part, str))
    if depth == 0:
        return "..."
    if isinstance(value, Record) and value.name in ("argparse.Namespace", "types.SimpleNamespace"):
        value = value.state
    if isinstance(value, dict):
        return {key: as_plain(v, depth - 1) for key, v in list(value.items())[:1000]}
    if isinstance(value, list | tuple):
        return [as_plain(v, depth - 1) for v in value[:1000]]
    return value.name if isinstance(value, Record) else type(value).__name__
