"""The length of the combined direction: an explicit choice, made differently by published codes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Scale = Literal["none", "tasks", "norm"]


def scale_factor(
    scale: Scale,
    max_norm: float | None,
    num_tasks: int,
    direction_norm: Tensor,
    sum_norm: Tensor,
) -> Tensor:
    """What to multiply a direction by.

    "none": 1, as solved. "tasks": K, as in the official supervised FairGrad code. "norm": whatever
    gives it the norm of the summed gradient, so that methods differ in direction only. If the
    result is longer than `max_norm`, it is shortened to that.

    Args:
        direction_norm: norm of the direction as solved, any shape.
        sum_norm: norm of the sum of the task gradients, same shape.

    Returns:
        of the same shape.
    """
    positive = direction_norm.where(direction_norm > 0, 1)
    factor = {
        "none": positive.new_ones(positive.shape),
        "tasks": positive.new_full(positive.shape, num_tasks),
        "norm": sum_norm / positive,
    }[scale]
    if max_norm is None:
        return factor
    return factor.minimum(max_norm / positive)
