"""Pickles as plain data.

An interpreter of the pickle opcodes that imports, calls and builds nothing a file names. Numbers, strings and
containers come out as such; an object comes out as a ``Record``: the name of what would build it, its arguments
and its state, none of them acted upon. Only functions of this package, passed as ``builders``, make something
of a record, and only from data. Time and memory are bounded by budgets, whatever a file claims.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_OPERATIONS = 1_000_000  # a checkpoint with three networks and an optimizer takes some 100,000
MAX_TEXT = 64 * 2**20  # bytes of strings, names and numbers; tensors are not copied and do not count
MAX_LINE = 2**16
MAX_KEY = 2**60  # an int from 2^61 on can have the hash of another, and a dict of such keys is slow by intent

_VIEWS = {"BINBYTES": 4, "SHORT_BINBYTES": 1, "BINBYTES8": 8, "BYTEARRAY8": 8}  # opcode -> bytes of its length
_PUSHED = set("INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
              "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8".split()) | set(_VIEWS)  # fmt: skip
_MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict,
}  # fmt: skip
_IGNORED = {"PROTO", "FRAME"}
_OPCODES = {ord(code): op for code, op in pickletools.code2op.items()}
_PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def printable(text: object, most: int = 350) -> str:
    """A text in one line: what a file brings into a message neither breaks it nor moves a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:most]


class RefusedName(ValueError):
    """A pickle names a function or class that is not on the list of what is known to be data."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"it names {printable(name)}, and a file of weights needs only tensors, numbers and containers; "
            "nothing of the file was run, and it was not loaded"
        )
        self.name = name


@dataclass(frozen=True, eq=False, repr=False)
class Name:
    """The name of a class or function, "module.name"; what it stands for was not looked up."""

    text: str


@dataclass(eq=False, repr=False)
class Record:
    """An object as its file describes it: name of its class or builder, arguments, state and items."""

    name: str
    args: tuple
    state: Any = None
    items: list = field(default_factory=list)


class Source:
    """The bytes of a file with a position, read within the budgets; the readers of pickletools read from it."""

    def __init__(self, data: memoryview | bytes) -> None:
        self.data, self.position = memoryview(data), 0
        self.operations, self.text = MAX_OPERATIONS, MAX_TEXT

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        left = len(self.data) - self.position
        if not 0 <= count <= left:
            raise ValueError(f"{count} bytes are claimed at byte {self.position}, and {left} are left: the file is "
                             "damaged or was cut off")  # fmt: skip
        self.position += count
        return self.data[self.position - count : self.position]

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes, copied, for numbers and strings."""
        taken = self.take(count)
        self.spend(count)
        return bytes(taken)

    def spend(self, count: int) -> None:
        """Takes ``count`` bytes or items that are copied from the budget."""
        self.text -= count
        if self.text < 0:
            raise ValueError(f"more than {MAX_TEXT >> 20} MiB of text; a file of weights has a hundredth of it")

    def readline(self) -> bytes:
        """The bytes up to the next line feed, this included."""
        for longest in (256, MAX_LINE):  # most are short, and there may be many
            end = bytes(self.data[self.position : self.position + longest]).find(b"\n") + 1
            if end:
                return self.read(end)
        raise ValueError(f"no end of the line that begins at byte {self.position}: the file is damaged")


def read_pickle(
    source: Source,
    *,
    builders: Mapping[str, Callable[..., Any]],
    is_data: Callable[[str], bool],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The object that stands at the position of ``source``, as plain data.

    builders: functions of ours by the names that files use for them; they get the arguments as plain data.
    is_data: whether a name that has no builder may appear; its objects come out as ``Record``. Any other name
    raises ``RefusedName``. persistent: makes data of a persistent id. Raises ``ValueError`` for everything that
    is damaged, cut off, too large or no pickle, after bounded time and memory.
    """
    machine = _Machine(source, builders, is_data, persistent)
    start = source.position
    while True:
        at = source.position
        try:
            op = _OPCODES[source.take(1)[0]]
            if op.name == "STOP":
                return machine.stack.pop()
            machine.step(op)
        except RefusedName:
            raise
        except Exception as error:  # the many ways in which nonsense fails: all of them are the file's fault
            where = f"at byte {at}" if at > start else "at its beginning"
            says = error if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
            says = printable(says, 200)  # pickletools repeats what it could not read, all of it
            raise ValueError(f"no readable pickle: {where}: {says}") from error
        source.operations -= 1
        if source.operations < 0:
            raise ValueError(f"more than {MAX_OPERATIONS:,} operations; a file of weights has a tenth of it")


class _Machine:
    """The stack and the memo; one method for each group of opcodes."""

    def __init__(self, source: Source, builders: Mapping, is_data: Callable, persistent: Callable | None) -> None:
        self.source, self.builders, self.is_data, self.persistent = source, builders, is_data, persistent
        self.stack: list = []
        self.marked: list[list] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def step(self, op: pickletools.OpcodeInfo) -> None:
        name, push = op.name, self.stack.append
        if name in _VIEWS:
            return push(self.source.take(int.from_bytes(self.source.read(_VIEWS[name]), "little")))
        argument = op.arg.reader(self.source) if op.arg else None
        if name in _PUSHED:
            push(argument)
        elif name in _MADE:
            push(_MADE[name]())
        elif name.endswith("PUT"):
            self.memo[argument] = self.stack[-1]
        elif name.endswith("GET"):
            push(self.memo[argument])
        elif name not in _IGNORED:
            handler = getattr(self, "_" + name.lower(), None)
            if handler is None:
                raise ValueError(f"the opcode {name} has no place in a file of weights")
            handler(argument)

    def since_mark(self) -> list:
        """What was pushed since the last mark; the stack below it is in use again."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop(self, count: int) -> list:
        if len(self.stack) < count:
            raise ValueError("the stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _mark(self, _: None) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _pop_mark(self, _: None) -> None:
        self.since_mark()

    def _pop(self, _: None) -> None:
        self.stack.pop() if self.stack else self.since_mark()

    def _dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    # --- containers ------------------------------------------------------------------------------------

    def _tuple(self, _: None) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def _tuple1(self, _: None) -> None:
        self.stack.append(tuple(self.pop(1)))

    def _tuple2(self, _: None) -> None:
        self.stack.append(tuple(self.pop(2)))

    def _tuple3(self, _: None) -> None:
        self.stack.append(tuple(self.pop(3)))

    def _list(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(items)

    _frozenset = _list  # sets come out as lists: nothing of a file is hashed but keys

    def _dict(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def _append(self, _: None) -> None:
        self.extend(self.pop(1))

    def _appends(self, _: None) -> None:
        self.extend(self.since_mark())

    _additems = _appends

    def _setitem(self, _: None) -> None:
        self.set_items(self.pop(2))

    def _setitems(self, _: None) -> None:
        self.set_items(self.since_mark())

    def extend(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, list | Record):
            raise ValueError(f"items are appended to a {type(target).__name__}")
        (target.items if isinstance(target, Record) else target).extend(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict | Record) or len(items) % 2:
            raise ValueError(f"{len(items)} keys and values are entered into a {type(target).__name__}")
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, Record):
            target.items.extend(pairs)
        else:
            enter(target, pairs)

    # --- names and objects -----------------------------------------------------------------------------

    def _global(self, argument: str) -> None:
        self.name(*argument.split(" ", 1))

    def _stack_global(self, _: None) -> None:
        self.name(*self.pop(2))

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("the name of a class is no text")
        text = f"{_PYTHON2.get(module, module)}.{name}"
        if text not in self.builders and not self.is_data(text):
            raise RefusedName(text[:200])
        self.stack.append(Name(text))

    def make(self, what: Any, args: Any) -> None:
        if not isinstance(what, Name) or not isinstance(args, tuple):
            raise ValueError(f"a {type(what).__name__} is called; only named classes have a meaning")
        builder = self.builders.get(what.text)
        if builder is not None:  # it may copy what it gets, and the same can be given to it many times
            self.source.spend(sum(len(a) for a in args if isinstance(a, str | list | tuple | dict)))
        self.stack.append(Record(what.text, args) if builder is None else builder(*args))

    def _reduce(self, _: None) -> None:
        self.make(*self.pop(2))

    _newobj = _reduce  # cls.__new__(cls, *args)

    def _newobj_ex(self, _: None) -> None:
        what, args, keywords = self.pop(3)
        if keywords:
            raise ValueError("an object is made with keywords, which no file of weights needs")
        self.make(what, args)

    def _obj(self, _: None) -> None:
        what, *args = self.since_mark()
        self.make(what, tuple(args))

    def _inst(self, argument: str) -> None:
        args = tuple(self.since_mark())
        self.name(*argument.split(" ", 1))
        self.make(self.stack.pop(), args)

    def _build(self, _: None) -> None:
        """The state of an object. What came out as a list or dict has none; a state dict's is its versions."""
        (state,) = self.pop(1)
        target = self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, list | dict):
            raise ValueError(f"a state is set upon a {type(target).__name__}")

    def _persid(self, argument: str) -> None:
        self.stack.append(argument)
        self._binpersid(None)

    def _binpersid(self, _: None) -> None:
        if self.persistent is None:
            raise ValueError("it refers to data outside of itself (a persistent id)")
        self.stack.append(self.persistent(self.stack.pop()))


def enter(target: dict, pairs: list) -> None:
    """Enters pairs whose keys are strings or small whole numbers."""
    for key, value in pairs:
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < MAX_KEY):
            raise ValueError(f"a key is a {type(key).__name__} or too large; strings and small numbers are known")
        target[key] = value
