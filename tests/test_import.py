"""Importing latentlab has no side effects: it reads no weights, builds no networks, draws no numbers, and is fast."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = "matplotlib pandas seaborn IPython ipywidgets anywidget lightning_fabric sklearn skimage"

PROBE = """
import importlib, json, sys, time
import numpy, torch
package, heavy, *names = sys.argv[1:]
faults = []
def audit(event, args):
    if event == "open" and str(args[0]).startswith(package) and not str(args[0]).endswith((".py", ".pyc")):
        faults.append(f"reads {args[0]} when imported")
    if event == "socket.connect":
        faults.append("connects to the network when imported")
def frames(frame):
    while frame:
        yield frame.f_code.co_filename
        frame = frame.f_back
construct = torch.nn.Module.__init__
def watched(self, *args, **kwargs):
    if any(name.startswith(package) for name in frames(sys._getframe())):
        faults.append(f"builds a {type(self).__name__} when imported")
    construct(self, *args, **kwargs)
def state():
    streams = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist()
    return streams, torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
torch.nn.Module.__init__ = watched
sys.addaudithook(audit)
before, start = state(), time.process_time()
importlib.import_module(names[0])
if (took := time.process_time() - start) > 1:
    faults.append(f"{names[0]} takes {took:.1f} s to import, torch not counted")
faults += [f"{names[0]} imports {name}" for name in heavy.split() if name in sys.modules]
top = sys.modules[names[0]]
fetch = getattr(top, "__getattr__", lambda name: getattr(top, name))
for name in getattr(top, "__all__", []):
    try:
        if fetch(name) is not getattr(top, name):
            faults.append(f"{names[0]}.{name} is hidden by the module of that name")
    except Exception as error:
        faults.append(f"{names[0]}.{name} cannot be accessed: {error!r}")
for name in names[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        faults.append(f"{name} cannot be imported: {error!r}")
if state() != before:
    faults.append("changes a global stream or torch's settings when imported")
print(json.dumps(faults))
"""


def faults_of(package: Path) -> list[str]:
    """Faults of importing the package, then each of its modules, in a new process."""
    modules = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in package.rglob("*.py")]
    names = {name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")}
    done = subprocess.run(
        [sys.executable, "-B", "-P", "-c", PROBE, str(package), HEAVY, *sorted(names, key=lambda n: (n.count("."), n))],
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_the_package_has_no_side_effects():
    faults = faults_of(ROOT / "latentlab")
    assert not faults, "\n".join(faults)


# Importing seeded.spaces sets an attribute of that name, which hides the value returned by __getattr__.
SHADOWED = """
import importlib, matplotlib
__all__ = ["spaces"]
def __getattr__(name):
    return importlib.import_module("seeded.spaces") and 1
"""


def test_work_at_import_is_found(tmp_path: Path):
    """All faults are tested in one process, because each process imports torch."""
    seeded = {
        "__init__.py": SHADOWED,
        "a.py": "from pathlib import Path\nPath(__file__).with_name('a.json').write_text('')",
        "b.py": "import torch\nnet = torch.nn.Linear(1, 1)",
        "c.py": "import nothing_of_this_name",
        "d.py": "import torch\ntorch.rand(1)",
        "spaces.py": "import torch\nfrom torch.nn import Linear\ndef net():\n    return Linear(1, torch.rand(1))",
    }
    (tmp_path / "seeded").mkdir()
    for name, text in seeded.items():
        (tmp_path / "seeded" / name).write_text(text)
    faults = faults_of(tmp_path / "seeded")
    culprits = "imports matplotlib", "hidden by", "a.json when", "builds a", "cannot be imported", "a global stream"
    assert [c for c, fault in zip(culprits, faults, strict=True) if c not in fault] == [], faults
