"""The arrays that the vector environment and the rows in its workers share."""

from __future__ import annotations

import numpy as np

from envs.constants import ACTION_SIZE, INFO_KEYS, MAX_EPISODE_STEPS, OBSERVATION_SIZE
from envs.workers.memory import SharedArrays


def results_layout(num_rows: int) -> np.dtype:
    """Returns what a step gives, as one record, so that all of it is copied at once."""
    return np.dtype(
        [
            ("reward", np.float64, num_rows),
            ("observation", np.float32, (num_rows, OBSERVATION_SIZE)),
            ("terminated", np.bool_, num_rows),
            ("truncated", np.bool_, num_rows),
            ("success", np.bool_, num_rows),
            ("active", np.bool_, num_rows),
        ],
        align=True,
    )


class RowArrays(SharedArrays):
    """What the vector environment tells its rows, and what they tell it; see `SharedArrays`."""

    def __init__(self, num_rows: int, descriptor: int):
        super().__init__(num_rows, descriptor)
        self.results_bytes = self.bytes_of("results")

    @classmethod
    def layout(cls, num_rows: int) -> np.dtype:
        return np.dtype(
            [
                ("results", results_layout(num_rows)),
                ("final_observation", np.float32, (num_rows, OBSERVATION_SIZE)),
                ("final_return", np.float64, num_rows),
                ("final_elapsed", np.int64, num_rows),
                ("final_warnings", np.int64, num_rows),
                ("info", np.float64, (num_rows, len(INFO_KEYS))),
                ("low", np.float64, (num_rows, OBSERVATION_SIZE)),
                ("high", np.float64, (num_rows, OBSERVATION_SIZE)),
                ("goal", np.int64, num_rows),
                ("next_goal", np.int64, num_rows),
                ("elapsed", np.int64, num_rows),
                ("horizon", np.int64, num_rows),
                ("terminate_on_success", np.bool_, num_rows),
                ("action", np.float32, (num_rows, ACTION_SIZE)),
                ("episode_actions", np.float32, (num_rows, MAX_EPISODE_STEPS, ACTION_SIZE)),
            ],
            align=True,
        )

    def new_results(self) -> tuple[bytearray, np.ndarray]:
        """Returns memory for a copy of `results_bytes`, and its record of `results_layout`."""
        memory = bytearray(len(self.results_bytes))
        return memory, np.ndarray((), self.results.dtype, memory)

    results: np.ndarray
    """A record of the arrays of `results_layout`, which are also attributes of their own."""
    reward: np.ndarray
    observation: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
    final_observation: np.ndarray
    """The last observation of the row's last episode."""
    final_return: np.ndarray
    """The sum of rewards of the row's last episode."""
    final_elapsed: np.ndarray
    """The steps of the row's last episode."""
    final_warnings: np.ndarray
    """MuJoCo's warnings in the row's last episode."""
    info: np.ndarray
    """The step's `INFO_KEYS`, where they were asked for."""
    low: np.ndarray
    high: np.ndarray
    """The observation's bounds."""
    goal: np.ndarray
    """The goal that the row was last reset to."""
    next_goal: np.ndarray
    """The goal that the row's next reset takes."""
    elapsed: np.ndarray
    """Steps since the row's last reset."""
    horizon: np.ndarray
    """Steps at which the row's episode is truncated."""
    terminate_on_success: np.ndarray
    """Whether an episode of the row ends at its first success."""
    action: np.ndarray
    episode_actions: np.ndarray
    """The actions of the row's episode, of which `elapsed` have been taken."""
