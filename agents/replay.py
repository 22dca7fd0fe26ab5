"""Replay of transitions, the same number for every task."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtrl_fair.runs.checkpoints import restore_generator


class Transition(NamedTuple):
    """One step of every task."""

    observation: Float[np.ndarray, "task obs"]
    action: Float[np.ndarray, "task act"]
    reward: Float[np.ndarray, " task"]
    terminated: Bool[np.ndarray, " task"]
    """The task itself ended; a time limit is no termination, so its value is bootstrapped."""
    next_observation: Float[np.ndarray, "task obs"]
    """What the action led to; at the end of an episode the final observation, not the reset one."""


class Batch(NamedTuple):
    """Transitions sampled for an update, the same number for every task."""

    observation: Float[Tensor, "task batch obs"]
    action: Float[Tensor, "task batch act"]
    reward: Float[Tensor, "task batch"]
    terminated: Float[Tensor, "task batch"]
    next_observation: Float[Tensor, "task batch obs"]


class ReplayBuffer:
    """Keeps the latest transitions of every task, and samples them uniformly.

    Every task gives equally many samples.

    Rewards are stored raw. With `normalize_reward` they are divided by each task's running standard
    deviation when they are sampled, so that none in the buffer is stale.

    Args:
        capacity: transitions per task.
        reward_rate: weight of a new reward in the running mean and variance. The first ones count
            alike, beside a variance of 1 as if it were of one reward.
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
        reward_rate: float = 1e-3,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        sizes = (observation_size, action_size, 1, 1, observation_size)
        self.rows = torch.zeros(num_tasks, capacity, sum(sizes), device=device)
        self.storage = _fields(self.rows, sizes)
        self.capacity = capacity
        self.size = 0
        self.added = 0
        self.position = 0
        self.normalize_reward = normalize_reward
        self.reward_rate = reward_rate
        # In float32, steps of a small rate would be lost to rounding.
        self.reward_mean = torch.zeros(num_tasks, dtype=torch.float64, device=device)
        self.reward_variance = torch.ones_like(self.reward_mean)
        self.generator = torch.Generator(device).manual_seed(seed)
        self._sizes = sizes
        self._first_rows = capacity * torch.arange(num_tasks, device=device).unsqueeze(1)
        # On the device, so that a captured graph sees it change.
        self._size = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, transition: Transition) -> None:
        """Stores one transition per task, over the oldest ones once full."""
        new = torch.from_numpy(
            np.concatenate(
                [np.asarray(part, np.float32).reshape(len(self.rows), -1) for part in transition], 1
            )
        )
        self.rows[:, self.position] = new.to(self.rows.device)
        reward = self.storage.reward[:, self.position].double()
        deviation = reward - self.reward_mean
        self.reward_mean.lerp_(reward, max(self.reward_rate, 1 / (self.added + 1)))
        product = deviation * (reward - self.reward_mean)  # Welford's
        self.reward_variance.lerp_(product, max(self.reward_rate, 1 / (self.added + 2)))
        self.added += 1
        self.position = (self.position + 1) % self.capacity
        self._resize(min(self.size + 1, self.capacity))

    def sample(self, batch_size: int) -> Batch:
        """Samples transitions of every task with replacement, without waiting for a device."""
        if self.size == 0:
            raise ValueError("the replay buffer is empty: add transitions before sampling")
        drawn = torch.rand(
            (len(self.rows), batch_size),
            generator=self.generator,
            dtype=torch.float64,
            device=self.rows.device,
        )
        columns = (drawn * self._size).long()
        rows = self.rows.flatten(0, 1).index_select(0, (self._first_rows + columns).flatten())
        batch = _fields(rows.view(*columns.shape, -1), self._sizes)
        if self.normalize_reward:
            batch = batch._replace(reward=batch.reward / self.reward_deviation.float().unsqueeze(1))
        return batch

    @property
    def reward_deviation(self) -> Tensor:
        """Returns the running standard deviation of each task's rewards, [task].

        With `normalize_reward`, sampled rewards are divided by it.
        """
        return self.reward_variance.sqrt().clamp(min=1e-8)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that sampling depends on, and only the filled part of the storage."""
        return {
            "storage": {
                name: stored[:, : self.size].clone()
                for name, stored in self.storage._asdict().items()
            },
            "size": self.size,
            "added": self.added,
            "position": self.position,
            "reward_mean": self.reward_mean.clone(),
            "reward_variance": self.reward_variance.clone(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if the state is of other tasks, holds more than this buffer's capacity,
        or comes from a full buffer of a smaller one, whose oldest transition is not its first."""
        if state["size"] > self.capacity:
            raise ValueError(
                f"the saved replay holds {state['size']} transitions per task, but the capacity is"
                f" {self.capacity}"
            )
        if state["position"] != state["size"] % self.capacity and state["size"] < self.capacity:
            raise ValueError(
                f"the saved replay was full with {state['size']} transitions per task, but the"
                f" capacity is {self.capacity}: expected the same"
            )
        for name, stored in self.storage._asdict().items():
            if state["storage"][name].shape != stored[:, : state["size"]].shape:
                raise ValueError(
                    f"the saved replay's {name} has shape {list(state['storage'][name].shape)},"
                    f" expected {list(stored[:, : state['size']].shape)}"
                )
        self._resize(state["size"])
        self.position = state["position"]
        self.added = state["added"]
        for name, stored in self.storage._asdict().items():
            stored[:, : self.size] = state["storage"][name]
        self.reward_mean.copy_(state["reward_mean"])
        self.reward_variance.copy_(state["reward_variance"])
        restore_generator(self.generator, state["generator"])

    def _resize(self, size: int) -> None:
        self.size = size
        self._size.fill_(size)


def _fields(rows: Tensor, sizes: tuple[int, ...]) -> Batch:
    """Rows [..., sum of sizes] as views by field."""
    observation, action, reward, terminated, next_observation = rows.split(sizes, -1)
    return Batch(observation, action, reward.squeeze(-1), terminated.squeeze(-1), next_observation)
