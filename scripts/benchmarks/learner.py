"""The learner alone: an agent, and a replay that is full of random transitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from agents import MultiTaskSAC, Transition
from agents.cuda_graph import EAGER_UPDATES, make_updater
from configs import TrainConfig
from configs.build import build_replay
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE

STORED = 1_000
"""Random transitions per task in the replay of the learner."""


def make_update(config: TrainConfig, agent: MultiTaskSAC) -> Callable[[], object]:
    """An update of the agent, sampling included."""
    num_tasks = agent.num_tasks
    config = replace(config, agent=replace(config.agent, replay_capacity=STORED))
    replay = build_replay(config, num_tasks, agent.device)
    generator = np.random.default_rng(config.seed)
    for _ in range(STORED):
        replay.add(
            Transition(
                generator.normal(size=(num_tasks, OBSERVATION_SIZE)).astype(np.float32),
                generator.uniform(-1, 1, (num_tasks, ACTION_SIZE)).astype(np.float32),
                generator.uniform(0, 10, num_tasks),
                np.zeros(num_tasks, bool),
                generator.normal(size=(num_tasks, OBSERVATION_SIZE)).astype(np.float32),
            )
        )
    update = make_updater(agent, replay, config.agent.batch_size)
    for _ in range(EAGER_UPDATES + 1):  # on CUDA, the last one is the captured graph's first
        update()
    return update
