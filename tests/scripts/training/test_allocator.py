"""Freed memory stays with the process, so that taking it again costs no page faults."""

import ctypes
import subprocess
import sys

import pytest

# A process of its own, because the C library keeps what it was told for as long as it lives.
PROGRAM = """
import resource
import torch
from configs import PRESETS
from configs.build import build_agent
from scripts.benchmarks.learner import make_update
from scripts.training.allocator import keep_freed_memory

torch.set_num_threads(1)
config = PRESETS["mt10-small"]
update = make_update(config, build_agent(config, 10, torch.device("cpu")))
for keep in (False, True):
    if keep:
        keep_freed_memory()
    for _ in range(3):
        update()
    faults = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            update()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(min(faults))  # a system short of memory takes pages away, which adds some
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_updates_reuse_memory():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    returned, kept = map(int, result.stdout.split())
    assert kept < 0.1 * returned
