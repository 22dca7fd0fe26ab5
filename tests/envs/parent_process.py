"""A process with workers, which is killed, interrupted or forgets them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.live_processes import is_alive

ROOT = Path(__file__).parents[2]

CODE = """
import os, signal, sys, time
import numpy as np
{imports}

stop = []
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
if {handled}:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: stop.append(1))

def step_on(times=10**9):
    for _ in range(times):
        step()

print("imported", flush=True)
{make}
print(*(worker.pid for worker in workers), flush=True)
{then}
"""

POOL = {
    "imports": """
from tests.envs.workers.numpy_pool import NumpyPool
from tests.envs.workers.numpy_row import STEP
""",
    "make": """
pool = NumpyPool("a", "b", faults={{"b": ("making", "{slow}")}})
workers, step = pool.processes, pool.step
pool.step()
""",
}

ENVIRONMENT = {
    "imports": "from envs import make_vec",
    "make": """
venv = make_vec(["drawer-close-v3", "reach-v3"], seed=3, num_workers=2)
workers, step = venv._workers.processes, lambda: venv.step(np.zeros((2, 4)))
venv.reset()
step()
""",
}


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


def shared_segments() -> set[str]:
    # Those of torch and of joblib's semaphores are of other tests, which run at the same time.
    others = ("torch_", "sem.")
    return {path.name for path in Path("/dev/shm").glob("*") if not path.name.startswith(others)}


class Parent:
    """A process that has two workers, in a terminal's foreground group of its own.

    Args:
        kind: `POOL` of plain numpy rows, or `ENVIRONMENT`.
        then: what it does when the workers have answered once.
        folder: where it runs, and must leave nothing.
        handled: it has handlers for the signals that ask to stop, which note them in `stop`.
        slow: seconds that a row of the pool takes to make.
    """

    def __init__(
        self,
        kind: dict[str, str],
        then: str,
        folder: Path,
        handled: bool = False,
        slow: float = 0.0,
    ):
        self.folder = folder
        self.segments = shared_segments()
        make = kind["make"].format(slow=slow) if kind is POOL else kind["make"]
        code = CODE.format(imports=kind["imports"], make=make, then=then, handled=handled)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout.readline() == "imported\n"
        self.workers: set[int] = set()

    def made(self) -> "Parent":
        self.workers = set(map(int, self.process.stdout.readline().split()))
        assert len(self.workers) == 2
        assert all(is_alive(pid) for pid in self.workers)
        return self

    def finish(self) -> tuple[int, str, str]:
        """Exit code and output; nothing else may be left of it."""
        try:
            out, err = self.process.communicate(timeout=60)  # workers have its output open, too
            assert wait_until(lambda: not any(is_alive(pid) for pid in self.workers), 10)
        finally:
            for pid in {self.process.pid, *self.workers}:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
        assert list(self.folder.iterdir()) == []
        assert shared_segments() <= self.segments
        return self.process.returncode, out, err
