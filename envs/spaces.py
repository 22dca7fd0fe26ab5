"""The spaces of a vector environment."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float

from envs.constants import ACTION_SIZE


def observation_spaces(
    low: Float[np.ndarray, "row obs"], high: Float[np.ndarray, "row obs"]
) -> tuple[Box, Box]:
    """Returns the space of all rows, each with its own bounds, and that of a single row, whose
    bounds hold for every row."""
    low, high = low.astype(np.float32), high.astype(np.float32)
    return Box(low, high, dtype=np.float32), Box(low.min(0), high.max(0), dtype=np.float32)


def action_spaces(num_rows: int) -> tuple[Box, Box]:
    """Returns the space of all rows and that of a single row."""
    return (
        Box(-1.0, 1.0, (num_rows, ACTION_SIZE), np.float32),
        Box(-1.0, 1.0, (ACTION_SIZE,), np.float32),
    )
