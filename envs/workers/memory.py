"""The arrays that the vector environment and its workers share."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np

from envs.constants import ACTION_SIZE, INFO_KEYS, MAX_EPISODE_STEPS, OBSERVATION_SIZE


def results_layout(num_rows: int) -> np.dtype:
    """What a step gives, as one record, so that all of it is copied at once."""
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


class SharedArrays:
    """One row per environment in an anonymous memory file, which vanishes with its last process.

    Args:
        num_rows: of each array.
        descriptor: of a file from `open_memory`; the first process to map it gives it its size.
    """

    def __init__(self, num_rows: int, descriptor: int):
        layout = np.dtype(
            [
                ("results", results_layout(num_rows)),
                ("final_observation", np.float32, (num_rows, OBSERVATION_SIZE)),
                ("info", np.float64, (num_rows, len(INFO_KEYS))),
                ("low", np.float64, (num_rows, OBSERVATION_SIZE)),
                ("high", np.float64, (num_rows, OBSERVATION_SIZE)),
                ("goal", np.int64, num_rows),
                ("next_goal", np.int64, num_rows),
                ("elapsed", np.int64, num_rows),
                ("horizon", np.int64, num_rows),
                ("action", np.float32, (num_rows, ACTION_SIZE)),
                ("episode_actions", np.float32, (num_rows, MAX_EPISODE_STEPS, ACTION_SIZE)),
            ],
            align=True,
        )
        if os.fstat(descriptor).st_size < layout.itemsize:
            os.ftruncate(descriptor, layout.itemsize)
        mapped = mmap.mmap(descriptor, layout.itemsize)
        memory: np.ndarray = np.ndarray((), layout, mapped)
        assert layout.fields is not None
        start = layout.fields["results"][1]
        self.results_bytes = memoryview(mapped)[start : start + layout["results"].itemsize]
        for record in (memory, memory["results"]):
            for name in record.dtype.names or ():
                setattr(self, name, record[name])

    def new_results(self) -> tuple[bytearray, np.ndarray]:
        """Memory for a copy of `results_bytes`, and the record of `results_layout` in it."""
        memory = bytearray(len(self.results_bytes))
        return memory, np.ndarray((), self.results.dtype, memory)

    results: np.ndarray
    """A record of the arrays of `results_layout`, which are also attributes of their own."""
    reward: np.ndarray
    observation: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
    active: np.ndarray
    """Rows that the next command concerns."""
    final_observation: np.ndarray
    """The last observation of the row's last episode."""
    info: np.ndarray
    """The step's `INFO_KEYS`, where they were asked for."""
    low: np.ndarray
    high: np.ndarray
    goal: np.ndarray
    """The goal that the row was last reset to."""
    next_goal: np.ndarray
    """The goal that the row's next reset takes."""
    elapsed: np.ndarray
    """Steps since the row's last reset."""
    horizon: np.ndarray
    """Steps at which the row's episode is truncated."""
    action: np.ndarray
    episode_actions: np.ndarray
    """The episode's, of which `elapsed` have been taken."""


def open_memory() -> int:
    """The descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mtrl-fair")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
