"""Commands and answers: who steps the rows changes nothing, and workers disturb nobody."""

import gc
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from envs import WorkerError
from envs.workers.process import IGNORED_SIGNALS
from envs.workers.rows import Rows
from mtrl_fair.signals import STOP_SIGNALS
from tests.envs.workers.numpy_pool import NumpyPool
from tests.envs.workers.numpy_row import DOUBLE

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("workers", "caller", "num_processes"),
    [(["a", "b", "c"], "", 3), (["a b c"], "", 1), (["a"], "b c", 1), ([], "a b c", 0)],
)
def test_who_steps_changes_nothing(start, workers, caller, num_processes):
    pool = start(*workers, caller=caller)
    assert len(pool.processes) == num_processes
    assert pool.step() == [1, 1, 1]
    pool.command(DOUBLE)
    pool.wait()
    assert pool.step() == [3, 3, 3]
    pool.arrays.active[1] = False
    assert pool.step() == [4, 3, 4]


def test_the_caller_may_compute_between_a_command_and_its_answer(start):
    pool = start("a", "b")
    pool.command(DOUBLE)
    assert pool.command_sent == DOUBLE
    pool.wait()
    pool.wait()  # for nothing
    assert pool.step() == [1, 1]


def test_pools_share_nothing(start):
    one, other = start("a"), start("a")
    assert [one.step(), one.step(), other.step()] == [[1], [2], [1]]
    other.close()
    assert one.step() == [3]


def test_the_caller_s_rows_compute_in_numpy_s_own_mode(start, monkeypatch):
    """Whatever the caller has set, and without the warnings of underflows that are none by
    default."""
    pool, modes = start(caller="a"), []
    execute = Rows.execute
    monkeypatch.setattr(Rows, "execute", lambda *args: modes.append(np.geterr()) or execute(*args))
    with np.errstate(all="raise"):
        pool.step()
    assert modes == [{"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}]


def test_a_worker_sleeps_while_nothing_is_asked_of_it(start):
    pool = start("a")
    for _ in range(50):
        pool.step()
    time.sleep(0.1)
    (worker,) = pool.processes
    before = processor_seconds(worker.pid)
    time.sleep(1)
    assert processor_seconds(worker.pid) - before < 0.1


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_workers_leave_the_cores_to_others(start, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    worker = start("a").processes[0]
    environment = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        assert f"{library}_NUM_THREADS=1" in environment
    assert os.environ["OMP_NUM_THREADS"] == "64"


def test_workers_import_what_the_parent_would(start, tmp_path, monkeypatch):
    """Not what lies about in the current folder, nor another `envs` beside the user's script."""
    for file in ("here/random.py", "here/queue.py", "script/envs/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "script"), Path("/tmp"), *sys.path])
    assert start("a").step() == [1]


def test_sockets_with_a_default_timeout_change_nothing(start):
    socket.setdefaulttimeout(1e-3)
    try:
        pool = start("a", faults={"a": ("counting", "0.01")})
    finally:
        socket.setdefaulttimeout(None)
    assert [pool.step() for _ in range(3)] == [[1], [2], [3]]


def test_without_anonymous_memory_an_unlinked_file_serves(start, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pool = start("a", "b")
    assert list(tmp_path.iterdir()) == []
    assert pool.step() == [1, 1]


@pytest.mark.parametrize("fails", [False, True])
def test_no_descriptor_is_left_open(fails):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    if fails:
        with pytest.raises(WorkerError):
            NumpyPool("a", faults={"a": ("making", "value")})
    else:
        pool = NumpyPool("a")
        (worker,) = pool.processes
        pool.close()
        pool.close()  # may be repeated
        assert worker.returncode == 0
        del pool, worker
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_workers_ignore_what_asks_their_parent_to_stop():
    assert IGNORED_SIGNALS == STOP_SIGNALS


def test_workers_know_no_environment_and_no_learner():
    """Only so do they start in a tenth of a second, and step rows of any kind."""
    modules = sorted(path.stem for path in (ROOT / "envs" / "workers").glob("[a-z]*.py"))
    assert {"pool", "worker", "process", "rows", "memory", "assignment"} <= set(modules)
    code = f"""
import sys
from importlib import import_module
for name in {modules}:
    import_module(f"envs.workers.{{name}}")
foreign = {{"metaworld", "mujoco", "gymnasium", "torch", "scipy", "agents", "mtrl_fair"}}
ours = [name for name in sys.modules if name.startswith("envs.")]
print(sorted(foreign & set(sys.modules)), [n for n in ours if not n.startswith("envs.workers")])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[] []\n"
