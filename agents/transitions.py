"""The data of one vector step and of one update, fields in time order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor


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
