"""The vector environment in TorchRL's `GymWrapper`, as docs/environments.md describes it."""

import numpy as np
import pytest
from gymnasium.spaces import Box
from torchrl.envs import GymWrapper

from tests.envs.small_vector import PAIR

HORIZON = 5


@pytest.mark.slow
def test_torchrl_s_wrapper_gives_the_true_last_observations(make):
    # The rows end at different times: where all end at once, `rollout` resets them once more.
    options = {"goal_order": "sequential", "max_episode_steps": HORIZON, "stagger": True}
    venv, same = (make(PAIR, seed=3, **options) for _ in range(2))
    venv.observation_space = Box(-np.inf, np.inf, venv.observation_space.shape)
    env = GymWrapper(venv)
    rollout = env.rollout(2 * HORIZON + 1, break_when_any_done=False)
    ends = [row.flatten().nonzero().flatten().tolist() for row in rollout["next", "truncated"]]
    assert ends == [[2, 7], [4, 9]]

    observation, _ = same.reset()
    for step in range(2 * HORIZON + 1):
        assert (rollout["observation"][:, step].numpy() == observation).all()
        observation, reward, _, truncated, infos = same.step(rollout["action"][:, step].numpy())
        last = np.where(truncated[:, None], same.final_observation, observation)
        assert (rollout["next", "observation"][:, step].numpy() == last).all()
        assert (rollout["next", "reward"][:, step, 0].numpy() == reward.astype(np.float32)).all()
        if not truncated.any():  # else it has the reset's
            assert (rollout["next", "success"][:, step].numpy() == infos["success"]).all()
