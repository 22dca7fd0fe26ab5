"""Soft actor-critic for several Meta-World tasks in one file: plain means over all samples.

python scripts/integrations/sac_single_file.py [--tasks NAME ...] [--steps N] [--seed N]

`sac_single_file_fairgrad.py` is this file with FairGrad in it.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs import make_vec
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE
from scripts.integrations.arguments import AgentArguments, read

DISCOUNT = 0.99
LEARNING_RATE = 3e-4
TARGET_RATE = 0.005
REPLAY_CAPACITY = 1_000_000
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class Batch(NamedTuple):
    """Transitions, one per row; observations end with the one-hot task id."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_observation: Tensor


class Replay:
    """The most recent transitions of all tasks."""

    def __init__(self, capacity: int, observation_size: int, action_size: int):
        sizes = [[observation_size], [action_size], [], [], [observation_size]]
        self.stored = Batch(*(torch.zeros(capacity, *size) for size in sizes))
        self.capacity, self.added = capacity, 0

    def add(self, *transitions: np.ndarray) -> None:
        """Adds one row per task, in the order of `Batch`."""
        rows = (self.added + torch.arange(len(transitions[0]))) % self.capacity
        for stored, new in zip(self.stored, transitions, strict=True):
            stored[rows] = torch.as_tensor(new, dtype=stored.dtype)
        self.added += len(rows)

    def sample(self, size: int, device: torch.device) -> Batch:
        """Uniformly drawn, with replacement."""
        rows = torch.randint(min(self.added, self.capacity), (size,))
        return Batch(*(stored[rows].to(device) for stored in self.stored))


class Actor(nn.Module):
    """A Gaussian squashed by tanh."""

    def __init__(self, observation_size: int, action_size: int, width: int):
        super().__init__()
        self.layers = perceptron(observation_size, 2 * action_size, width)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """A sampled action [batch, act] and its log probability [batch]."""
        mean, log_std = self.layers(observation).chunk(2, dim=-1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.randn_like(mean)
        pre_tanh = mean + log_std.exp() * noise
        log_prob = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2) in a form that does not overflow
        log_derivative = 2 * (math.log(2) - pre_tanh - functional.softplus(-2 * pre_tanh))
        return torch.tanh(pre_tanh), (log_prob - log_derivative).sum(-1)


class Critic(nn.Module):
    """Two Q functions."""

    def __init__(self, observation_size: int, action_size: int, width: int):
        super().__init__()
        self.twins = nn.ModuleList(
            perceptron(observation_size + action_size, 1, width) for _ in range(2)
        )

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """[twin, batch]"""
        features = torch.cat([observation, action], dim=-1)
        return torch.stack([twin(features).squeeze(-1) for twin in self.twins])


def perceptron(in_size: int, out_size: int, width: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        *(nn.Linear(in_size, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, out_size),
    )


def train(arguments: AgentArguments) -> tuple[Actor, Critic, Replay]:
    """Trains on every task at once and prints a line whenever all episodes end."""
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    envs = make_vec(arguments.tasks, seed=arguments.seed, max_episode_steps=arguments.episode_steps)
    num_tasks = envs.num_envs
    one_hot = np.eye(num_tasks, dtype=np.float32)
    feature_size = OBSERVATION_SIZE + num_tasks

    actor = Actor(feature_size, ACTION_SIZE, arguments.width).to(device)
    critic = Critic(feature_size, ACTION_SIZE, arguments.width).to(device)
    target_critic = copy.deepcopy(critic).requires_grad_(False)
    log_temperature = nn.Parameter(torch.zeros((), device=device))
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=LEARNING_RATE)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=LEARNING_RATE)
    temperature_optimizer = torch.optim.Adam([log_temperature], lr=LEARNING_RATE)
    replay = Replay(REPLAY_CAPACITY, feature_size, ACTION_SIZE)

    with contextlib.closing(envs):
        envs.action_space.seed(arguments.seed)
        observation, _ = envs.reset(seed=arguments.seed)
        succeeded = np.zeros(num_tasks, bool)
        for step in range(1, arguments.steps + 1):
            features = np.concatenate([observation, one_hot], axis=1)
            if step <= arguments.learning_starts:
                action = envs.action_space.sample()
            else:
                with torch.no_grad():
                    action = actor(torch.as_tensor(features, device=device))[0].cpu().numpy()
            observation, reward, terminated, truncated, infos = envs.step(action)
            succeeded |= infos["success"]
            # Where an episode ended, `observation` is the next one's first already.
            ended = terminated | truncated
            last = np.where(ended[:, None], envs.final_observation, observation)
            next_features = np.concatenate([last, one_hot], axis=1)
            replay.add(features, action, reward, terminated, next_features)
            if step <= arguments.learning_starts:
                continue

            batch = replay.sample(arguments.batch_size, device)
            temperature = log_temperature.detach().exp()
            with torch.no_grad():
                next_action, next_log_prob = actor(batch.next_observation)
                next_q = target_critic(batch.next_observation, next_action).amin(0)
                next_value = next_q - temperature * next_log_prob
                target = batch.reward + DISCOUNT * (1 - batch.terminated) * next_value
            td_error = critic(batch.observation, batch.action) - target
            critic_loss = td_error.square().sum(0).mean()
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()

            new_action, log_prob = actor(batch.observation)
            q = critic(batch.observation, new_action).amin(0)
            actor_loss = (temperature * log_prob - q).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()

            entropy_gap = (log_prob.detach() - ACTION_SIZE).mean()  # target entropy -4
            temperature_optimizer.zero_grad()
            (-log_temperature * entropy_gap).backward()
            temperature_optimizer.step()

            with torch.no_grad():
                for slow, fast in zip(target_critic.parameters(), critic.parameters(), strict=True):
                    slow.lerp_(fast, TARGET_RATE)

            if ended.all():
                losses = {"critic": critic_loss, "actor": actor_loss}
                shown = "  ".join(f"{k} loss {v.numpy(force=True)}" for k, v in losses.items())
                print(f"step {step}  success {succeeded.astype(int)}  {shown}")
                succeeded[:] = False
    return actor, critic, replay


if __name__ == "__main__":
    train(read(sys.argv[1:], AgentArguments(), description=__doc__))
