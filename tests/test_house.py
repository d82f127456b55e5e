"""The house keeps its rules: what may import what, what no module may do, how large things may grow.

A check maps the package's modules to a list of faults; the real package must have none, and a small
package with one seeded fault must have exactly that one, or the check checks nothing.
"""

import ast
import io
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = "latentlab"
MIB = 2**20
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

# Imports point to a lower level; inside of a level they may not run both ways. "" is latentlab/__init__.py.
LEVELS = (
    {"seeds", "images", "alignment", "checkpoints", "weights", "faces"},
    {"stylegan", "networks"},
    {"weights.generators", "formats", "normality"},
    {"spaces"},
    {"losses", "priors", "metrics", "judges"},
    {"inversion.result"},
    {"inversion", "encoders", "editing"},
    {"inversion_methods"},
    {"training"},
    {"evaluation"},
    {"claims"},
    {"plots"},
    {"widgets", "jobs"},
    {""},
    {"cli", "__main__"},
)
LEVEL = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}
# No method sees what grades it.
MAY_IMPORT_JUDGES = {"judges", "claims", "evaluation", "training.recipes", "jobs", "cli", ""}
MAY_USE_EXTRA = {"plots", "widgets", "cli"}  # the extra "notebooks"; all else runs on the core alone
OPTIONAL = {"lpips", "diptest", "sklearn", "pytorch_metric_learning", "skimage", "dlib"}  # where somebody installed it
BANNED = {"utils", "util", "common", "options", "scripts", "helpers", "misc"}
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
GLOBAL_SEEDS |= {"torch.random.manual_seed", "torch.set_rng_state", "seed_everything"}
DRAWS = {f"torch.{f}" for f in "rand randn randint randperm normal bernoulli multinomial".split()}
DRAWS_IN_PLACE = {"normal_", "uniform_", "bernoulli_", "exponential_", "random_"}
DRAWS_LIKE = {"torch.rand_like", "torch.randn_like", "torch.randint_like"}  # these take no generator
OWN_STREAM = {"default_rng", "Generator", "SeedSequence", "Random"}  # of numpy.random and random


@dataclass(frozen=True)
class Module:
    path: Path
    name: str  # dotted, without the package's own name: "inversion.result"

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def nodes(self, *kinds: type) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    @cached_property
    def room(self) -> str:
        return self.name if self.name in LEVEL else self.name.split(".")[0]

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """(line, absolute dotted target), imports inside of functions included."""
        found = []
        for node in self.nodes(ast.Import, ast.ImportFrom):
            base = getattr(node, "module", None) or ""
            if level := getattr(node, "level", 0):
                here = [PACKAGE, *filter(None, self.name.split("."))]
                here += ["__init__"] if self.path.stem == "__init__" else []
                base = ".".join(here[:-level] + [base] * bool(base))
            found += [(node.lineno, f"{base}.{a.name}".lstrip(".")) for a in node.names]
        return found

    @cached_property
    def code_lines(self) -> set[int]:
        """Numbers of the lines that hold code: a thin package is no reason to say less in docstrings."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        lines = {i for t in tokens if t.type not in NO_CODE for i in range(t.start[0], t.end[0] + 1)}
        for node in self.nodes(ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        return lines

    def fault(self, line: int, says: str) -> str:
        return f"{PACKAGE}/{self.name.replace('.', '/') or '__init__'}:{line} {says}"


def read(package: Path) -> list[Module]:
    paths = sorted(package.rglob("*.py"))
    names = [".".join(path.relative_to(package).with_suffix("").parts) for path in paths]
    return [Module(p, n.removesuffix("__init__").rstrip(".")) for p, n in zip(paths, names, strict=True)]


def room_of(target: str, rooms: set[str]) -> str:
    """The room behind an import: `from latentlab import load` comes through the front door, ""."""
    parts = target.split(".")[1:]
    if ".".join(parts[:2]) in LEVEL:
        return ".".join(parts[:2])
    return parts[0] if parts and parts[0] in rooms else ""


def inside(modules: list[Module]) -> Iterator[tuple[Module, int, str, str]]:
    """(module, line, room it imports, name it imports) for the imports within the package."""
    rooms = {m.name.split(".")[0] for m in modules}
    for m in modules:
        for line, target in m.imports:
            if target.split(".")[0] == PACKAGE:
                yield m, line, room_of(target, rooms), target


def import_order(modules: list[Module]) -> list[str]:
    faults = [m.fault(1, f"has no place in LEVELS ({m.room})") for m in modules if m.room not in LEVEL]
    sideways = set()
    for m, line, room, target in inside(modules):
        if room == m.room or m.room not in LEVEL or room not in LEVEL:
            continue
        sideways |= {(m.room, room)} if LEVEL[room] == LEVEL[m.room] else set()
        if LEVEL[room] > LEVEL[m.room] or m.room == "faces" or (room, m.room) in sideways:
            faults.append(m.fault(line, f"imports upwards: {target}"))
    return faults


def judges_stay_apart(modules: list[Module]) -> list[str]:
    return [
        m.fault(line, "imports the judges")
        for m, line, room, _ in inside(modules)
        if room == "judges" and not {m.room, m.name} & MAY_IMPORT_JUDGES
    ]


def methods_stay_apart(modules: list[Module]) -> list[str]:
    """A method is a module that defines `invert_...`; what it refines comes as an argument."""
    methods = {
        f"{PACKAGE}.{m.name}"
        for m in modules
        if any(isinstance(node, ast.FunctionDef) and node.name.startswith("invert_") for node in m.tree.body)
    }
    return [
        m.fault(line, f"is a method and imports another: {target}")
        for m, line, _, target in inside(modules)
        if f"{PACKAGE}.{m.name}" in methods
        and (target.split(".")[-1].startswith("invert_") or {target, target.rpartition(".")[0]} & methods)
    ]


def dependencies_are_declared(modules: list[Module]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {Requirement(line).name for line in project["dependencies"]}
    extra = core | {Requirement(line).name for line in project["optional-dependencies"]["notebooks"]}
    providers = packages_distributions()
    faults = []
    for m in modules:
        allowed = extra if m.room in MAY_USE_EXTRA else core
        for line, target in m.imports:
            top = target.split(".")[0]
            if top in sys.stdlib_module_names or top in OPTIONAL | {PACKAGE}:
                continue
            if not {d.lower() for d in providers.get(top, [top])} & allowed:
                faults.append(m.fault(line, f"imports {top}, which a plain installation does not bring"))
            if top in {"ipywidgets", "anywidget"} and m.room != "widgets":
                faults.append(m.fault(line, f"imports {top} outside of widgets"))
    return faults


def draws_globally(function: str, has_generator: bool) -> bool:
    module, _, name = function.rpartition(".")
    if module in {"np.random", "numpy.random", "random"}:
        return name not in OWN_STREAM
    return function in DRAWS_LIKE or (function in DRAWS or name in DRAWS_IN_PLACE) and not has_generator


def conduct(modules: list[Module]) -> list[str]:
    """What no module does: print, choose a device, touch sys.path, or draw from a global stream."""
    faults = []
    for m in modules:
        for node in m.nodes(ast.Call):
            name = ast.unparse(node.func)
            if name == "print" and m.room != "cli":
                faults.append(m.fault(node.lineno, "prints"))
            if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
                faults.append(m.fault(node.lineno, "calls .cuda(): the device follows the input"))
            if name in GLOBAL_SEEDS or name.endswith(".seed_everything"):
                faults.append(m.fault(node.lineno, f"seeds a global stream: {name}"))
            if draws_globally(name, any(keyword.arg == "generator" for keyword in node.keywords)):
                faults.append(m.fault(node.lineno, f"draws from the global stream: {name}"))
        for node in m.nodes(ast.Attribute):
            if ast.unparse(node) == "sys.path":
                faults.append(m.fault(node.lineno, "touches sys.path"))
        for line, target in m.imports:
            if target in GLOBAL_SEEDS | DRAWS | DRAWS_LIKE | {"sys.path"}:
                faults.append(m.fault(line, f"hides {target} behind a bare name"))
    return faults


def sizes(modules: list[Module]) -> list[str]:
    faults = []
    for m in modules:
        if (lines := m.text.count("\n")) > 350:
            faults.append(m.fault(1, f"has {lines} lines, over 350"))
        for node in m.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            if (length := node.end_lineno - node.lineno + 1) > 50:  # 40 is the aim
                faults.append(m.fault(node.lineno, f"{node.name} has {length} lines, over 50"))
    if (total := sum(len(m.code_lines) for m in modules)) > 8000:
        faults.append(f"{PACKAGE} has {total} lines of code, over 8,000")
    return faults


def words(modules: list[Module]) -> list[str]:
    faults = [m.fault(1, "has a name that says nothing") for m in modules if BANNED & set(m.name.split("."))]
    for m in modules:
        marked = [i for i, line in enumerate(m.text.splitlines(), 1) if "TODO" in line or "FIXME" in line]
        faults += [m.fault(i, "promises work that is not done") for i in marked]
    return faults


def folders_are_packages(modules: list[Module]) -> list[str]:
    """A folder without `__init__.py` imports well enough, but pytest and type checkers lose their way in it."""
    folders = sorted({m.path.parent for m in modules})
    return [f"{folder.name}/ has no __init__.py" for folder in folders if not (folder / "__init__.py").is_file()]


CHECKS = (
    *(import_order, judges_stay_apart, methods_stay_apart, dependencies_are_declared),
    *(conduct, sizes, words, folders_are_packages),
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_package_keeps_the_rules(check: Callable[[list[Module]], list[str]]):
    faults = check(read(ROOT / PACKAGE))
    assert not faults, "\n".join(faults)


LONG = "def f():\n" + "    x = 1\n" * 50
SEEDED = [
    (import_order, "losses/a.py", "import latentlab.inversion.ii2s", "imports upwards"),
    (import_order, "losses/a.py", "from latentlab import load", "imports upwards"),
    (import_order, "inversion/result.py", "from . import ii2s", "imports upwards"),
    (import_order, "stylegan/a.py", "def f():\n    from ..spaces import Z", "imports upwards"),
    (import_order, "faces/a.py", "from latentlab.seeds import stream", "imports upwards"),
    (import_order, "misplaced.py", "", "no place"),
    (import_order, "stylegan/b.py", "import latentlab.formats.a", "imports upwards"),
    (judges_stay_apart, "encoders/a.py", "from latentlab.judges import perceptual", "imports the judges"),
    (methods_stay_apart, "inversion/pti.py", "from .ii2s import f\ndef invert_pti(): ...", "imports another"),
    (methods_stay_apart, "encoders/a.py", "from ..inversion import invert_ii2s\ndef invert_a(): ...", "another"),
    (dependencies_are_declared, "losses/a.py", "import torchmetrics", "plain installation"),
    (dependencies_are_declared, "losses/a.py", "import seaborn", "plain installation"),
    (dependencies_are_declared, "plots.py", "import ipywidgets", "outside of widgets"),
    (conduct, "losses/a.py", "print(1)", "prints"),
    (conduct, "losses/a.py", "x.y.cuda()", "calls .cuda()"),
    (conduct, "losses/a.py", "import sys\nsys.path.append('.')", "touches sys.path"),
    (conduct, "losses/a.py", "torch.manual_seed(0)", "seeds a global stream"),
    (conduct, "losses/a.py", "torch.randn(3)", "draws from the global stream"),
    (conduct, "losses/a.py", "x.normal_()", "draws from the global stream"),
    (conduct, "losses/a.py", "np.random.seed(0)", "draws from the global stream"),
    (conduct, "losses/a.py", "from torch import randn", "bare name"),
    (sizes, "losses/a.py", "x = 1\n" * 351, "over 350"),
    (sizes, "losses/a.py", LONG, "over 50"),
    (words, "losses/utils.py", "", "says nothing"),
    (words, "losses/a.py", "x = 1  # TODO", "not done"),
]
SOUND = {
    "__init__.py": "",
    "cli.py": "import latentlab\ndef main():\n    print(latentlab)",
    "seeds.py": "import torch\ndef stream(seed):\n    return torch.Generator().manual_seed(seed)",
    "formats/a.py": "import latentlab.stylegan",
    "inversion/result.py": "from latentlab.seeds import stream",
    "inversion/ii2s.py": "from .result import stream\ndef invert_ii2s(): ...",
    "claims.py": "from .judges import perceptual",
    "judges/perceptual.py": "import torch\ndef f(g):\n    return torch.randn(3, generator=g)",
    "spaces.py": "",
}


def build(folder: Path, files: dict[str, str]) -> list[Module]:
    for name, text in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return read(folder / PACKAGE)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_package_has_no_faults(check: Callable[[list[Module]], list[str]], tmp_path: Path):
    assert check(build(tmp_path, SOUND)) == []


@pytest.mark.parametrize("check, file, text, culprit", SEEDED)
def test_a_seeded_fault_is_found(check: Callable, file: str, text: str, culprit: str, tmp_path: Path):
    faults = check(build(tmp_path, SOUND | {file: text}))
    assert len(faults) == 1 and culprit in faults[0], faults


def test_words_are_not_counted_as_code(tmp_path: Path):
    text = '"""One\n\ntwo."""\n\n# why\nx = 1  # why\n\n\ndef f():\n    """Three."""\n    return """a\nb"""\n'
    (module,) = [m for m in build(tmp_path, {"losses/a.py": text}) if m.name == "losses.a"]
    assert module.code_lines == {6, 9, 11, 12}


def test_a_large_package_is_found(tmp_path: Path):
    assert len(sizes(build(tmp_path, {f"losses/m{i}.py": "x = 1\n" * 340 for i in range(24)}))) == 1


def test_a_folder_without_a_door_is_found(tmp_path: Path):
    modules = build(tmp_path, SOUND)
    (tmp_path / PACKAGE / "inversion/__init__.py").unlink()
    assert folders_are_packages(modules) == ["inversion/ has no __init__.py"]
