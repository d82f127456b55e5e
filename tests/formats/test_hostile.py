"""Files made to do harm, or damaged: nothing of them runs, and each ends in one clear sentence, in bounded memory.

An audit hook watches: while it is armed, Python reports every import, compilation, execution, file that is opened,
process and connection, and all but opening the file itself is a fault. The same hook sees real pickle run the first
of these files, or it would prove nothing.
"""

import ast
import math
import os
import pickle
import random
import resource
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import foreign
import pytest
import torch
from safetensors.torch import save_file

from latentlab.editing.files import read_edits
from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.psp import PspEncoder
from latentlab.encoders.shipped import load_encoder
from latentlab.formats import nvlabs, pickles, rosinality
from latentlab.formats.pickles import MAX_OPERATIONS, Source, read_pickle
from latentlab.formats.torch_files import read_objects
from latentlab.inversion.refiners import load_refiner
from latentlab.inversion.result import Inversion
from latentlab.networks.hfgi import Hfgi, HfgiConfig
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.weights import read_tensors, write_tensors
from latentlab.weights.generators import load

MIB = 2**20
CONFIG = GeneratorConfig(8, 3, 4, 1, (3, 2))
HARMLESS = {"open", "mmap.__new__", "os.stat", "object.__getattr__", "sys._getframe", "builtins.id", "os.fspath"}


class Watch:
    """What Python's audit events tell between ``with`` and its end; a hook cannot be removed, so there is one."""

    armed, seen = False, []

    def __enter__(self):
        Watch.seen, Watch.armed = [], True
        return Watch.seen

    def __exit__(self, *_):
        Watch.armed = False


def hook(event: str, args: tuple) -> None:
    if Watch.armed and (event not in HARMLESS or event == "open" and "w" in str(args[1])):
        Watch.seen.append((event, str(args)[:100]))


sys.addaudithook(hook)


@pytest.fixture(autouse=True)
def fast(unchecked):
    """Shape checks of every opcode would take a hundred times as long as the opcode."""


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """What is imported when first needed is imported now, by files of all three layouts."""
    folder = tmp_path_factory.mktemp("warm")
    for encoding in ("cp437", "raw_unicode_escape", "latin-1"):
        "x".encode(encoding)
    state = Generator(CONFIG, seed=1).state_dict()
    load(foreign.dump_nvidia(nvlabs.generator_to(state), folder / "a.pkl"))
    for legacy in (False, True):
        load(foreign.dump_torch({"g_ema": rosinality.generator_to(state), "latent_avg": state["w_avg"]},
                                folder / "a.pt", legacy))  # fmt: skip
    attempt(Path("nowhere"))


def attempt(path: Path) -> tuple[str, list]:
    """(how opening a file ended, what was executed): "loaded", its message, or "!" and the wrong kind of error."""
    with Watch() as seen:
        try:
            load(path)
            outcome = "loaded"
        except ValueError as error:
            outcome = str(error)
        except UserWarning as note:
            outcome = f"loaded, {note}"
        except BaseException as error:  # any other kind is a fault of ours
            outcome = f"! {type(error).__name__}: {error}"
    return outcome, seen


def is_clear(outcome: str, path: Path) -> bool:
    """One sentence that begins with the file and is short; or it was loaded."""
    told = outcome.startswith(f"{path}: ") and len(outcome) < len(str(path)) + 400 and "\n" not in outcome
    return told or outcome.startswith("loaded")


# --- opcodes --------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def call(module: str, attribute: str, *args: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(args) + b"tR"


def pickled(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def number(value: int) -> bytes:
    encoded = value.to_bytes(9, "little")
    return b"\x8a\x09" + encoded


def shape(*sizes: int) -> bytes:
    return b"(" + b"".join(map(number, sizes)) + b"t"


LEGACY = foreign.legacy_bytes(0).rpartition(b"\x80\x02K\x00.")[0]  # magic number, version, machine
FOUR_FLOATS = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04NtQ"
KEYS = pickled(b"]" + text("0") + b"a", 2)
LEGACY_STORAGE = LEGACY + pickled(FOUR_FLOATS, 2) + KEYS + struct.pack("<q4f", 4, 1, 2, 3, 4)


def nested(inner: bytes) -> bytes:
    return call("torch.storage", "_load_from_bytes", b"B" + struct.pack("<I", len(inner)) + inner)


STORAGE = nested(LEGACY_STORAGE)


def tensor(size: bytes, stride: bytes, offset: int = 0, storage: bytes = STORAGE) -> bytes:
    return call("torch._utils", "_rebuild_tensor_v2", storage, number(offset), size, stride, b"\x89", b"}")


def in_state(value: bytes, others: dict[str, bytes] = {}) -> bytes:  # noqa: B006 (not changed)
    """A rosinality checkpoint of which two tensors are this value."""
    rest = b"".join(text(key) + other for key, other in others.items())
    state = text("input.input") + value + text("style.1.weight") + value + rest
    return pickled(b"}(" + text("g_ema") + b"}(" + state + b"uu")


DANGER = call("os", "system", text("touch executed"))
META = b"}(" + text("type") + text("class") + text("class_name") + text("Generator") + text("state")


def module_bomb() -> bytes:
    """A module whose _modules hold itself a thousand times."""
    state = b"}" + text("_modules") + b"}(" + b"".join(text(f"m{i}") + b"h\x03" for i in range(1000)) + b"us"
    return pickled(b"}" + text("G_ema") + name("torch.nn.modules.container", "Module") + b")\x81q\x03" + state + b"bs")


# A list that holds the one before twice, two hundred deep: 2^200 items to whom who walks or prints it.
DOUBLING = b"]q\x000" + b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(200)) + b"h%c" % 200
MATRIX = tensor(shape(2, 2), shape(2, 1))
ARRAY = call("numpy.core.multiarray", "_reconstruct")
ARRAY += b"(K\x01" + shape(4) + call("numpy", "dtype", DOUBLING) + b"\x89C\x00tb"
NAMESPACE = name("argparse", "Namespace") + b")\x81}"  # with a state that is open

HOSTILE: dict[str, tuple[bytes, str]] = {
    "os.system": (pickled(DANGER), "names os.system"),
    "posix.system": (pickled(call("posix", "system", text("true"))), "names posix.system"),
    "eval": (pickled(call("builtins", "eval", text("1/0"))), "names builtins.eval"),
    "exec, python 2": (pickled(b"c__builtin__\nexec\n(" + text("1/0") + b"tR", 2), "names builtins.exec"),
    "getattr of a module": (pickled(call("builtins", "getattr", name("os", "path"))), "names builtins.getattr"),
    "attribute of a known class": (pickled(call("collections", "OrderedDict.__init_subclass__")), "names collections"),
    "beside a known one": (pickled(call("torch._utils", "_import_dotted_name", text("os"))), "names torch._utils"),
    "torch.load": (pickled(call("torch", "load", text("x"))), "names torch.load"),
    "numpy.load": (pickled(call("numpy", "load", text("x"))), "names numpy.load"),
    "runpy": (pickled(b"(" + text("os") + b"irunpy\nrun_module\n"), "names runpy.run_module"),
    "OBJ": (pickled(b"(" + name("subprocess", "Popen") + text("true") + b"o"), "names subprocess.Popen"),
    "NEWOBJ_EX": (pickled(name("subprocess", "Popen") + b")}\x92"), "names subprocess.Popen"),
    "NEWOBJ_EX with keywords": (pickled(name("argparse", "Namespace") + b")}" + text("a") + b"Ns\x92"), "keywords"),
    "name that is a number": (pickled(b"K\x01K\x02\x93"), "name of a class is no text"),
    "name that moves the cursor": (pickled(name("torch\n\x1b[2J", "x\u202e")), "names torch [2J.x"),
    "name that a dot leads out of": (pickled(name("torch.nn.modules.module", "Module.__init__.__globals__")), "names"),
    "registered extension": (pickled(b"\x82\xf0(" + text("touch executed") + b"tR"), "EXT1"),
    "name of a mebibyte": (pickled(name("a" * MIB, "b")), "names aaaa"),
    "a call of a result": (pickled(call("collections", "OrderedDict") + b")R"), "a dict is called"),
    "a call of text": (pickled(text("os.system") + b")R"), "a str is called"),
    "nested reducers": (pickled(call("collections", "OrderedDict", b"](" + DANGER + b"e")), "names os.system"),
    "inside of a storage": (pickled(nested(LEGACY + pickled(DANGER, 2))), "names os.system"),
    "a storage in a storage": (pickled(nested(LEGACY + pickled(nested(b"x"), 2))), "names torch.storage._load_from"),
    "a storage of nonsense": (pickled(nested(b"nonsense")), "no file of torch.save inside"),
    "a storage that is a list": (pickled(nested(LEGACY + pickled(b"]", 2) + pickled(b"]", 2))), "hold a list"),
    "state of a string": (pickled(text("x") + b"}b"), "state is set upon a str"),
    "state of a name": (pickled(name("argparse", "Namespace") + b"}b"), "state is set upon a Name"),
    "hostile state": (pickled(NAMESPACE + text("__class__") + name("os", "system") + b"sb"), "names os.system"),
    "__setstate__": (pickled(NAMESPACE + text("__setstate__") + b"Nsb"), "holds a Record"),
    "persistent source": (pickled(call("torch_utils.persistence", "_reconstruct_persistent_obj", META + b"}u")),
                          "no generator"),
    "persistent of nothing": (pickled(call("torch_utils.persistence", "_reconstruct_persistent_obj")), "a Record"),
    "extension registry": (pickled(b"\x82\x01"), "EXT1"),
    "buffer outside": (pickled(b"\x97"), "NEXT_BUFFER"),
    "persistent id as text": (b"\x80\x02Pos.system\n.", "data outside of itself"),
    "persistent id": (pickled(text("x") + b"Q"), "data outside of itself"),
    "mark alone": (pickled(b"(((("), "pickle"),
    "empty stack": (pickled(b"R"), "the stack is empty"),
    "no memo": (pickled(b"h\x07"), "KeyError 7"),
    "append to a number": (pickled(b"K\x01K\x02a"), "appended to a int"),
    "three keys and values": (pickled(b"}(NNNu"), "3 keys and values"),
    "list as a key": (pickled(b"}]Ns"), "a key is a list"),
    "colliding keys": (pickled(b"}(" + b"".join(b"\x8a\x09" + (k * (2**61 - 1)).to_bytes(9, "little") + b"N"
                                                for k in range(1, 50)) + b"u"), "a key is a int or too large"),
    "claims 2^31 bytes": (pickled(b"B" + struct.pack("<I", 2**31) + b"x"), "2147483648 bytes are claimed"),
    "claims 2^63 bytes": (pickled(b"\x8e" + struct.pack("<Q", 2**63) + b"x"), "bytes are claimed"),
    "claims a text of 2^62": (pickled(b"\x8d" + struct.pack("<Q", 2**62) + b"x"), "bytes are claimed"),
    "claims a number of 2^31 bytes": (pickled(b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x"), "bytes are claimed"),
    "negative length": (pickled(b"T" + struct.pack("<i", -5)), "byte"),
    "endless digits": (pickled(b"I" + b"9" * 50_000 + b"\n"), "pickle"),
    "endless line": (pickled(b"I" + b"9" * 100_000), "no end of the line"),
    "expanded tensor": (in_state(tensor(shape(2**31, 2**9), shape(0, 0))), "does not fit its 4 numbers"),
    "huge tensor": (in_state(tensor(shape(2**40), shape(1))), "does not fit its 4 numbers"),
    "tensor beyond its end": (in_state(tensor(shape(2), shape(1), 3)), "does not fit its 4 numbers"),
    "negative stride": (in_state(tensor(b"(J\xff\xff\xff\xfft", shape(1))), "no small whole numbers"),
    "numbers of none": (in_state(tensor(shape(0, 2**47), shape(1, 1))), "it is not whole"),
    "forty dimensions": (in_state(tensor(shape(*[1] * 40), shape(*[1] * 40))), "no small whole numbers"),
    "tensor of a string": (in_state(tensor(shape(1), shape(1), 0, text("x"))), "made of a str"),
    "tensor without arguments": (in_state(call("torch._utils", "_rebuild_tensor_v2")), "TypeError"),
    "parameter of a list": (in_state(call("torch._utils", "_rebuild_parameter", b"]")), "made of a list"),
    "bytes in another encoding": (pickled(call("_codecs", "encode", text("x"), text("rot13"))), "unknown encoding"),
    "set of a number": (pickled(call("builtins", "set", b"K\x05")), "list is made of a int"),
    "number of a layer": (in_state(MATRIX, {"noises.noise_99999999999": MATRIX}), "unknown key 'noises.noise_9999"),
    "resolution": (pickled(b"}(" + text("synthesis.b4.const") + MATRIX + text("mapping.fc0.weight") + MATRIX +
                           text("synthesis.b" + "9" * 5000 + ".conv1.bias") + MATRIX + b"u"), "name has 5022 letters"),
    "name of a tensor": (in_state(MATRIX, {"x" * MIB: MATRIX}), "name has 1048576 letters"),
    "class name that doubles": (pickled(call("torch_utils.persistence", "_reconstruct_persistent_obj", b"}("
                                             + text("class_name") + DOUBLING + text("state") + b"}u")), "holds no"),
    "type that doubles": (in_state(ARRAY), "an unknown type ''"),
    "modules without end": (module_bomb(), "more than 10000 modules"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path, case):
    content, says = HOSTILE[case]
    path = tmp_path / "hostile.pkl"
    path.write_bytes(content)
    outcome, seen = attempt(path)
    assert seen == [], f"executed {seen}"
    assert is_clear(outcome, path) and says in outcome, outcome


def test_the_watch_sees_what_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Watch() as seen:
        pickle.loads(HOSTILE["os.system"][0])
    assert {"pickle.find_class", "os.system"} <= {event for event, _ in seen} and Path("executed").exists()


# --- bombs: each costs little to write and would cost much to believe ---------------------------------------------


def copies(make: bytes, times: int) -> bytes:
    """One large argument, given to a builder many times."""
    return pickled(b"](" + make + b"q\x01" + times * (name("collections", "OrderedDict") + b"(h\x01tR0") + b"e")


BOMBS: dict[str, Callable[[], bytes]] = {
    "nested lists": lambda: pickled(b"]" * 400_000 + b"a" * 399_999),
    "nested tuples": lambda: pickled(b")" + b"\x85" * 800_000),
    "nested marks": lambda: pickled(b"(" * 400_000 + b"t" * 400_000),
    "too many operations": lambda: pickled(b"N0" * (MAX_OPERATIONS // 2 + 10)),
    "doubling lists": lambda: pickled(DOUBLING),
    "doubling state": lambda: in_state(DOUBLING),
    "one text encoded again and again": lambda: pickled(
        text("x" * MIB) + b"q\x01" + 1000 * (name("_codecs", "encode") + b"(h\x01tR")),
    "one dict copied again and again": lambda: copies(
        b"}(" + b"".join(text(str(i)) + b"N" for i in range(50_000)) + b"u", 20_000),
    "memo at 2^32": lambda: pickled(b"Nr\xff\xff\xff\xff" * 1000),
    "modules with long names": lambda: pickled(
        b"}" + text("G_ema") + name("torch.nn.modules.container", "M") + b")\x81}" + text("_modules") + b"}("
        + b"".join(text(str(i) + "x" * 10_000) + b"N" for i in range(500)) + b"usbs"),
    "80 MiB of text": lambda: pickled(b"".join(text("x" * MIB) + b"0" for _ in range(80)) + b"N"),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_stay_small(tmp_path, case):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[case]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, seen = attempt(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert seen == [] and is_clear(outcome, path) and not outcome.startswith("loaded"), (outcome, seen)
    assert grown < 512 * 1024, f"{grown >> 10} MiB for a file of {path.stat().st_size >> 20}"


def test_a_file_of_a_tebibyte_is_refused_at_once(tmp_path):
    path = tmp_path / "large.pkl"
    with open(path, "wb") as file:  # sparse: it takes no room on the disk
        file.write(pickled(b"N")[:-1])
        file.truncate(2**40)
    assert "opcode" in attempt(path)[0] or "pickle" in attempt(path)[0]


# --- archives ----------------------------------------------------------------------------------------------------


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for entry, content in entries.items():
            file.writestr(f"archive/{entry.replace('__', '/')}", content)
    return path


FLOATS = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + number(4) + b"tQ"
ONE = in_state(tensor(shape(4), shape(1), 0, FLOATS))


def entries(data: bytes = bytes(16), pkl: bytes = ONE) -> dict[str, bytes]:
    return {"data.pkl": pkl, "data__0": data}


def test_archives_that_lie_are_refused(tmp_path):
    path, outcomes = tmp_path / "a.pt", {}

    def put(case: str, says: str) -> None:
        outcome, seen = attempt(path)
        assert seen == [] and is_clear(outcome, path) and says in outcome, (case, outcome, seen)
        outcomes[case] = outcome

    archive(path, **entries())
    put("sound", "expected a matrix")
    archive(path, zipfile.ZIP_DEFLATED, **entries(bytes(64 * MIB)))
    put("zip bomb", "compressed or encrypted")
    archive(path, **{"data.pkl": ONE})
    put("no data", "lacks the numbers '0'")
    archive(path, **entries(bytes(12)))
    put("too little data", "claims 4 numbers of torch.float32, and 12 bytes are there")
    archive(path, **entries(), byteorder=b"big")
    put("big-endian", "big-endian")
    archive(path, **entries(pkl=pickled(DANGER)))
    put("hostile", "names os.system")
    archive(path, **entries(), constants_pkl=b"x", **{"constants.pkl": b"x"})
    put("TorchScript", "TorchScript, a program")
    archive(path, readme=b"x")
    put("another archive", "not one of torch.save")
    archive(path, **entries() | {"sub__data.pkl": ONE})
    put("two objects", "not one of torch.save")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as file:
        for content in (ONE, ONE):
            file.writestr("a/data.pkl", content)
    put("two of one name", "two entries of one name")

    archive(path, **entries())
    whole = path.read_bytes()
    directory = whole.rfind(b"PK\x01\x02", 0, whole.rfind(b"PK\x01\x02"))  # of data.pkl, the first entry
    far = 2**31 - 5
    changes = {"offset": (42, far, "not where"), "size": (24, far, "compressed"), "encrypted": (8, 1, "encrypted"),
               "method": (10, zipfile.ZIP_DEFLATED, "compressed")}  # fmt: skip
    for case, (at, value, says) in changes.items():
        at += directory
        path.write_bytes(whole[:at] + struct.pack("<I", value) + whole[at + 4 :])
        put(case, says)
    at = whole.find(bytes(16))
    path.write_bytes(whole[:at] + b"\x01" + whole[at + 1 :])
    put("another number", "wrong checksum")
    end = whole.rfind(b"PK\x05\x06")
    path.write_bytes(whole[:end + 12] + struct.pack("<I", 2**32 - 2) + whole[end + 16 :])
    put("directory of 4 GiB", "no readable table of contents")
    assert len(outcomes) == 16


# --- damage: cut off at every byte, bits flipped ---------------------------------------------------------------------


def small_files(folder: Path) -> dict[str, bytes]:
    """One sound file of each layout, a few kilobytes each."""
    state = Generator(CONFIG, seed=1).state_dict()
    ours = {"g_ema": rosinality.generator_to(state), "latent_avg": state["w_avg"]}
    return {
        "nvidia": foreign.dump_nvidia(nvlabs.generator_to(state), folder / "a.pkl").read_bytes(),
        "zip": foreign.dump_torch(ours, folder / "a.pt").read_bytes(),
        "legacy": foreign.dump_torch(ours, folder / "b.pt", legacy=True).read_bytes(),
    }


def damage(content: bytes, draw: random.Random) -> bytes:
    """A few bits flipped, bytes replaced, a part removed, repeated or moved."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        at = draw.randrange(len(changed))
        kind = draw.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at] = draw.choice(b"(.0123BCGIJKLMNQRSTUVX\x80\x81\x8a\x8e\x93\x94abcdehijloqrstu)]}")
        elif kind == 2:
            del changed[at : at + draw.randrange(1, 64)]
        else:
            start = draw.randrange(len(changed))
            changed[at:at] = changed[start : start + draw.randrange(1, 64)]
        changed = changed or bytearray(b"x")
    return bytes(changed)


def fuzz(path: Path, contents: list[bytes]) -> Counter:
    """How opening each of them ended: loaded, refused, executed, unclear."""
    found = Counter()
    for content in contents:
        path.write_bytes(content)
        outcome, seen = attempt(path)
        kind = "executed" if seen else "unclear" if not is_clear(outcome, path) else outcome.split(",")[0].split(":")[0]
        found[kind if kind in ("executed", "unclear", "loaded") else "refused"] += 1
        if kind in ("executed", "unclear"):
            found[f"{outcome[:200]} {seen[:3]}"] += 1
    return found


@pytest.mark.parametrize("layout", ["nvidia", "zip", "legacy"])
def test_damaged_files_are_refused(tmp_path, layout):
    """A sample of what LATENTLAB_FUZZ=1 tries in full."""
    content = small_files(tmp_path)[layout]
    draw, full = random.Random(layout), "LATENTLAB_FUZZ" in os.environ
    cuts = range(len(content)) if full else sorted(draw.sample(range(len(content)), 40))
    found = fuzz(tmp_path / "x.pt", [content[:cut] for cut in cuts])
    assert found == {"refused": len(cuts)}, found  # no part of a file passes for the whole
    times = 4000 if full else 60
    found = fuzz(tmp_path / "x.pt", [damage(content, draw) for _ in range(times)])
    assert found.keys() <= {"refused", "loaded"}, found


def test_the_pickle_reader_calls_no_name(tmp_path):
    """What no builder makes stays a record of names and plain data."""
    source = Source(pickled(call("argparse", "Namespace", text("x")) + b"}" + text("y") + b"Nsb"))
    record = read_pickle(source, builders={}, is_data=lambda name: name == "argparse.Namespace")
    assert (record.name, record.args, record.state) == ("argparse.Namespace", ("x",), {"y": None})
    path = tmp_path / "a.pkl"
    path.write_bytes(pickled(call("torch.nn.modules.linear", "Linear", text("x"))))
    assert read_objects(path).name == "torch.nn.modules.linear.Linear"


def test_nothing_in_the_package_unpickles_or_evaluates():
    """No pickle but through the interpreter, no torch.load that could run code, no eval or exec."""
    package = Path(pickles.__file__).parents[1]
    faults = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            unpickles = called.startswith(("pickle.", "marshal.", "joblib.", "dill.", "torch.jit.load"))
            if unpickles or called in ("eval", "exec", "__import__") or (called == "torch.load" and not safe):
                faults.append(f"{path.name}:{node.lineno} calls {called}")
            if called == "np.load" and not any(k.arg == "allow_pickle" for k in node.keywords):
                faults.append(f"{path.name}:{node.lineno} leaves np.load's pickles to its default")
    assert faults == []


def test_metadata_nested_without_end_and_numbers_without_end_are_text(tmp_path):
    for deep in ("[" * 100_000 + "]" * 100_000, "9" * 5_000):
        save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors", {"config": deep})
        assert read_tensors(tmp_path / "a.safetensors")[1] == {"config": deep}


@pytest.mark.parametrize("chain", [
    [], "x", [{"kind": "os.system"}], [{}], [{"kind": "restricted", "layers": [0]}] * 5_000,
    [{"kind": "flow", "name": "x", "config": {"dim": 4, "names": ["x"], "hidden": [10**9]}, "fingerprint": "x"}],
    [{"kind": "corrected", "held": [], "steps": 10**12, "lambda_ridge": 0, "names": [], "widths": []}],
    [{"kind": "direction", "name": ["x"], "std": "x", "unit": 5, "source": None}]])  # fmt: skip
def test_edits_that_lie_are_refused(tmp_path, chain):
    G = Generator(CONFIG, seed=1).requires_grad_(False)
    marks = {"whole": False, "mapping": fingerprint(G), "generator": fingerprint(G, "generator")}
    write_tensors(tmp_path / "a.safetensors", {"0.vector": torch.ones(4)}, {"edit": chain} | marks)
    with pytest.raises(ValueError, match="a.safetensors: expected an edit that fits and is whole, got"):
        read_edits(tmp_path / "a.safetensors", G)


@pytest.mark.parametrize("config", [
    {"layers": 10**9}, {"units": [10**9] * 4}, {"widths": [10**9] * 4}, {"resolution": 2**60}, "x", None])
def test_encoders_that_lie_are_refused(tmp_path, config):
    G = Generator(CONFIG, seed=1).requires_grad_(False)
    encoder = PspEncoder(EncoderConfig(layers=4, w_dim=4, resolution=16, widths=(4,) * 4, units=(1,) * 4))
    claims = encoder.config.to_dict() | config if isinstance(config, dict) else config
    metadata = {"encoder": "psp", "config": claims, "fingerprint": fingerprint(G, "generator")}
    write_tensors(tmp_path / "a.safetensors", encoder.state_dict(), metadata)
    with pytest.raises(ValueError, match="a.safetensors: expected an encoder of `latentlab publish`, got a damaged"):
        load_encoder(tmp_path / "a.safetensors", G)


@pytest.mark.parametrize("change", [
    {"refiner": "encoder"}, {"refiner": []}, {"config": "x"}, {"config": None}, {"width": 10**9}, {"width": "8"},
    {"layer": 0}, {"layer": 2**60}, {"resolution": 2**60}, {"channels": 10**9}])  # fmt: skip
def test_refiners_that_lie_are_refused(tmp_path, change):
    G = Generator(CONFIG, seed=1).requires_grad_(False)
    shape = HfgiConfig(8, 4, CONFIG.channels[0], width=8)
    claims = {"refiner": "hfgi", "config": shape.to_dict(), "fingerprint": fingerprint(G, "generator")}
    write_tensors(tmp_path / "a.safetensors", Hfgi(shape).state_dict(), claims)
    load_refiner(tmp_path / "a.safetensors", G)
    of_file = {k: v for k, v in change.items() if k in claims}
    of_shape = {"config": shape.to_dict() | {k: v for k, v in change.items() if k not in claims}}
    write_tensors(tmp_path / "a.safetensors", Hfgi(shape).state_dict(), claims | of_shape | of_file)
    says = "its shape claims" if {"width", "seen"} & change.keys() else ""  # before anything of that size is built
    with pytest.raises(ValueError, match=f"a.safetensors: expected networks of a refiner of `latentlab.*got.*{says}"):
        load_refiner(tmp_path / "a.safetensors", G)


@pytest.mark.parametrize("change", [
    {"attributes": ["x"] * 3}, {"attributes": 10**9}, {"layers": 10**9}, {"resolutions": [4, 16], "channels": [3, 2]},
    {"channels": [10**9, 2]}, {"seen": 10**9}, {"width": 10**9}, {"relevance": []}, {"std": "x"}])  # fmt: skip
def test_two_branches_that_lie_are_refused(tmp_path, change):
    G = Generator(CONFIG, seed=1).requires_grad_(False)
    shape = TwoBranchConfig(("a", "b"), G.num_ws, G.w_dim, CONFIG.resolutions, CONFIG.channels, seen=3, width=2)
    tensors = TwoBranch(shape).state_dict()
    for config in (shape.to_dict(), shape.to_dict() | change):
        claims = {"refiner": "two_branch", "config": config, "fingerprint": fingerprint(G, "generator")}
        write_tensors(tmp_path / "a.safetensors", tensors, claims)
        if config == shape.to_dict():
            load_refiner(tmp_path / "a.safetensors", G)
    says = "its shape claims" if {"width", "seen"} & change.keys() else ""  # before anything of that size is built
    with pytest.raises(ValueError, match=f"a.safetensors: expected networks of a refiner of `latentlab.*got.*{says}"):
        load_refiner(tmp_path / "a.safetensors", G)


@pytest.mark.parametrize("tensors", [
    {}, {"w_plus": torch.ones(3)}, {"w_plus": torch.full((1, 4, 4), torch.nan)},
    {"w_plus": torch.ones(1, 4, 4), "tuned.blocks.4.const": torch.ones(1, 2)},
    {"w_plus": torch.ones(1, 4, 4), "features.x": torch.ones(1)}])  # fmt: skip
def test_inversions_that_lie_are_refused(tmp_path, tensors):
    G = Generator(CONFIG, seed=1).requires_grad_(False)
    metadata = {"mapping": fingerprint(G), "generator": fingerprint(G, "generator"), "replace_rgb": True, "rates": None}
    write_tensors(tmp_path / "a.safetensors", tensors | {"image": torch.ones(1)}, metadata)
    with pytest.raises(ValueError, match="a.safetensors: expected an inversion that `save` wrote, got a damaged"):
        Inversion.load(tmp_path / "a.safetensors", G)


CONFIG_KEYS = {"resolution": 8, "z_dim": 3, "w_dim": 4, "mapping_layers": 1, "channels": [3, 2], "conv_clamp": None}


@pytest.mark.parametrize("change", [
    {"resolution": 2**60}, {"resolution": "8"}, {"mapping_layers": 10**12}, {"channels": []}, {"channels": [3, "x"]},
    {"channels": [10**15, 2]}, {"z_dim": -1}, {"w_dim": None}, {"conv_clamp": "256"}, {"unknown": 1},
    {"conv_clamp": math.nan}, {"conv_clamp": -1}])  # fmt: skip
def test_configurations_that_lie_are_refused(tmp_path, change):
    """The metadata of latentlab's own format are somebody's words as well."""
    path = tmp_path / "a.safetensors"
    state = Generator(CONFIG, seed=1).state_dict()
    write_tensors(path, state, {"config": CONFIG_KEYS})
    assert attempt(path)[0] == "loaded"
    write_tensors(path, state, {"config": CONFIG_KEYS | change})
    outcome, seen = attempt(path)
    assert seen == [] and is_clear(outcome, path) and outcome != "loaded", outcome
