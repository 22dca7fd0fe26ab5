"""Evaluation: every goal once, success at any step."""

import contextlib

import numpy as np
import pytest
from metaworld.policies import ENV_POLICY_MAP

from envs import TaskSet, evaluate
from envs.constants import NO_SUCCESS_WITH_V1
from envs.evaluation import Evaluation
from tests.envs.small_vector import make_here

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")

TASKS = ("drawer-close-v3", "reach-v3", "push-v3")
EPISODES = 6


@pytest.fixture(scope="module")
def task_set() -> TaskSet:
    return TaskSet.make(TASKS, seed=0)


@pytest.fixture(scope="module")
def venv(task_set):
    venv = make_here(
        task_set, goal_order="sequential", terminate_on_success=True, max_episode_steps=150
    )
    yield venv
    venv.close()


def mixed_policy(goals: list):
    """Experts for the first two tasks, standing still in the third; notes reach's goals."""
    experts = [ENV_POLICY_MAP[name]() for name in TASKS[:2]]

    def act(observation: np.ndarray) -> np.ndarray:
        goals.append(tuple(observation[1, 36:]))
        action = np.zeros((3, 4), np.float32)
        for row, expert in enumerate(experts):
            action[row] = np.clip(expert.get_action(observation[row].astype(np.float64)), -1, 1)
        return action

    return act


def test_every_goal_once_until_success(venv):
    goals: list[tuple[float, ...]] = []
    result = evaluate(mixed_policy(goals), venv, EPISODES)
    assert result.task_names == TASKS
    assert result.successes.shape == (3, EPISODES)
    assert result.success.tolist() == [1, 1, 0]
    assert result.mean_success == pytest.approx(2 / 3)
    assert (result.lengths[:2] < 150).all()  # they end at the first success
    assert (result.lengths[2] == 150).all()
    assert (result.returns[0] != 0).all()
    reach_goals = list(dict.fromkeys(goals[: result.lengths[1].sum()]))
    assert len(reach_goals) == EPISODES
    assert len(goals) == result.lengths.sum(1).max()


def test_returns_and_lengths_are_those_of_the_steps(venv, monkeypatch):
    steps = []

    def recorded(action, step=venv.step):
        result = step(action)
        steps.append((result[1].copy(), result[2] | result[3]))
        return result

    monkeypatch.setattr(venv, "step", recorded)
    result = evaluate(mixed_policy([]), venv, 2)
    rewards, ends = (np.stack(values) for values in zip(*steps, strict=True))
    for row in range(3):
        first, second = np.flatnonzero(ends[:, row])[:2] + 1
        assert result.lengths[row].tolist() == [first, second - first]
        parts = rewards[:first, row].sum(), rewards[first:second, row].sum()
        assert result.returns[row].tolist() == pytest.approx(parts)


def test_repeats_exactly(venv):
    first, second = (evaluate(mixed_policy([]), venv, 2) for _ in range(2))
    assert (first.returns == second.returns).all()
    assert (first.lengths == second.lengths).all()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tasks_without_success_under_the_v1_reward_have_it_under_v2(version):
    task_set = TaskSet.make(NO_SUCCESS_WITH_V1, seed=0)
    options = {"goal_order": "sequential", "terminate_on_success": True}
    experts = [ENV_POLICY_MAP[name]() for name in NO_SUCCESS_WITH_V1]

    def act(observation: np.ndarray) -> np.ndarray:
        pairs = zip(experts, observation.astype(np.float64), strict=True)
        return np.stack([expert.get_action(row).clip(-1, 1) for expert, row in pairs])

    with contextlib.closing(make_here(task_set, reward_version=version, **options)) as venv:
        assert evaluate(act, venv, 2).success.tolist() == [float(version == "v2")] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "episodes"), [(2, 5), (4, 3)])
def test_rows_of_one_task_share_its_goals_and_give_one_result(make, task_set, venv, rows, episodes):
    """To the last digit; with more rows than episodes, too."""
    several = make(
        task_set,
        envs_per_task=rows,
        goal_order="sequential",
        terminate_on_success=True,
        max_episode_steps=150,
    )
    policy, shares = mixed_policy([]), []

    def act(observation: np.ndarray) -> np.ndarray:
        per_task = observation.reshape(3, rows, 39).swapaxes(0, 1)
        return np.stack([policy(each) for each in per_task], 1).reshape(3 * rows, 4)

    result = evaluate(act, several, episodes, on_progress=shares.append)
    expected = evaluate(policy, venv, episodes)
    assert result.task_names == expected.task_names == TASKS
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for name in ("successes", "returns", "lengths"):
        assert (getattr(result, name) == getattr(expected, name)).all()


def test_rows_of_one_name_with_different_goals_are_refused(make, task_set):
    first, second = task_set.goals[0][:1], task_set.goals[0][1:2]
    mixed = TaskSet((TASKS[0],) * 2, (first, second))
    venv = make(mixed, goal_order="sequential", terminate_on_success=True)
    with pytest.raises(ValueError, match="rows of one task have different goals"):
        evaluate(lambda observation: observation, venv, 1)


def test_can_be_stopped(venv):
    assert evaluate(mixed_policy([]), venv, 2, should_stop=lambda: True) is None


def test_statistics_by_hand():
    successes = np.array([[True, True, True, False], [False] * 4])
    result = Evaluation(("a", "b"), successes, np.ones((2, 4)), np.ones((2, 4), np.int64))
    assert result.success.tolist() == [0.75, 0]
    assert result.standard_error.tolist() == pytest.approx([(0.75 * 0.25 / 4) ** 0.5, 0])
    assert result.mean_success == 0.375


def test_bad_requests_are_refused(venv, task_set):
    with pytest.raises(ValueError, match="51 evaluation episodes per task were asked for"):
        evaluate(lambda observation: observation, venv, 51)
    with pytest.raises(ValueError, match="there are 50"):
        evaluate(lambda observation: observation, venv, 0)
    training = make_here(task_set)
    try:
        with pytest.raises(ValueError, match="goal_order='sequential'"):
            evaluate(lambda observation: observation, training, 1)
    finally:
        training.close()
