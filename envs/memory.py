"""The arrays that the vector environment and its workers share."""

from __future__ import annotations

import mmap
import os

import numpy as np

OBSERVATION_SIZE = 39
ACTION_SIZE = 4


class SharedArrays:
    """One row per task in an anonymous memory file, which vanishes with its last process.

    Args:
        num_rows: K.
        descriptor: an open file; the first process to map it gives it its size.
    """

    def __init__(self, num_rows: int, descriptor: int):
        layout: dict[str, tuple[type, tuple[int, ...]]] = {
            "reward": (np.float64, ()),
            "low": (np.float64, (OBSERVATION_SIZE,)),
            "high": (np.float64, (OBSERVATION_SIZE,)),
            "next_goal": (np.int64, ()),
            "elapsed": (np.int64, ()),
            "observation": (np.float32, (OBSERVATION_SIZE,)),
            "final_observation": (np.float32, (OBSERVATION_SIZE,)),
            "action": (np.float32, (ACTION_SIZE,)),
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
    low: np.ndarray
    high: np.ndarray
    next_goal: np.ndarray
    """The goal that the row's next reset takes."""
    elapsed: np.ndarray
    """Steps since the row's last reset."""
    observation: np.ndarray
    final_observation: np.ndarray
    """The last observation of the row's last episode."""
    action: np.ndarray
    active: np.ndarray
    """Rows that the next command concerns."""
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
