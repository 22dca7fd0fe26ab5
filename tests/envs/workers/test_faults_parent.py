"""Workers end with their parent, and leave nothing behind: real processes, really killed."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs import WorkerError, make_vec
from tests.envs.workers.failures import ROOT, broken
from tests.live_processes import children, is_alive


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


def shared_segments() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("*") if not path.name.startswith("torch_")}


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


PARENT = """
import os, signal, sys, time
import numpy as np
from envs import make_vec

stop = []
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
if {handled}:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))

def step_on(times=10**9):
    for _ in range(times):
        venv.step(np.zeros((2, 4)))

print("imported", flush=True)
venv = make_vec(["drawer-close-v3", "reach-v3"], seed=3, num_workers=2)
venv.reset()
venv.step(np.zeros((2, 4)))
print(*(process.pid for process in venv._workers.processes), flush=True)
{then}
"""


class Parent:
    """A process that has an environment, in a terminal's foreground group of its own."""

    def __init__(self, then: str, folder: Path, handled: bool = False):
        self.folder = folder
        self.segments = shared_segments()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT.format(then=then, handled=handled)],
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


@pytest.mark.parametrize(
    ("then", "code", "error"),
    [
        ("raise ValueError('mine')", 1, "ValueError: mine"),
        ("venv.step_async(np.zeros((2, 4))); sys.exit(5)", 5, ""),
        long("sys.exit(3)", 3, ""),
        long("os._exit(4)", 4, ""),
        long("step_on(50)", 0, ""),
        long("venv.close()", 0, ""),
    ],
)
def test_workers_end_with_the_parent(tmp_path, then, code, error):
    returncode, _, err = Parent(then, tmp_path).made().finish()
    assert returncode == code
    assert err.strip().splitlines()[-1:] == ([error] if error else [])
    assert err.count("Traceback") == bool(error)  # workers say nothing of their own


@pytest.mark.parametrize(
    ("number", "to", "then"),
    [
        (signal.SIGKILL, "the parent", "step_on()"),
        (signal.SIGTERM, "the parent", "step_on()"),
        (signal.SIGINT, "all", "step_on()"),
        long(signal.SIGKILL, "the parent", "time.sleep(60)"),
        long(signal.SIGTERM, "all", "step_on()"),
        long(signal.SIGINT, "the parent", "step_on()"),
    ],
)
def test_workers_end_with_a_killed_parent(tmp_path, number, to, then):
    parent = Parent(then, tmp_path).made()
    time.sleep(0.1)
    (os.kill if to == "the parent" else os.killpg)(parent.process.pid, number)
    returncode, _, err = parent.finish()
    assert returncode == -number
    assert err.count("Traceback") == (number == signal.SIGINT)  # the parent's KeyboardInterrupt


@pytest.mark.parametrize(
    ("number", "started"),
    [
        (signal.SIGKILL, 0.05),
        (signal.SIGINT, 0.5),
        long(signal.SIGKILL, 0.5),
        long(signal.SIGTERM, 0.5),
        long(signal.SIGINT, 0.05),
    ],
)
def test_workers_end_with_a_parent_killed_while_it_starts_them(tmp_path, number, started):
    parent = Parent("step_on()", tmp_path)
    pid = parent.process.pid
    assert wait_until(lambda: len(children(pid)) == 2)
    parent.workers = children(pid)
    time.sleep(started)
    os.kill(pid, number)
    returncode, _, err = parent.finish()
    assert returncode == -number
    assert err.count("Traceback") == (number == signal.SIGINT)


@pytest.mark.parametrize(
    ("number", "starting"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), long(signal.SIGTERM, True)],
)
def test_only_the_parent_decides_what_a_signal_to_all_means(tmp_path, number, starting):
    """As when Ctrl-C is pressed, or a cluster ends a job, and training saves a checkpoint."""
    then = "while not stop: step_on(1)\nstep_on(50); venv.close(); print('saved')"
    parent = Parent(then, tmp_path, handled=True)
    if starting:
        assert wait_until(lambda: len(children(parent.process.pid)) == 2)
        time.sleep(0.3)  # python itself has started
        os.killpg(parent.process.pid, number)
        parent.made()
    else:
        parent.made()
        os.killpg(parent.process.pid, number)
    assert parent.finish() == (0, "saved\n", "")


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)", "venv.close()"])
def test_workers_end_although_a_fork_of_the_parent_lives_on(tmp_path, then):
    fork = "fork = os.fork()\nif fork == 0: time.sleep(60); os._exit(0)\nprint(fork, flush=True)\n"
    parent = Parent(
        f"{fork}{then}\nprint([process.returncode for process in venv._workers.processes])",
        tmp_path,
    ).made()
    fork = int(parent.process.stdout.readline())
    try:
        assert wait_until(lambda: not any(is_alive(pid) for pid in parent.workers), 10)
    finally:
        os.kill(fork, signal.SIGKILL)
    _, out, _ = parent.finish()
    assert out == ("[0, 0]\n" if "close" in then else "")


def test_workers_end_with_an_environment_that_was_forgotten(tmp_path):
    parent = Parent("del venv\ntime.sleep(60)", tmp_path).made()
    try:
        assert wait_until(lambda: not any(is_alive(pid) for pid in parent.workers), 10)
    finally:
        parent.process.kill()
    assert parent.finish()[2] == ""


@pytest.mark.parametrize("fails", [False, True])
def test_no_descriptor_is_left_open(pair, fails):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    if fails:
        with pytest.raises(WorkerError):
            make_vec(broken(pair, 0, 0, b"garbage"), num_workers=1)
    else:
        venv = make_vec(pair, num_workers=1)
        venv.close()
        del venv
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
