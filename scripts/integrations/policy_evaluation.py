"""A small problem on real Meta-World data: a critic that evaluates the uniformly random policy.

Per-task temporal-difference losses of one network, for examples that are about the update alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from envs import make_vec
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE

DISCOUNT = 0.9  # a short horizon, so that a few hundred updates show something


class Transitions(NamedTuple):
    """Steps of the random policy; observations end with the one-hot task id."""

    observation: Tensor
    """[task, step, obs]"""
    action: Tensor
    """[task, step, act]"""
    reward: Tensor
    """[task, step]"""
    terminated: Tensor
    """[task, step]"""
    next_observation: Tensor
    """[task, step, obs], an episode's own last observation where it ended."""

    def sample(self, batch_per_task: int) -> Transitions:
        """The same random steps of every task, [task, batch, …]."""
        steps = torch.randint(self.reward.shape[1], (batch_per_task,), device=self.reward.device)
        return Transitions(*(field[:, steps] for field in self))


def collect(tasks: Sequence[str], steps: int, seed: int, episode_steps: int) -> Transitions:
    """Random actions in Meta-World."""
    rows = []
    with contextlib.closing(make_vec(tasks, seed=seed, max_episode_steps=episode_steps)) as envs:
        one_hot = np.eye(envs.num_envs, dtype=np.float32)
        envs.action_space.seed(seed)
        observation, _ = envs.reset(seed=seed)
        for _ in range(steps):
            features = np.concatenate([observation, one_hot], axis=1)
            action = envs.action_space.sample()
            observation, reward, terminated, truncated, _ = envs.step(action)
            ended = terminated | truncated
            last = np.where(ended[:, None], envs.final_observation, observation)
            next_features = np.concatenate([last, one_hot], axis=1)
            rows.append((features, action, reward, terminated, next_features))
    fields = [np.stack(field, axis=1) for field in zip(*rows, strict=True)]
    return Transitions(*(torch.as_tensor(field, dtype=torch.float32) for field in fields))


def make_critic(num_tasks: int, width: int) -> nn.Sequential:
    """Q(s, a) from features [..., obs + task + act] to [..., 1]."""
    return nn.Sequential(
        *(nn.Linear(OBSERVATION_SIZE + num_tasks + ACTION_SIZE, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 1),
    )


def td_losses(critic: nn.Module, batch: Transitions) -> Tensor:
    """The mean squared TD error of each task, [task]; no gradient flows through the target."""
    q = critic(torch.cat([batch.observation, batch.action], -1)).squeeze(-1)
    with torch.no_grad():
        next_action = 2 * torch.rand_like(batch.action) - 1
        next_q = critic(torch.cat([batch.next_observation, next_action], -1)).squeeze(-1)
        target = batch.reward + DISCOUNT * (1 - batch.terminated) * next_q
    return (q.float() - target.float()).square().mean(1)
