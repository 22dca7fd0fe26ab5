"""A failure of Meta-World's rows is reported with their tasks. What goes wrong in processes of any
kind is tested with plain numpy rows in tests/envs/workers."""

import gc
import os
import pickle
import signal

import mujoco
import pytest

from envs import WorkerError, make_vec
from tests.envs.broken_goals import broken
from tests.envs.parent_process import ENVIRONMENT, Parent, wait_until
from tests.envs.small_vector import PAIR, ZERO, calls_of_workers
from tests.live_processes import is_alive

FIRST, SECOND = PAIR


def assert_says_so_again(venv, message: str) -> None:
    """Once a worker has failed, every call says what happened."""
    for call in calls_of_workers(venv, {}):
        with pytest.raises(WorkerError, match=message) as caught:
            call()
        assert "Close this environment and make a new one." in str(caught.value)


@pytest.mark.process
def test_a_killed_worker_is_reported_with_its_tasks(make, pair):
    venv = make(pair, num_workers=2)
    venv.reset()
    worker = venv._workers.processes[1]
    worker.kill()
    worker.wait()
    message = (
        f"worker 1 \\(process {worker.pid}; {SECOND}\\) was ended by SIGKILL"
        " \\(by the system if memory ran out\\)"
    )
    with pytest.raises(WorkerError, match=message):
        venv.step(ZERO)
    assert_says_so_again(venv, message)


@pytest.mark.process
def test_a_worker_that_raises_in_a_step_says_why(make, pair):
    venv = make(broken(pair, 1, 1), num_workers=1, max_episode_steps=5, goal_order="sequential")
    venv.reset()
    for _ in range(4):
        venv.step(ZERO)
    with pytest.raises(WorkerError) as caught:
        venv.step(ZERO)
    message = str(caught.value)
    assert f"{FIRST}, {SECOND}) failed while stepping {SECOND}:\nTraceback" in message
    assert "pickle.loads(task.data)" in message
    assert_says_so_again(venv, f"failed while stepping {SECOND}:\nTraceback")
    venv.close()
    with pytest.raises(RuntimeError, match="is closed"):
        venv.reset()


@pytest.mark.process
def test_ctrl_c_reaches_all_and_only_the_parent_decides(tmp_path):
    then = "while not stop: step_on(1)\nstep_on(50); venv.close(); print('saved')"
    parent = Parent(ENVIRONMENT, then, tmp_path, handled=True).made()
    os.killpg(parent.process.pid, signal.SIGINT)
    assert parent.finish() == (0, "saved\n", "")


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its open socket
def test_workers_end_with_an_environment_that_was_forgotten(pair):
    venv = make_vec(pair, num_workers=1)
    (worker,) = venv._workers.processes
    venv.reset()
    del venv
    gc.collect()
    assert wait_until(lambda: worker.poll() is not None, 10)
    assert not is_alive(worker.pid)


def test_the_caller_that_raises_says_what_it_did_and_for_which_task(make, pair):
    who = f"this process, which steps {FIRST}, {SECOND}, failed while"
    with pytest.raises(WorkerError, match=f"{who} making {SECOND}: UnpicklingError"):
        make(broken(pair, 1, 0))
    venv = make(broken(pair, 1, 1), max_episode_steps=2, goal_order="sequential")
    venv.reset()
    venv.step(ZERO)
    message = f"{who} stepping {SECOND}: UnpicklingError"
    with pytest.raises(WorkerError, match=message) as caught:
        venv.step(ZERO)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    assert_says_so_again(venv, message)


def test_a_reset_or_restore_that_raises_says_so(make, pair):
    with_bad_goals = broken(pair, 0, 1)
    venv = make(with_bad_goals, goal_order="random", seed=0)
    with pytest.raises(WorkerError, match=f"failed while resetting {FIRST}: UnpicklingError"):
        venv.reset()
    venv = make(with_bad_goals, goal_order="sequential")
    venv.reset()
    state = venv.state_dict()
    state["goal"][0] = 1
    with pytest.raises(WorkerError, match=f"failed while restoring {FIRST}: UnpicklingError"):
        venv.load_state_dict(state)


def test_an_unstable_simulation_is_said_once_and_leaves_no_file(make, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    venv = make(PAIR, max_episode_steps=3)
    venv.reset()
    second = venv._workers._caller_rows._rows[1]
    second.env.data.qvel[:] = 1e12
    venv.step(ZERO)
    venv.step(ZERO)
    message = f"MuJoCo gave 1 warnings in an episode of {PAIR[1]}, such as of an unstable"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        venv.step(ZERO)
    assert len(caught) == 1
    for _ in range(3):
        venv.step(ZERO)
    assert list(tmp_path.iterdir()) == []
    assert "mujoco: Nan, Inf or huge value in QVEL" in capfd.readouterr().err


def test_a_user_s_own_handler_of_mujoco_s_warnings_stays(make):
    def own(message: str) -> None:
        pass

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(own)
    try:
        make("reach-v3")
        assert mujoco.get_mju_user_warning() is own
    finally:
        mujoco.set_mju_user_warning(before)
