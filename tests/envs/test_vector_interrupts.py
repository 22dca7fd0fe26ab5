"""An interrupt of the vector environment at any moment is harmless or reported.

What becomes of the workers alone is tested in tests/envs/workers/test_pool_interrupts.py.
"""

import random
import signal
from itertools import count

import numpy as np
import pytest
from gymnasium.error import NoAsyncCallError

from envs import WorkerError, make_vec
from tests.envs.interrupts import Interrupted, interrupted_where, is_in
from tests.envs.nested_arrays import same
from tests.envs.small_vector import ZERO

REPORT = "an interrupt came between a command and its answer"


@pytest.fixture
def interrupted(interrupt):
    """Interrupts calls while they wait for a worker."""

    def interrupted(venv, *calls):
        worker = venv._workers.processes[0]
        worker.send_signal(signal.SIGSTOP)
        for call in calls:
            interrupt(0.1)
            try:
                with pytest.raises(Interrupted):
                    call()
            finally:
                interrupt(0)
        worker.send_signal(signal.SIGCONT)

    return interrupted


def play(venv, steps: int = 30) -> list:
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 2, 4))
    return [venv.reset(seed=4)[0], *(venv.step(action)[:2] for action in actions)]


@pytest.mark.process
def test_an_interrupted_step_can_be_finished(with_workers, interrupted):
    venv = with_workers
    expected = play(venv)
    venv.reset(seed=4)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, 4))
    for step, action in enumerate(actions, start=1):
        if step in (5, 20):  # the second one ends episodes
            interrupted(venv, lambda action=action: venv.step(action), venv.step_wait)
            result = venv.step_wait()
        else:
            result = venv.step(action)
        assert same(result[:2], expected[step])
    with pytest.raises(NoAsyncCallError):
        venv.step_wait()


@pytest.mark.process
def test_after_an_interrupted_reset_another_is_needed(with_workers, interrupted):
    venv = with_workers
    expected = play(venv)
    for options in ({}, {"options": {"reset_mask": np.array([True, False])}}):
        interrupted(venv, lambda options=options: venv.reset(**options))
        with pytest.raises(RuntimeError, match="call reset\\(\\)"):
            venv.step(ZERO)
        assert same(play(venv), expected)


@pytest.mark.process
def test_an_interrupted_restore_can_be_repeated(with_workers, interrupted):
    venv = with_workers
    venv.reset(seed=4)
    for _ in range(30):
        venv.step(ZERO)
    state = venv.state_dict()
    expected = venv.step(ZERO)[0]
    interrupted(venv, lambda: venv.load_state_dict(state))
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        venv.step(ZERO)
    venv.load_state_dict(state)
    assert (venv.step(ZERO)[0] == expected).all()


def goes_on(venv, reference) -> bool:
    """Whether an interrupted environment can be used, and is in the state that it says, or reports
    that it cannot."""
    try:
        try:
            venv.step_wait()
        except NoAsyncCallError:
            if venv._needs_reset.any():
                venv.reset()
        observation = venv.step(ZERO)[0]
    except WorkerError as error:
        assert REPORT in str(error)  # noqa: PT017
        return False
    state = venv.state_dict()
    assert len(set(state["elapsed"])) == 1  # no row has taken a step more than the others
    assert (reference.load_state_dict(state) == observation).all()
    return True


@pytest.mark.process
@pytest.mark.parametrize("caller_steps", [False, True])
def test_an_interrupt_at_any_moment_is_harmless_or_reported(make, pair, interrupt, caller_steps):
    workers = {"num_workers": 1 + caller_steps, "caller_steps": caller_steps}
    venv = make(pair, max_episode_steps=20, **workers)
    reference = make(pair, max_episode_steps=20)
    venv.reset()
    generator = random.Random(0)
    for _ in range(300):
        try:
            interrupt(generator.uniform(2e-5, 1e-3))
            venv.reset() if generator.random() < 0.1 else venv.step(ZERO + generator.random())
            interrupt(0)
        except Interrupted:
            if not goes_on(venv, reference):
                break


def test_goals_are_not_drawn_twice_after_an_interrupt(make, pair):
    venv = make(pair, max_episode_steps=1)
    venv.reset()
    in_drawing = is_in("envs/goal_order.py", "after", "row")
    assert interrupted_where(in_drawing, lambda: venv.step(ZERO))
    for call in (venv.step_wait, venv.state_dict, venv.reset):
        with pytest.raises(WorkerError, match=REPORT):
            call()


def coordinates(frame) -> bool:
    """Rather than steps an environment."""
    files = ("envs/vector.py", "envs/goal_order.py", "envs/workers/pool.py")
    return frame.f_code.co_filename.endswith(files)


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("caller_steps", [False, True])
@pytest.mark.parametrize("name", ["step", "reset", "load_state_dict"])
def test_an_interrupt_at_any_line_is_harmless_or_reported(pair, name, caller_steps):
    options = {
        "num_workers": 1 + caller_steps,
        "caller_steps": caller_steps,
        "max_episode_steps": 2,
    }
    venv, reference = (make_vec(pair, **options) for _ in range(2))
    reported = line = 0
    while True:
        venv.reset()
        venv.step(ZERO)
        arguments = {"step": (ZERO,), "reset": (), "load_state_dict": (venv.state_dict(),)}[name]
        lines = count()
        if not interrupted_where(
            lambda frame: coordinates(frame) and next(lines) == line,  # noqa: B023
            lambda: getattr(venv, name)(*arguments),  # noqa: B023
        ):
            break
        if not goes_on(venv, reference):
            reported += 1
            venv.close()
            venv = make_vec(pair, **options)
        line += 1
    venv.close()
    reference.close()
    assert 0 < reported < line
