"""Architecture rules: import order, sources of grades, dependencies, forbidden calls, names.

A check maps the modules of a package to a list of faults. latentlab must have none, and a small package with one
seeded fault must have exactly that one: this shows that the check can fail. Lengths of files and functions are not
limited, only reported at the end of the test run.
"""

import ast
import sys
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
LONG_FILE, LONG_FUNCTION = 350, 40  # lines; longer ones are reported, to be looked at again

# Imports point to a lower level. Within a level, two components may not import each other. "" is
# latentlab/__init__.py; "weights.generators" is listed apart from "weights" because it needs "stylegan".
LEVELS = (
    {"seeds", "images", "alignment", "checkpoints", "memory", "weights", "faces"},
    {"stylegan", "networks"},
    {"weights.generators", "formats", "normality"},
    {"spaces", "networks.official"},
    {"losses", "priors", "metrics", "judges"},
    {"editing"},
    {"inversion.result", "inversion.descent"},
    {"inversion", "encoders"},
    {"inversion_methods"},
    {"training"},
    {"evaluation"},
    {"claims"},
    {"plots", "exercises"},
    {"widgets", "jobs"},
    {""},
    {"cli", "__main__"},
)
LEVEL = {component: i for i, components in enumerate(LEVELS) for component in components}
# Grades come from judges/, never from losses/, which the methods optimise. Exceptions, by function: tables that
# compare the two families of networks and name the family in every column or row.
GRADERS = {"metrics", "evaluation", "claims", "plots", "widgets", "jobs", "cli"}
LOSSES = {f"{PACKAGE}.{name}" for name in ("losses", "load_perceptual", "load_identity")}
COMPARES_FAMILIES = {
    "evaluation.tables": {"measure_samples", "measure_networks"},
    "evaluation.timing": {"_networks"},
    "evaluation.generators": {"_seen"},
    "claims.latent_spaces": {"_samplers"},  # FID on the features of both, which must agree
}
# No method imports the networks that grade it.
MAY_IMPORT_JUDGES = {"judges", "claims", "evaluation", "training.recipes", "training.publishing", "jobs", "cli", ""}
# Code for any generator does not import the rendered face world.
INDEPENDENT_OF_FACES = {"stylegan", "formats", "normality", "spaces", "priors", "metrics", "inversion"}
INDEPENDENT_OF_FACES |= {"inversion.result", "inversion_methods", "encoders"}
MAY_USE_EXTRA = {"plots", "widgets", "cli"}  # packages of the extra "notebooks"; the others need the core alone
# imported only where they are installed
OPTIONAL = {"lpips", "diptest", "sklearn", "pytorch_metric_learning", "zuko", "skimage", "dlib", "pytorch_optimizer"}
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
    name: str  # dotted, without the name of the package: "inversion.result"

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def nodes(self, *kinds: type) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    @cached_property
    def component(self) -> str:
        return self.name if self.name in LEVEL else self.name.split(".")[0]

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """(line, absolute dotted target) of all imports, those inside functions included."""
        found = []
        for node in self.nodes(ast.Import, ast.ImportFrom):
            base = getattr(node, "module", None) or ""
            if level := getattr(node, "level", 0):
                here = [PACKAGE, *filter(None, self.name.split("."))]
                here += ["__init__"] if self.path.stem == "__init__" else []
                base = ".".join(here[:-level] + [base] * bool(base))
            found += [(node.lineno, f"{base}.{a.name}".lstrip(".")) for a in node.names]
        return found

    def fault(self, line: int, says: str) -> str:
        return f"{PACKAGE}/{self.name.replace('.', '/') or '__init__'}:{line} {says}"


def read(package: Path) -> list[Module]:
    paths = sorted(package.rglob("*.py"))
    names = [".".join(path.relative_to(package).with_suffix("").parts) for path in paths]
    return [Module(p, n.removesuffix("__init__").rstrip(".")) for p, n in zip(paths, names, strict=True)]


def component_of(target: str, components: set[str]) -> str:
    """The component that an import refers to; "" for names of latentlab itself, as in `from latentlab import load`."""
    parts = target.split(".")[1:]
    if ".".join(parts[:2]) in LEVEL:
        return ".".join(parts[:2])
    return parts[0] if parts and parts[0] in components else ""


def inside(modules: list[Module]) -> Iterator[tuple[Module, int, str, str]]:
    """(module, line, imported component, imported name) for all imports within the package."""
    components = {m.name.split(".")[0] for m in modules}
    for m in modules:
        for line, target in m.imports:
            if target.split(".")[0] == PACKAGE:
                yield m, line, component_of(target, components), target


def import_order(modules: list[Module]) -> list[str]:
    faults = [m.fault(1, f"is not listed in LEVELS ({m.component})") for m in modules if m.component not in LEVEL]
    sideways = set()
    for m, line, component, target in inside(modules):
        if component == m.component or m.component not in LEVEL or component not in LEVEL:
            continue
        sideways |= {(m.component, component)} if LEVEL[component] == LEVEL[m.component] else set()
        if LEVEL[component] > LEVEL[m.component] or m.component == "faces" or (component, m.component) in sideways:
            faults.append(m.fault(line, f"imports upwards: {target}"))
    return faults


def judges_stay_apart(modules: list[Module]) -> list[str]:
    return [
        m.fault(line, "imports the judges")
        for m, line, component, _ in inside(modules)
        if component == "judges" and not {m.component, m.name} & MAY_IMPORT_JUDGES
    ]


def grades_come_from_judges(modules: list[Module]) -> list[str]:
    """No grader imports ``losses``, except where COMPARES_FAMILIES names the functions that may use it."""
    faults, compares = [], {}
    for m, line, _, target in inside(modules):
        if m.component in GRADERS and (target in LOSSES or target.startswith(f"{PACKAGE}.losses.")):
            if m.name in COMPARES_FAMILIES:
                compares.setdefault(m, set()).add(line)
            else:
                faults.append(m.fault(line, "imports losses, where grades come from judges"))
    for m, lines in compares.items():
        imports = [node for node in m.nodes(ast.Import, ast.ImportFrom) if node.lineno in lines]
        names = {(a.asname or a.name).split(".")[0] for node in imports for a in node.names}
        for top in m.tree.body:
            where = getattr(top, "name", "the module")
            used = [n for n in ast.walk(top) if isinstance(n, ast.Name) and n.id in names]
            if where not in COMPARES_FAMILIES[m.name]:
                faults += [m.fault(n.lineno, f"{where} uses {n.id} of losses") for n in used]
    return faults


def methods_stay_apart(modules: list[Module]) -> list[str]:
    """No method (a module that defines `invert_...`) imports another; a refiner takes an inversion as an argument."""
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


def general_code_imports_no_faces(modules: list[Module]) -> list[str]:
    return [
        m.fault(line, "imports faces, although it is code for any generator")
        for m, line, _, target in inside(modules)
        if f"{target}.".startswith(f"{PACKAGE}.faces.") and m.component in INDEPENDENT_OF_FACES
    ]


def dependencies_are_declared(modules: list[Module]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {Requirement(line).name for line in project["dependencies"]}
    extra = core | {Requirement(line).name for line in project["optional-dependencies"]["notebooks"]}
    providers = packages_distributions()
    faults = []
    for m in modules:
        allowed = extra if m.component in MAY_USE_EXTRA else core
        for line, target in m.imports:
            top = target.split(".")[0]
            if top in sys.stdlib_module_names or top in OPTIONAL | {PACKAGE}:
                continue
            if not {d.lower() for d in providers.get(top, [top])} & allowed:
                faults.append(m.fault(line, f"imports {top}, which is not a core dependency"))
            if top in {"ipywidgets", "anywidget"} and m.component != "widgets":
                faults.append(m.fault(line, f"imports {top} outside widgets"))
    return faults


def draws_globally(function: str, has_generator: bool) -> bool:
    module, _, name = function.rpartition(".")
    if module in {"np.random", "numpy.random", "random"}:
        return name not in OWN_STREAM
    return function in DRAWS_LIKE or (function in DRAWS or name in DRAWS_IN_PLACE) and not has_generator


def conduct(modules: list[Module]) -> list[str]:
    """No module prints, chooses a device, changes sys.path, or draws from a global random stream."""
    faults = []
    for m in modules:
        for node in m.nodes(ast.Call):
            name = ast.unparse(node.func)
            if name == "print" and m.component != "cli":
                faults.append(m.fault(node.lineno, "prints"))
            if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
                faults.append(m.fault(node.lineno, "calls .cuda(); the device follows the input"))
            if name in GLOBAL_SEEDS or name.endswith(".seed_everything"):
                faults.append(m.fault(node.lineno, f"seeds a global stream: {name}"))
            if draws_globally(name, any(keyword.arg == "generator" for keyword in node.keywords)):
                faults.append(m.fault(node.lineno, f"draws from the global stream: {name}"))
        for node in m.nodes(ast.Attribute):
            if ast.unparse(node) == "sys.path":
                faults.append(m.fault(node.lineno, "touches sys.path"))
        for line, target in m.imports:
            if target in GLOBAL_SEEDS | DRAWS | DRAWS_LIKE | {"sys.path"}:
                faults.append(m.fault(line, f"imports the bare name of {target}"))
    return faults


def words(modules: list[Module]) -> list[str]:
    faults = [m.fault(1, "has a name without meaning") for m in modules if BANNED & set(m.name.split("."))]
    for m in modules:
        marked = [i for i, line in enumerate(m.text.splitlines(), 1) if "TODO" in line or "FIXME" in line]
        faults += [m.fault(i, "has a note about unfinished work") for i in marked]
    return faults


def folders_are_packages(modules: list[Module]) -> list[str]:
    """Every folder has an `__init__.py`: without one imports work, but pytest and type checkers are misled."""
    folders = sorted({m.path.parent for m in modules})
    return [f"{folder.name}/ has no __init__.py" for folder in folders if not (folder / "__init__.py").is_file()]


CHECKS = (
    *(import_order, judges_stay_apart, grades_come_from_judges, methods_stay_apart, general_code_imports_no_faces),
    *(dependencies_are_declared, conduct, words, folders_are_packages),
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_package_keeps_the_rules(check: Callable[[list[Module]], list[str]]):
    faults = check(read(ROOT / PACKAGE))
    assert not faults, "\n".join(faults)


GRADED_BY_LOSSES = """
from latentlab.losses.perceptual import load_perceptual as distance
def measure_networks():
    return distance()
def measure_inversions():
    return distance()
"""
SEEDED = [
    (import_order, "losses/a.py", "import latentlab.inversion.ii2s", "imports upwards"),
    (import_order, "losses/a.py", "from latentlab import load", "imports upwards"),
    (import_order, "inversion/result.py", "from . import ii2s", "imports upwards"),
    (import_order, "stylegan/a.py", "def f():\n    from ..spaces import Z", "imports upwards"),
    (import_order, "faces/a.py", "from latentlab.seeds import stream", "imports upwards"),
    (import_order, "misplaced.py", "", "not listed"),
    (import_order, "stylegan/b.py", "import latentlab.formats.a", "imports upwards"),
    (judges_stay_apart, "encoders/a.py", "from latentlab.judges import perceptual", "imports the judges"),
    (grades_come_from_judges, "jobs/a.py", "from latentlab.losses.perceptual import load_perceptual", "imports losses"),
    (grades_come_from_judges, "jobs/a.py", "def f():\n    from latentlab import load_identity", "imports losses"),
    (grades_come_from_judges, "evaluation/a.py", "import latentlab.losses", "imports losses"),
    (grades_come_from_judges, "claims.py", "from .losses import perceptual", "imports losses"),
    (grades_come_from_judges, "evaluation/tables.py", GRADED_BY_LOSSES, "measure_inversions uses distance"),
    (grades_come_from_judges, "evaluation/tables.py", "from ..losses import a\nb = a", "the module uses a"),
    (general_code_imports_no_faces, "inversion/a.py", "from latentlab.faces.sketch import LUMA", "imports faces"),
    (general_code_imports_no_faces, "metrics.py", "from latentlab import faces", "imports faces"),
    (methods_stay_apart, "inversion/pti.py", "from .ii2s import f\ndef invert_pti(): ...", "imports another"),
    (methods_stay_apart, "encoders/a.py", "from ..inversion import invert_ii2s\ndef invert_a(): ...", "another"),
    (dependencies_are_declared, "losses/a.py", "import torchmetrics", "core dependency"),
    (dependencies_are_declared, "losses/a.py", "import seaborn", "core dependency"),
    (dependencies_are_declared, "plots.py", "import ipywidgets", "outside widgets"),
    (conduct, "losses/a.py", "print(1)", "prints"),
    (conduct, "losses/a.py", "x.y.cuda()", "calls .cuda()"),
    (conduct, "losses/a.py", "import sys\nsys.path.append('.')", "touches sys.path"),
    (conduct, "losses/a.py", "torch.manual_seed(0)", "seeds a global stream"),
    (conduct, "losses/a.py", "torch.randn(3)", "draws from the global stream"),
    (conduct, "losses/a.py", "x.normal_()", "draws from the global stream"),
    (conduct, "losses/a.py", "np.random.seed(0)", "draws from the global stream"),
    (conduct, "losses/a.py", "from torch import randn", "bare name"),
    (words, "losses/utils.py", "", "without meaning"),
    (words, "losses/a.py", "x = 1  # TODO", "unfinished"),
]
SOUND = {
    "__init__.py": "",
    "cli.py": "import latentlab\ndef main():\n    print(latentlab)",
    "seeds.py": "import torch\ndef stream(seed):\n    return torch.Generator().manual_seed(seed)",
    "formats/a.py": "import latentlab.stylegan",
    "inversion/result.py": "from latentlab.seeds import stream",
    "inversion/ii2s.py": "from .result import stream\ndef invert_ii2s(): ...",
    "claims.py": "from .judges import perceptual",
    "evaluation/tables.py": "from ..losses import perceptual\ndef measure_networks():\n    return perceptual",
    "losses/perceptual.py": "",
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


def lengths(modules: list[Module]) -> list[str]:
    """Files and functions that are long enough to be looked at again."""
    found = []
    for m in modules:
        if (lines := m.text.count("\n")) > LONG_FILE:
            found.append(m.fault(1, f"has {lines} lines"))
        for node in m.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            if (length := node.end_lineno - node.lineno + 1) > LONG_FUNCTION:
                found.append(m.fault(node.lineno, f"{node.name} has {length} lines"))
    return found


def test_lengths_are_reported(tmp_path: Path, report: Callable[[str, list[str]], None]):
    long_function = "def f():\n" + "    x = 1\n" * 40
    files = {"losses/a.py": "x = 1\n" * 351, "losses/b.py": long_function, "losses/c.py": "x = 1\n" * 350}
    expected = ["latentlab/losses/a:1 has 351 lines", "latentlab/losses/b:1 f has 41 lines"]
    assert lengths(build(tmp_path, files)) == expected
    report(f"files over {LONG_FILE} and functions over {LONG_FUNCTION} lines", lengths(read(ROOT / PACKAGE)))


def test_a_folder_without_init_is_found(tmp_path: Path):
    modules = build(tmp_path, SOUND)
    (tmp_path / PACKAGE / "inversion/__init__.py").unlink()
    assert folders_are_packages(modules) == ["inversion/ has no __init__.py"]
