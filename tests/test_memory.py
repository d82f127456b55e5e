"""Page faults of repeated steps through the generator, in a process of their own."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
import latentlab as ll
from latentlab.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
G = ll.load("faces-64")
w_plus = G.broadcast(G.w_avg.expand(10, -1)).clone().requires_grad_()
for step in range(8):
    if step == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    G.synthesis(w_plus).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    plain = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and not k.startswith("MALLOC_")}
    run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=plain)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_serves_the_next_step():
    assert faults("keep") < faults("return") / 5
