"""A worker that ends, hangs or raises is reported with its rows."""

import os
import signal

import pytest

from envs import WorkerError
from tests.envs.workers.numpy_pool import NumpyPool, assert_says_so_again
from tests.envs.workers.numpy_row import DOUBLE, STEP
from tests.live_processes import children

pytestmark = pytest.mark.process


def test_a_killed_worker_is_reported_with_its_rows(start):
    pool = start("a", "b c")
    worker = pool.processes[1]
    worker.kill()
    worker.wait()
    message = (
        f"worker 1 \\(process {worker.pid}; b, c\\) was ended by SIGKILL"
        " \\(by the system if memory ran out\\)"
    )
    with pytest.raises(WorkerError, match=message):
        pool.step()
    assert_says_so_again(pool, message)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_during_a_command_is_reported(start, number):
    pool = start("a b")
    worker = pool.processes[0]
    worker.send_signal(signal.SIGSTOP)
    pool.command(STEP)
    worker.send_signal(number)
    worker.send_signal(signal.SIGCONT)
    message = f"worker 0 \\(process {worker.pid}; a, b\\) was ended by {number.name}"
    with pytest.raises(WorkerError, match=message):
        pool.wait()
    assert_says_so_again(pool, number.name)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_hangs_is_given_up_and_ended(start, interrupt):
    interrupt(60)  # or a failure would take for ever
    pool = start("a", "b", timeout=0.5)
    worker = pool.processes[0]
    worker.send_signal(signal.SIGSTOP)
    message = f"worker 0 \\(process {worker.pid}; a\\) has not answered for 0.5 seconds"
    with pytest.raises(WorkerError, match=message):
        pool.step()
    assert_says_so_again(pool, message)
    pool.close()
    assert worker.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_closes_its_pipe_and_lives_on_is_reported(start):
    """Such as one whose simulation has closed descriptors that are not its own."""
    pool = start("a", faults={"a": ("counting", "60")})
    pool.command(STEP)
    # What its end would do, while the process sleeps.
    pool._workers[0].socket.shutdown(2)
    with pytest.raises(WorkerError, match="; a\\) closed its pipe"):
        pool.wait()
    assert_says_so_again(pool, "closed its pipe")


@pytest.mark.parametrize(("kind", "error"), [("value", "ValueError"), ("end of file", "EOFError")])
def test_a_worker_that_cannot_make_a_row_says_why(kind, error):
    """An EOFError, too, which is not the end of the worker's pipe."""
    before = children(os.getpid())
    with pytest.raises(WorkerError) as caught:
        NumpyPool("a", "b", faults={"b": ("making", kind)})
    message = str(caught.value)
    assert "worker 1 (process" in message
    assert "; b) failed while making b:\nTraceback (most recent call" in message
    assert f"{error}: " in message
    assert children(os.getpid()) <= before


@pytest.mark.parametrize(("kind", "error"), [("value", "ValueError"), ("end of file", "EOFError")])
def test_a_worker_that_raises_says_why(start, kind, error):
    pool = start("a b", faults={"b": ("doubling", kind)})
    pool.step()
    pool.command(DOUBLE)
    with pytest.raises(WorkerError) as caught:
        pool.wait()
    message = str(caught.value)
    assert "; a, b) failed while doubling b:\nTraceback" in message
    assert f"{error}: " in message
    assert "numpy_row.py" in message
    assert_says_so_again(pool, "failed while doubling b:\nTraceback")


def test_a_worker_that_gets_an_unknown_command_says_so(start):
    pool = start("a")
    pool.command(b"?")
    with pytest.raises(WorkerError, match="KeyError: b'\\?'"):
        pool.wait()


def test_the_caller_that_raises_says_why_and_for_which_row(start):
    message = "this process, which steps b, c, failed while making c: ValueError"
    with pytest.raises(WorkerError, match=message):
        NumpyPool("a", caller="b c", faults={"c": ("making", "value")})
    pool = start("a", caller="b c", faults={"c": ("counting", "value")})
    message = "this process, which steps b, c, failed while counting c: ValueError"
    with pytest.raises(WorkerError, match=message) as caught:
        pool.step()
    assert isinstance(caught.value.__cause__, ValueError)
    assert_says_so_again(pool, message)


def test_a_worker_that_ends_in_a_command_is_reported(start):
    """It has taken the command, so that its end of the socket closes with nothing unread."""
    pool = start("a b", faults={"a": ("counting", "exit")})
    message = "a, b\\) ended with exit code 7"
    with pytest.raises(WorkerError, match=message):
        pool.step()
    assert_says_so_again(pool, message)


def test_a_worker_that_ended_between_commands_is_reported_by_the_next_one(start):
    """Sending fails then, not receiving."""
    pool = start("a", faults={"a": ("counting", "value")})
    pool.command(STEP)
    pool.processes[0].wait(10)
    with pytest.raises(WorkerError, match="failed while counting a:\nTraceback"):
        pool.wait()
