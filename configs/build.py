"""The parts of a run, made from its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from agents import MultiTaskSAC, ReplayBuffer
from configs.config import TrainConfig
from envs import MetaWorldVectorEnv, TaskSet, make_vec
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE
from mtrl_fair import Combiner
from mtrl_fair.combiners.registry import make_combiner_from_settings

PARTS = ("agent", "replay", "critic", "actor", "temperature", "exploration")
"""Parts that draw from a generator of their own. A new one goes to the end, because the order
decides the seeds: any other place would change the numbers of every run."""


def part_seed(config: TrainConfig, part: str) -> int:
    """Returns the seed of a part.

    If all parts had the run's seed, their generators would draw the same numbers.
    """
    sequence = np.random.SeedSequence(config.seed, spawn_key=(PARTS.index(part),))
    return int(sequence.generate_state(1)[0])


def build_task_set(config: TrainConfig) -> TaskSet:
    """Returns the tasks and their goals, which training and evaluation share."""
    task_set = TaskSet.make(config.tasks, config.seed, config.environment.goals_of)
    return task_set.first_goals(config.environment.num_goals)


def build_envs(
    config: TrainConfig, task_set: TaskSet, device: torch.device, *, evaluation: bool = False
) -> MetaWorldVectorEnv:
    """Makes the training environments, or evaluation ones, which take the goals in turn and end an
    episode at success.

    The process of the learner steps a share of the tasks, unless it updates meanwhile.
    """
    return make_vec(
        task_set,
        config.seed,
        config.environment.reward_version,
        config.environment.num_workers,
        max_episode_steps=config.environment.max_episode_steps,
        caller_steps=evaluation or not overlaps(config, device),
        stagger=config.environment.stagger and not evaluation,
        goal_order="sequential" if evaluation else "random",
        terminate_on_success=evaluation,
    )


def overlaps(config: TrainConfig, device: torch.device) -> bool:
    """Returns whether updates run while the environments step."""
    overlap = config.environment.overlap
    return overlap == "on" or (overlap == "auto" and device.type == "cuda")


def resolve_overlap(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Returns the configuration with "auto" replaced by its meaning on the device.

    So a run that is resumed on another device goes on as it was.
    """
    overlap: Literal["on", "off"] = "on" if overlaps(config, device) else "off"
    return replace(config, environment=replace(config.environment, overlap=overlap))


def build_agent(config: TrainConfig, num_tasks: int, device: torch.device) -> MultiTaskSAC:
    """Makes the agent with its combiners."""
    temperature_combiner = (
        build_combiner(config, num_tasks, "temperature")
        if "temperature" in config.combined_networks()
        else None
    )
    return MultiTaskSAC(
        OBSERVATION_SIZE,
        ACTION_SIZE,
        num_tasks,
        build_combiner(config, num_tasks, "critic"),
        build_combiner(config, num_tasks, "actor"),
        temperature_combiner,
        architecture=config.architecture,
        config=config.agent,
        precision=config.precision,
        seed=part_seed(config, "agent"),
        device=device,
    )


def build_combiner(config: TrainConfig, num_tasks: int, network: str) -> Combiner:
    """Makes the combiner of "critic", "actor" or "temperature" from the settings that it takes."""
    settings = {
        # First, so that no free option can replace a setting that has a flag.
        **config.combining.options,
        **config.fairgrad_options(),
        "scale": config.combining.scale,
        "weighted_heads": config.combining.weighted_heads,
        # The critic's losses are squares.
        "min_loss": 0.0 if network == "critic" else config.combining.actor_min_loss,
        "seed": part_seed(config, network),
    }
    return make_combiner_from_settings(config.combiner_of(network), num_tasks, settings)


def build_replay(config: TrainConfig, num_tasks: int, device: torch.device) -> ReplayBuffer:
    """Makes an empty replay buffer."""
    return ReplayBuffer(
        num_tasks,
        config.agent.replay_capacity,
        OBSERVATION_SIZE,
        ACTION_SIZE,
        normalize_reward=config.agent.normalize_reward,
        reward_rate=config.agent.reward_rate,
        seed=part_seed(config, "replay"),
        device=device,
    )
