"""Who steps the rows changes nothing, and workers do not get in the way of others."""

import subprocess
import sys
from pathlib import Path

import pytest

import envs
from envs import vector
from envs.make import make_vec
from tests.envs.nested_arrays import assert_same
from tests.envs.small_vector import ZERO, random_actions


def play(venv, steps: int = 50):
    return [venv.reset(seed=4)[0], *(venv.step(actions) for actions in random_actions(steps))]


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "num_processes"),
    [
        ({"num_workers": 1}, 1),
        ({"num_workers": 2, "caller_steps": True}, 1),
        ({"num_workers": 1, "caller_steps": True}, 0),
    ],
)
def test_who_steps_changes_nothing(make, with_workers, pair, options, num_processes):
    assert len(with_workers._workers.processes) == 2
    expected = play(with_workers)
    state = with_workers.state_dict()
    other = make(pair, max_episode_steps=20, all_infos=True, **options)
    assert len(other._workers.processes) == num_processes
    assert_same(play(other), expected)
    assert_same(other.state_dict(), state)
    assert (other.load_state_dict(state) == expected[-1][0]).all()


def test_workers_are_as_many_as_usable_cores_or_rows(make, pair, monkeypatch):
    """The calling process is one of them here, so that there is nothing to start."""
    monkeypatch.setattr(vector, "usable_cores", lambda: 1)
    assert make(pair, num_workers=None, caller_steps=True)._workers.processes == []
    assert make("reach-v3", num_workers=7, caller_steps=True)._workers.processes == []


@pytest.mark.process
def test_one_worker_per_usable_core_is_started(make, pair, monkeypatch):
    monkeypatch.setattr(vector, "usable_cores", lambda: 2)
    assert len(make(pair, num_workers=None, caller_steps=True)._workers.processes) == 1


@pytest.mark.process
def test_two_environments_share_nothing(make, with_workers, pair):
    expected = play(with_workers)
    other = make(pair, max_episode_steps=20, all_infos=True)
    results = [with_workers.reset(seed=4)[0]]
    other.reset(seed=5)
    for actions, others in zip(random_actions(50), random_actions(50, seed=1), strict=True):
        with_workers.step_async(actions)
        other.step(others)
        results.append(with_workers.step_wait())
    other.close()
    assert_same(results, expected)
    with_workers.step(ZERO)


@pytest.mark.process
def test_workers_do_without_torch():
    """Its import takes longer than all else that a worker does before its first step."""
    code = "import sys, envs.workers.worker, envs.row; print(*sys.modules)"
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    imported = set(result.stdout.split())
    assert "envs.row" in imported
    unwanted = {"torch", "mtrl_fair", "envs.vector", "envs.evaluation", "envs.tasks", "envs.goals"}
    assert not unwanted & imported


def test_public_names_are_imported_when_they_are_asked_for():
    assert envs.make_vec is make_vec
    assert {getattr(envs, name).__name__ for name in envs.__all__} == set(envs.__all__)
    assert set(envs.__all__) <= set(dir(envs))
    with pytest.raises(AttributeError, match="module 'envs' has no attribute 'make_env'"):
        envs.make_env  # noqa: B018
