"""The length of the combined direction: an explicit choice, made differently by published codes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Scale = Literal["none", "tasks", "norm"]


def scale_factor(
    scale: Scale, num_tasks: int, direction_norm: Tensor, sum_norm: Tensor
) -> Tensor | float:
    """What to multiply a direction by.

    "none": 1, as solved. "tasks": K, as in the official supervised FairGrad code. "norm": whatever
    gives it the norm of the summed gradient, so that methods differ in direction only.

    Args:
        direction_norm: norm of the direction as solved, any shape.
        sum_norm: norm of the sum of the task gradients, same shape.
    """
    if scale == "none":
        return 1.0
    if scale == "tasks":
        return float(num_tasks)
    return sum_norm / direction_norm.where(direction_norm > 0, 1)
