"""Page faults of repeated tensors of a few MB, in a process of their own."""

import ctypes.util
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from latentlab.memory import keep_freed_memory

def step():
    maps = [torch.ones(700_000) for _ in range(8)]
    torch.stack(maps).sum()

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux" or not ctypes.util.find_library("c"), reason="needs Linux with glibc")
def test_freed_memory_serves_the_next_step():
    assert faults("keep") < faults("return") / 5
