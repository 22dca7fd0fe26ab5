"""The vector environment steps as the package's own environments do."""

import numpy as np
import pytest
from metaworld.env_dict import MT50_V3
from metaworld.policies import ENV_POLICY_MAP

from envs import TaskSet
from envs.constants import INFO_KEYS
from tests.envs.package_environment import Package
from tests.envs.small_vector import random_actions

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")


def assert_equals_the_package(
    venv, task_set, reward_version: str, steps: int, expert_noise: float
) -> np.ndarray:
    """All that a step returns, `==`, over episode ends; returns which tasks were solved.

    Under expert actions with noise, so that objects move and successes occur. The package's
    environments are stepped between `step_async` and `step_wait`.
    """
    package = [Package(*row, reward_version) for row in zip(*task_set, strict=True)]
    experts = [ENV_POLICY_MAP[name]() for name in task_set.names]
    noise = random_actions(steps, len(package))
    solved = np.zeros(len(package), bool)
    observation, _ = venv.reset()
    for step in range(steps):
        actions = np.zeros((len(package), 4), np.float32)
        for row, reference in enumerate(package):
            assert (observation[row] == reference.observation.astype(np.float32)).all()
            action = np.clip(experts[row].get_action(reference.observation), -1, 1)
            actions[row] = action + expert_noise * noise[step, row]
        venv.step_async(actions)
        expected = [
            reference.env.step(action) for reference, action in zip(package, actions, strict=True)
        ]
        observation, reward, terminated, truncated, infos = venv.step_wait()
        ends = (step + 1) % venv.max_episode_steps == 0
        assert truncated.all() == truncated.any() == ("final_obs" in infos) == ends
        assert not terminated.any()
        for row, reference in enumerate(package):
            reference.observation, expected_reward, _, at_horizon, info = expected[row]
            assert reward[row] == expected_reward
            assert truncated[row] == at_horizon or venv.max_episode_steps < 500
            assert sorted(info) == sorted(INFO_KEYS)
            assert all(infos[key][row] == info[key] for key in INFO_KEYS)
            if ends:
                final = reference.observation.astype(np.float32)
                assert (infos["final_obs"][row] == final).all()
                reference.reset()
        solved |= infos["success"]
    return solved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reward_version", "steps", "episode_steps", "workers"),
    [
        pytest.param("v2", 210, 100, {"num_workers": 2}, marks=pytest.mark.process),
        ("v1", 110, 100, {}),
        pytest.param("v2", 450, 150, {"num_workers": 2}, marks=pytest.mark.long),
        pytest.param("v1", 510, 500, {}, marks=pytest.mark.long),
    ],
)
def test_equals_the_package_on_all_ten_tasks(
    make, mt10, reward_version, steps, episode_steps, workers
):
    """With v2, the first goal comes twice, the second time from a snapshot."""
    goals = mt10.first_goals(2)
    options = {"goal_order": "sequential", "all_infos": True, "max_episode_steps": episode_steps}
    venv = make(goals, reward_version=reward_version, **options, **workers)
    solved = assert_equals_the_package(venv, goals, reward_version, steps, expert_noise=0.3)
    assert solved.sum() >= 7  # or the flag was hardly tested


@pytest.mark.slow
def test_equals_the_package_at_its_own_horizon(make, pair):
    goals = pair.first_goals(2)
    venv = make(goals, goal_order="sequential", all_infos=True)
    assert_equals_the_package(venv, goals, "v2", 510, expert_noise=0.3)


@pytest.mark.long
def test_equals_the_package_on_all_fifty_tasks(make):
    goals = TaskSet.make("mt50", seed=0).first_goals(2)
    assert goals.names == tuple(MT50_V3)
    venv = make(goals, goal_order="sequential", all_infos=True, max_episode_steps=100)
    solved = assert_equals_the_package(venv, goals, "v2", 350, expert_noise=0.0)
    assert solved.sum() >= 30
