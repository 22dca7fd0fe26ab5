"""Episodes of the fast environments against the package's own: every number `==`.

The ordinary suite plays parts of episodes of MT10's tasks, long enough for the experts to succeed;
`pytest -m long` plays whole ones of all fifty.
"""

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from envs import TaskSet
from envs.constants import INFO_KEYS
from envs.engine.environment import fast_class
from envs.engine.snapshots import SnapshotResets
from tests.envs.policies import Constant, Expert, Random

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")


def assert_equal_episode(package, fast, policy, steps: int) -> bool:
    """The beginning of an episode of both, each already reset; returns whether there was a
    success."""
    observation = np.concatenate([package._prev_obs, package._prev_obs, package._get_pos_goal()])
    succeeded = False
    for step in range(steps):
        action = policy(observation).astype(np.float32)
        expected, result = package.step(action.copy()), fast.step(action.copy())
        observation = expected[0]
        assert (result[0] == observation).all(), step
        assert result[0].dtype == observation.dtype == np.float64
        assert result[1:4] == expected[1:4], step
        assert result[4] == expected[4], step
        assert sorted(result[4]) == sorted(INFO_KEYS)
        succeeded |= bool(result[4]["success"])
    return succeeded


def assert_equal_on(name: str, reward_version: str, goals, plan) -> bool:
    """Consecutive episodes of (goal, policy class, steps); the package resets fully each time, ours
    from a snapshot where the goal was seen before."""
    package = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
    fast = fast_class(name)(reward_function_version=reward_version)
    resets = SnapshotResets(fast)
    succeeded = False
    for episode, (goal, policy_class, steps) in enumerate(plan):
        package.set_task(goals[goal])
        expected, _ = package.reset()
        assert (resets.reset(goal, goals[goal]) == expected).all()
        succeeded |= assert_equal_episode(package, fast, policy_class(name, episode), steps)
        assert fast._is_current  # or its shortcut was not tested
    return succeeded


@pytest.mark.slow
@pytest.mark.parametrize("reward_version", ["v2", "v1"])
@pytest.mark.parametrize("name", MT10_V3)
def test_an_mt10_task_equals_the_package_s(mt10, name, reward_version):
    plan = [(0, Random, 60), (1, Expert, 200), (0, Constant, 80), (1, Expert, 100)]
    goals = mt10.goals[mt10.names.index(name)]
    succeeded = assert_equal_on(name, reward_version, goals, plan)
    # The v1 reward of this task measures from the wrong end of the peg.
    unreachable = (name, reward_version) == ("peg-insert-side-v3", "v1")
    assert succeeded != unreachable  # or the flag was hardly tested


def test_an_episode_ends_where_the_package_s_does(mt10):
    """At 500 steps: the last flag is compared, too."""
    goals = mt10.goals[mt10.names.index("drawer-close-v3")]
    assert_equal_on("drawer-close-v3", "v2", goals, [(0, Random, 500), (0, Random, 500)])


@pytest.mark.long
@pytest.mark.parametrize("reward_version", ["v2", "v1"])
@pytest.mark.parametrize("name", ALL_V3_ENVIRONMENTS)
def test_every_task_equals_the_package_s(name, reward_version):
    """Nine episodes over three goals, six of them after a snapshot reset."""
    policies = (Random, Constant, Expert)
    plan = [(2 * episode % 3, policies[episode // 3], 500) for episode in range(9)]
    goals = TaskSet.make(name, seed=0).goals[0]
    assert_equal_on(name, reward_version, goals, plan)
