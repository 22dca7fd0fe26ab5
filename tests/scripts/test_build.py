"""Every preset's parts fit together: an update on its agent, with samples from its replay."""

import numpy as np
import pytest
import torch

from agents import Transition
from configs import PRESETS
from envs.memory import ACTION_SIZE, OBSERVATION_SIZE
from scripts.build import build_agent, build_replay

K = 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_s_agent_updates(name):
    config, device = PRESETS[name], torch.device("cpu")
    agent, replay = (build(config, K, device) for build in (build_agent, build_replay))
    generator = np.random.default_rng(0)
    for _ in range(3):
        observation, following = generator.normal(size=(2, K, OBSERVATION_SIZE)).astype(np.float32)
        action, reward = agent.act(observation), generator.uniform(0, 10, K)
        assert action.shape == (K, ACTION_SIZE)
        replay.add(Transition(observation, action, reward, np.zeros(K, bool), following))
    metrics = agent.update(replay.sample(4))
    assert all(value.isfinite().all() for value in metrics.values())
    fair = config.combiner == "fairgrad"
    weights = metrics["fairness/weight/{task}/critic"]
    assert torch.equal(weights, torch.ones(K)) != fair
    assert agent.log_temperature.shape == ((K,) if config.agent.per_task_temperature else (1,))
