"""No training sees a test face: the package's trainings draw faces through the guard alone."""

import ast
from pathlib import Path

import pytest

from latentlab import training

# What draws faces from any seed, the test faces' included.
UNGUARDED = {"sample_factors", "in_other_states", "real_set"}


def unguarded(source: str) -> list[str]:
    """What a module names of ``UNGUARDED``: imported, as an attribute, or bare."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom | ast.Import) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else [node.id] if isinstance(node, ast.Name) else []
        found += [name for name in names if name.split(".")[-1] in UNGUARDED]
    return found


@pytest.mark.parametrize("path", sorted(Path(training.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_training_draws_faces_through_the_guard(path: Path):
    assert not unguarded(path.read_text()), f"{path.name}: use training_factors or training_states instead"


@pytest.mark.parametrize(
    "source",
    [
        "from latentlab.faces import real_set",
        "from latentlab.faces.sampling import sample_factors as draw",
        "import latentlab.faces as f\nf.in_other_states(1, 2)",
        "def faces(n):\n    from latentlab import faces\n    return faces.sample_factors(n, 0)",
    ],
)
def test_a_way_around_the_guard_is_found(source: str):
    assert len(unguarded(source)) == 1
