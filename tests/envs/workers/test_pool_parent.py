"""Workers end with their parent, and leave nothing behind: real processes, really killed."""

import os
import signal
import time

import pytest

from tests.envs.parent_process import POOL, Parent, wait_until
from tests.live_processes import children, is_alive

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("then", "code", "error"),
    [
        ("raise ValueError('mine')", 1, "ValueError: mine"),
        ("pool.command(STEP); sys.exit(5)", 5, ""),
        ("os._exit(4)", 4, ""),
        ("step_on(50)", 0, ""),
        ("pool.close()", 0, ""),
    ],
)
def test_workers_end_with_the_parent(tmp_path, then, code, error):
    returncode, _, err = Parent(POOL, then, tmp_path).made().finish()
    assert returncode == code
    assert err.strip().splitlines()[-1:] == ([error] if error else [])
    assert err.count("Traceback") == bool(error)  # workers say nothing of their own


@pytest.mark.parametrize(
    ("number", "to", "then"),
    [
        (signal.SIGKILL, "the parent", "step_on()"),
        (signal.SIGKILL, "the parent", "time.sleep(60)"),
        (signal.SIGTERM, "the parent", "step_on()"),
        (signal.SIGTERM, "all", "step_on()"),
        (signal.SIGINT, "the parent", "step_on()"),
        (signal.SIGINT, "all", "step_on()"),
    ],
)
def test_workers_end_with_a_killed_parent(tmp_path, number, to, then):
    parent = Parent(POOL, then, tmp_path).made()
    time.sleep(0.1)
    (os.kill if to == "the parent" else os.killpg)(parent.process.pid, number)
    returncode, _, err = parent.finish()
    assert returncode == -number
    assert err.count("Traceback") == (number == signal.SIGINT)  # the parent's KeyboardInterrupt


@pytest.mark.parametrize(
    ("number", "started"),
    [
        (signal.SIGKILL, 0.02),  # python itself is starting
        (signal.SIGKILL, 0.5),  # a row is being made
        (signal.SIGTERM, 0.5),
        (signal.SIGINT, 0.02),
        (signal.SIGINT, 0.5),
    ],
)
def test_workers_end_with_a_parent_killed_while_it_starts_them(tmp_path, number, started):
    parent = Parent(POOL, "step_on()", tmp_path, slow=1)
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
    [
        (signal.SIGINT, True),
        (signal.SIGTERM, False),
        (signal.SIGUSR1, True),
        (signal.SIGHUP, False),
    ],
)
def test_only_the_parent_decides_what_a_signal_to_all_means(tmp_path, number, starting):
    """As when Ctrl-C is pressed, or a cluster ends a job, and training saves a checkpoint."""
    then = "while not stop: step_on(1)\nstep_on(50); pool.close(); print('saved')"
    parent = Parent(POOL, then, tmp_path, handled=True, slow=1.5 * starting)
    if starting:
        assert wait_until(lambda: len(children(parent.process.pid)) == 2)
        time.sleep(0.8)  # python itself has started
        os.killpg(parent.process.pid, number)
        parent.made()
    else:
        parent.made()
        os.killpg(parent.process.pid, number)
    assert parent.finish() == (0, "saved\n", "")


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)", "pool.close()"])
def test_workers_end_although_a_fork_of_the_parent_lives_on(tmp_path, then):
    fork = "fork = os.fork()\nif fork == 0: time.sleep(60); os._exit(0)\nprint(fork, flush=True)\n"
    parent = Parent(
        POOL, f"{fork}{then}\nprint([worker.returncode for worker in workers])", tmp_path
    ).made()
    fork = int(parent.process.stdout.readline())
    try:
        assert wait_until(lambda: not any(is_alive(pid) for pid in parent.workers), 10)
    finally:
        os.kill(fork, signal.SIGKILL)
    _, out, _ = parent.finish()
    assert out == ("[0, 0]\n" if "close" in then else "")
