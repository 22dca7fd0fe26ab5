"""Counting of return and success of training episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


class TrainingEpisodes:
    """Counts the training episodes of K tasks.

    It holds sums over the episodes under way, and over those that ended since the last `take`.
    """

    def __init__(self, num_tasks: int):
        self.episode_return = np.zeros(num_tasks)
        self.episode_success = np.zeros(num_tasks, bool)
        self.ended_episodes = np.zeros(num_tasks)
        self.ended_return = np.zeros(num_tasks)
        self.ended_success = np.zeros(num_tasks)

    def add(
        self,
        reward: Float[np.ndarray, "task"],
        success: Bool[np.ndarray, "task"],
        ended: Bool[np.ndarray, "task"],
    ) -> None:
        """Adds one vector step; an episode succeeds if any of its steps does."""
        self.episode_return += reward
        self.episode_success |= success
        self.ended_episodes += ended
        self.ended_return += np.where(ended, self.episode_return, 0)
        self.ended_success += ended & self.episode_success
        self.episode_return[ended] = 0
        self.episode_success[ended] = False

    def take(self, task_names: tuple[str, ...]) -> dict[str, float]:
        """Returns the mean return and success rate of the episodes that ended since the last call.

        Tasks without such an episode are left out.
        """
        metrics = {}
        for task in np.flatnonzero(self.ended_episodes):
            name, episodes = task_names[task], self.ended_episodes[task]
            metrics[f"train/{name}_return"] = float(self.ended_return[task] / episodes)
            metrics[f"train/{name}_success_rate"] = float(self.ended_success[task] / episodes)
        for sums in (self.ended_episodes, self.ended_return, self.ended_success):
            sums[:] = 0
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Returns all counts."""
        return {name: values.copy() for name, values in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from the counts of a state."""
        for name, values in vars(self).items():
            values[:] = np.asarray(state[name])
