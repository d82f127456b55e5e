"""pyproject.toml and environment.yml ask for the same things, and the environment at hand has them."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PIP_NAME = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # where conda-forge's name differs
PIP_ONLY = {"lightning-fabric", "playwright"}  # everything else must come from conda, or pip replaces conda's torch
SELF = "latentlab"

Wanted = dict[str, SpecifierSet]


def requirements(lines: list[str]) -> Wanted:
    parsed = [Requirement(line) for line in lines]
    names = [canonicalize_name(PIP_NAME.get(r.name, r.name)) for r in parsed]
    assert len(names) == len(set(names)), f"asked for twice: {sorted(n for n in names if names.count(n) > 1)}"
    return {name: r.specifier for name, r in zip(names, parsed, strict=True)}


def of_pyproject(text: str) -> Wanted:
    """The core and all extras; an extra that names another of the package itself adds nothing."""
    project = tomllib.loads(text)["project"]
    lines = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    wanted = requirements([line for line in lines if Requirement(line).name != SELF])
    return wanted | {"python": SpecifierSet(project["requires-python"])}


def of_conda(text: str) -> tuple[Wanted, list[str]]:
    """What environment.yml asks for, and the lines of its pip section."""
    entries = yaml.safe_load(text)["dependencies"]
    pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    conda = [entry for entry in entries if isinstance(entry, str) and entry != "pip"]
    return requirements(conda + [line for line in pip if not line.startswith("-")]), pip


def differences(pyproject: str, conda: str) -> list[str]:
    ours, theirs = of_pyproject(pyproject), of_conda(conda)[0]
    return [
        f"{name}: pyproject.toml {ours.get(name, 'no')}, environment.yml {theirs.get(name, 'no')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


PYPROJECT = (ROOT / "pyproject.toml").read_text()
CONDA = (ROOT / "environment.yml").read_text()


def test_both_files_ask_for_the_same():
    assert differences(PYPROJECT, CONDA) == []


def test_every_requirement_has_a_floor_and_no_ceiling():
    for name, spec in of_pyproject(PYPROJECT).items():
        assert [s.operator for s in spec] == [">="], f"{name}{spec}"


def test_pip_section_installs_the_package_and_little_else():
    pip = of_conda(CONDA)[1]
    assert pip[-1] == "-e ."
    assert {Requirement(line).name for line in pip[:-1]} == PIP_ONLY


@pytest.mark.parametrize("name, spec", [(n, s) for n, s in of_pyproject(PYPROJECT).items() if n != "python"])
def test_this_environment_satisfies(name: str, spec: SpecifierSet):
    assert spec.contains(Version(version(name)), prereleases=True)


@pytest.mark.parametrize(
    "old, new, culprit",
    [
        ("pytorch>=2.4", "pytorch>=2.3", "torch"),
        ("python>=3.11", "python>=3.10", "python"),
        ("  - scipy>=1.13\n", "", "scipy"),
        ("  - pip\n", "  - pip\n  - einops>=0.8\n", "einops"),
        ("lightning-fabric>=2.4", "lightning-fabric", "lightning-fabric"),
    ],
)
def test_a_drift_is_seen(old: str, new: str, culprit: str):
    assert old in CONDA
    assert [line.split(":")[0] for line in differences(PYPROJECT, CONDA.replace(old, new, 1))] == [culprit]
