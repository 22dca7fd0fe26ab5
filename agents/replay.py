"""Replay memory [task, capacity, size] on the learner's device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.generators import restore_generator
from agents.transitions import Batch, Transition

REWARD_RATE = 1e-3
"""Weight of a new reward in the running mean and variance, as in mtrl's normaliser."""


class ReplayBuffer:
    """The latest transitions of every task, sampled uniformly, equally many per task.

    Rewards are stored raw. With `normalize_reward` they are divided by each task's running standard
    deviation when they are sampled, so that none in the buffer is stale.

    Args:
        capacity: transitions per task.
        seed: of the generator that samples.
    """

    def __init__(
        self,
        num_tasks: int,
        capacity: int,
        observation_size: int,
        action_size: int,
        *,
        normalize_reward: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(num_tasks, capacity, *shape, device=device)

        self.storage = Batch(
            observation=zeros(observation_size),
            action=zeros(action_size),
            reward=zeros(),
            terminated=zeros(),
            next_observation=zeros(observation_size),
        )
        self.capacity = capacity
        self.size = 0
        self.position = 0
        self.normalize_reward = normalize_reward
        self.reward_mean = torch.zeros(num_tasks, device=device)
        self.reward_variance = torch.ones(num_tasks, device=device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self._rows = torch.arange(num_tasks, device=device).unsqueeze(1)

    def add(self, transition: Transition) -> None:
        """Stores one transition per task, over the oldest ones once full."""
        for stored, new in zip(self.storage, transition, strict=True):
            stored[:, self.position] = torch.as_tensor(
                np.asarray(new, dtype=np.float32), device=stored.device
            )
        reward = self.storage.reward[:, self.position]
        self.reward_mean.lerp_(reward, REWARD_RATE)
        self.reward_variance.lerp_((reward - self.reward_mean) ** 2, REWARD_RATE)
        self.position = (self.position + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size: int) -> Batch:
        """`batch_size` transitions per task, with replacement."""
        if self.size == 0:
            raise ValueError("the replay buffer is empty: add transitions before sampling")
        columns = torch.randint(
            self.size,
            (len(self._rows), batch_size),
            generator=self.generator,
            device=self._rows.device,
        )
        batch = Batch(*(stored[self._rows, columns] for stored in self.storage))
        if self.normalize_reward:
            deviation = self.reward_variance.sqrt().clamp(min=1e-8)
            batch = batch._replace(reward=batch.reward / deviation.unsqueeze(1))
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Everything that sampling depends on; only the filled part of the storage."""
        return {
            "storage": {
                name: stored[:, : self.size].clone()
                for name, stored in self.storage._asdict().items()
            },
            "size": self.size,
            "position": self.position,
            "reward_mean": self.reward_mean.clone(),
            "reward_variance": self.reward_variance.clone(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if the state holds more than this buffer's capacity."""
        if state["size"] > self.capacity:
            raise ValueError(
                f"the saved replay holds {state['size']} transitions per task, but the capacity is"
                f" {self.capacity}"
            )
        self.size = state["size"]
        self.position = state["position"]
        for name, stored in self.storage._asdict().items():
            stored[:, : self.size] = state["storage"][name]
        self.reward_mean.copy_(state["reward_mean"])
        self.reward_variance.copy_(state["reward_variance"])
        restore_generator(self.generator, state["generator"])
