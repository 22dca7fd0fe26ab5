"""An interrupt at any moment loses nothing, or the pool says that it does not know."""

import random
import signal
from itertools import count

import pytest

from envs import WorkerError
from tests.envs.interrupts import Interrupted, interrupted_where, is_in
from tests.envs.workers.numpy_pool import assert_says_so_again, open_pool
from tests.envs.workers.numpy_row import STEP

pytestmark = pytest.mark.process

REPORT = "an interrupt came between a command and its answer"


def test_an_interrupted_wait_can_be_repeated(start, interrupt):
    pool = start("a", "b", caller="c", timeout=5)
    worker = pool.processes[0]
    worker.send_signal(signal.SIGSTOP)
    pool.command(STEP)
    for _ in range(3):
        interrupt(0.1)
        with pytest.raises(Interrupted):
            pool.wait()
    worker.send_signal(signal.SIGCONT)
    pool.wait()
    assert pool.arrays.count.tolist() == [1, 1, 1]  # the caller's row was stepped only once
    assert pool.step() == [2, 2, 2]


def test_an_interrupted_pool_can_be_closed(start, interrupt):
    pool = start("a")
    pool.processes[0].send_signal(signal.SIGSTOP)
    pool.command(STEP)
    interrupt(0.1)
    with pytest.raises(Interrupted):
        pool.wait()
    pool.processes[0].send_signal(signal.SIGCONT)
    pool.close()
    assert pool.processes[0].returncode == 0


@pytest.mark.parametrize(
    ("file", "function", "variable"),
    [
        ("pool.py", "command", "process"),
        ("pool.py", "_receive", "process"),
        ("rows.py", "execute", "command"),
    ],
)
def test_an_interrupt_that_leaves_something_unknown_is_reported(start, file, function, variable):
    pool = start("a", caller="b")
    assert interrupted_where(is_in(f"envs/workers/{file}", function, variable), pool.step)
    assert_says_so_again(pool, REPORT)


def test_an_interrupt_of_what_must_be_whole_is_reported(start):
    pool = start(caller="a")
    with pool.uninterrupted():
        pass
    assert pool.step() == [1]
    with pytest.raises(Interrupted), pool.uninterrupted():
        raise Interrupted
    assert_says_so_again(pool, REPORT)


def goes_on(pool, before: int) -> bool:
    """Whether an interrupted pool can be used, and is in the state that it says, or reports that it
    cannot. Before the interrupted step, all rows had counted to a number."""
    try:
        pool.wait()
        counts = set(pool.arrays.count)
        assert counts in ({before}, {before + 1})  # none or all have stepped, and only once
        assert set(pool.step()) == {max(counts) + 1}
    except WorkerError as error:
        assert REPORT in str(error)  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize("caller", ["", "c"])
def test_an_interrupt_at_any_moment_is_harmless_or_reported(start, interrupt, caller):
    pool = start("a", "b", caller=caller)
    generator = random.Random(0)
    for _ in range(300):
        before = int(pool.arrays.count[0])
        try:
            interrupt(generator.uniform(2e-5, 1e-3))
            pool.step()
            interrupt(0)
        except Interrupted:
            if not goes_on(pool, before):
                break


@pytest.mark.parametrize(
    ("workers", "caller"), [((), "a b"), pytest.param(("a",), "b", marks=pytest.mark.long)]
)
def test_an_interrupt_at_any_line_is_harmless_or_reported(workers, caller):
    reported = line = 0
    finished = False
    while not finished:
        with open_pool(*workers, caller=caller) as pool:
            while True:
                lines, before = count(), int(pool.arrays.count[0])
                finished = not interrupted_where(
                    lambda frame: next(lines) == line,  # noqa: B023
                    pool.step,
                )
                line += 1
                if finished:
                    break
                if not goes_on(pool, before):
                    reported += 1
                    break
    assert 0 < reported < line
