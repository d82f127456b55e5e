"""Settings and fixtures of all tests: thread settings, no windows, skips for missing hardware, reports.

Nothing here may import latentlab: pytest reads this file before jaxtyping's import hook is installed, and a package
that is already imported is not shape-checked.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is imported
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # spin for some microseconds before sleeping: see the Makefile
os.environ.setdefault("MPLBACKEND", "Agg")
# What is measured is measured by the code under test, not read from what an earlier version left in the user's cache.
os.environ["LATENTLAB_CACHE"] = tempfile.mkdtemp(prefix="latentlab-cache-")
atexit.register(shutil.rmtree, os.environ["LATENTLAB_CACHE"], ignore_errors=True)

import pytest  # noqa: E402 (torch, which it may import, reads the settings above)

REPORTS = pytest.StashKey[dict[str, list[str]]]()
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def no_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else "no CUDA device"


def no_browser() -> str:
    missing = [] if find_spec("playwright") else ["the package playwright"]
    missing += [] if any(map(shutil.which, CHROMIUM)) else ["a chromium on the PATH"]
    return "needs " + " and ".join(missing) if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for mark, look in {"gpu": no_gpu, "browser": no_browser}.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        if marked and (reason := look()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str, list[str]], None]:
    """Prints lines under a title at the end of the test run. Nothing fails because of them."""

    def add(title: str, lines: list[str]) -> None:
        request.config.stash.setdefault(REPORTS, {})[title] = lines

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, lines in config.stash.get(REPORTS, {}).items():
        if lines:
            terminalreporter.section(title)
            terminalreporter.write_line("\n".join(lines))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turns jaxtyping's shape checks off, so that bad input reaches the package's own error messages."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
