"""Freed memory stays with the process, so that taking it again costs no page faults."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from configs import PRESETS
from scripts.training.allocator import keep_freed_memory
from scripts.benchmarks.learner import make_update
from configs.build import build_agent
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
config = PRESETS["mt10-fairgrad"]
update = make_update(config, build_agent(config, 10, torch.device("cpu")))
for _ in range(5):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
    )
    return int(result.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_updates_reuse_memory():
    kept, returned = page_faults("keep"), page_faults("do not")
    assert kept < 0.1 * returned
