"""A worker that ends, hangs or raises is reported with its tasks."""

import os
import pickle
import signal

import pytest

from envs import WorkerError, make_vec
from tests.envs.small_vector import ZERO
from tests.envs.workers.failures import assert_says_so_again, broken
from tests.live_processes import children


def test_a_killed_worker_is_reported_with_its_tasks(make, pair):
    venv = make(pair, num_workers=2)
    venv.reset()
    worker = venv._workers.processes[1]
    worker.kill()
    worker.wait()
    message = (
        f"worker 1 \\(process {worker.pid}; reach-v3\\) was ended by SIGKILL"
        " \\(by the system if memory ran out\\)"
    )
    with pytest.raises(WorkerError, match=message):
        venv.step(ZERO)
    assert_says_so_again(venv, message)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_during_a_step_is_reported(make, pair, number):
    venv = make(pair, num_workers=1)
    venv.reset()
    worker = venv._workers.processes[0]
    worker.send_signal(signal.SIGSTOP)
    venv.step_async(ZERO)
    worker.send_signal(number)
    worker.send_signal(signal.SIGCONT)
    message = f"worker 0 \\(process {worker.pid}; drawer-close-v3, reach-v3\\) was ended by"
    with pytest.raises(WorkerError, match=f"{message} {number.name}"):
        venv.step_wait()
    assert_says_so_again(venv, number.name)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["step", "reset"])
def test_a_worker_that_hangs_is_given_up_and_ended(make, pair, call, interrupt):
    interrupt(60)  # or a failure would take for ever
    venv = make(pair, num_workers=2, timeout=0.5)
    venv.reset()
    worker = venv._workers.processes[0]
    worker.send_signal(signal.SIGSTOP)
    message = (
        f"worker 0 \\(process {worker.pid}; drawer-close-v3\\) has not answered for 0.5 seconds"
    )
    with pytest.raises(WorkerError, match=message):
        venv.step(ZERO) if call == "step" else venv.reset()
    assert_says_so_again(venv, message)
    venv.close()
    assert worker.returncode == -signal.SIGKILL


GARBAGE = [b"garbage", b"", b"\x80"]
"""Unpickling raises UnpicklingError, and EOFError twice, which is no end of the worker's pipe."""


@pytest.mark.parametrize("data", GARBAGE)
def test_a_worker_that_cannot_start_says_why(pair, data):
    before = children(os.getpid())
    with pytest.raises(WorkerError) as caught:
        make_vec(broken(pair, 1, 0, data), num_workers=2)
    message = str(caught.value)
    assert "worker 1 (process" in message
    assert "; reach-v3) failed while making reach-v3:\nTraceback (most recent call" in message
    assert "pickle.loads(task.data)" in message
    assert children(os.getpid()) <= before


@pytest.mark.parametrize("data", GARBAGE[:2])
def test_a_worker_that_raises_in_a_step_says_why(make, pair, data):
    venv = make(
        broken(pair, 1, 1, data), num_workers=1, max_episode_steps=5, goal_order="sequential"
    )
    venv.reset()
    for _ in range(4):
        venv.step(ZERO)
    with pytest.raises(WorkerError) as caught:
        venv.step(ZERO)
    message = str(caught.value)
    assert "drawer-close-v3, reach-v3) failed while stepping reach-v3:\nTraceback" in message
    assert "pickle.loads(task.data)" in message
    assert_says_so_again(venv, "failed while stepping reach-v3:\nTraceback")
    venv.close()
    with pytest.raises(RuntimeError, match="is closed"):
        venv.reset()


def test_the_caller_that_raises_says_why_and_for_which_task(make, pair):
    options = {"num_workers": 2, "caller_steps": True, "max_episode_steps": 2}
    message = "this process, which steps reach-v3, failed while making reach-v3: UnpicklingError"
    with pytest.raises(WorkerError, match=message):
        make_vec(broken(pair, 1, 0, b"garbage"), **options)
    venv = make(broken(pair, 1, 1, b"garbage"), **options, goal_order="sequential")
    venv.reset()
    venv.step(ZERO)
    message = "this process, which steps reach-v3, failed while stepping reach-v3: UnpicklingError"
    with pytest.raises(WorkerError, match=message) as caught:
        venv.step(ZERO)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    assert_says_so_again(venv, message)


def test_a_worker_that_raises_in_a_reset_says_why(make, pair):
    venv = make(broken(pair, 0, 1, b"garbage"), num_workers=1)
    healthy = make(pair, num_workers=1)
    healthy.reset()
    state = healthy.state_dict()
    with pytest.raises(WorkerError, match="failed while resetting drawer-close-v3:\nTraceback"):
        venv.reset()
    again = make(broken(pair, 0, 1, b"garbage"), num_workers=1)
    with pytest.raises(WorkerError, match="failed while restoring drawer-close-v3:\nTraceback"):
        again.load_state_dict(state | {"tasks": again._identity()})


class Exit:
    """Whose unpickling ends the process."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_worker_that_ends_in_a_command_is_reported(make, pair):
    """It has taken the command, so that its end of the socket closes with nothing unread."""
    venv = make(broken(pair, 0, 1, pickle.dumps(Exit())), num_workers=1)
    message = "drawer-close-v3, reach-v3\\) ended with exit code 7"
    with pytest.raises(WorkerError, match=message):
        venv.reset(seed=1)
    assert_says_so_again(venv, message)
