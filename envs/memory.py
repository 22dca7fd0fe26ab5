"""The arrays that the vector environment and its workers share."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np

OBSERVATION_SIZE = 39
ACTION_SIZE = 4
MAX_EPISODE_STEPS = 500
"""Meta-World's horizon; the package refuses to step further."""
INFO_KEYS = (
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
    "unscaled_reward",
)
"""What every Meta-World environment's info holds."""


class SharedArrays:
    """One row per environment in an anonymous memory file, which vanishes with its last process.

    Args:
        num_rows: of each array.
        descriptor: of a file from `open_memory`; the first process to map it gives it its size.
    """

    def __init__(self, num_rows: int, descriptor: int):
        layout: dict[str, tuple[type, tuple[int, ...]]] = {
            "reward": (np.float64, ()),
            "info": (np.float64, (len(INFO_KEYS),)),
            "low": (np.float64, (OBSERVATION_SIZE,)),
            "high": (np.float64, (OBSERVATION_SIZE,)),
            "goal": (np.int64, ()),
            "next_goal": (np.int64, ()),
            "elapsed": (np.int64, ()),
            "horizon": (np.int64, ()),
            "observation": (np.float32, (OBSERVATION_SIZE,)),
            "final_observation": (np.float32, (OBSERVATION_SIZE,)),
            "action": (np.float32, (ACTION_SIZE,)),
            "episode_actions": (np.float32, (MAX_EPISODE_STEPS, ACTION_SIZE)),
            "active": (np.bool_, ()),
            "terminated": (np.bool_, ()),
            "truncated": (np.bool_, ()),
            "success": (np.bool_, ()),
        }
        sizes = [
            num_rows * int(np.prod(shape)) * np.dtype(dtype).itemsize
            for dtype, shape in layout.values()
        ]
        if os.fstat(descriptor).st_size < sum(sizes):
            os.ftruncate(descriptor, sum(sizes))
        self._memory = mmap.mmap(descriptor, sum(sizes))
        offset = 0
        for (name, (dtype, shape)), size in zip(layout.items(), sizes, strict=True):
            count = size // np.dtype(dtype).itemsize
            array: np.ndarray = np.frombuffer(self._memory, dtype, count, offset).reshape(
                num_rows, *shape
            )
            setattr(self, name, array)
            offset += size

    reward: np.ndarray
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
    observation: np.ndarray
    final_observation: np.ndarray
    """The last observation of the row's last episode."""
    action: np.ndarray
    episode_actions: np.ndarray
    """The episode's, of which `elapsed` have been taken."""
    active: np.ndarray
    """Rows that the next command concerns."""
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray


def open_memory() -> int:
    """The descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mtrl-fair")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
