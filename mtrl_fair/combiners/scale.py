"""The length of the combined direction: an explicit choice, made differently by published codes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mtrl_fair.combiners.outputs import Aggregate
from mtrl_fair.gradients.gramian import at_least_float32, total_norm

Scale = Literal["none", "tasks", "norm"]


def scale_factor(
    scale: Scale,
    max_norm: float | None,
    num_tasks: int,
    direction_norm: Tensor,
    sum_norm: Tensor,
) -> Tensor:
    """Returns what to multiply a direction by.

    "none": 1, as solved. "tasks": K, as in the official supervised FairGrad code. "norm": whatever
    gives it the norm of the summed gradient, so that methods differ in direction only. If the
    result is longer than `max_norm`, it is shortened to that.

    >>> import torch
    >>> norm, norm_of_sum = torch.tensor(2.0), torch.tensor(3.0)
    >>> [scale_factor(scale, None, 4, norm, norm_of_sum).item() for scale in ("tasks", "norm")]
    [4.0, 1.5]
    >>> scale_factor("tasks", 1.0, 4, norm, norm_of_sum).item()  # the direction has norm 1 then
    0.5

    Args:
        direction_norm: norm of the direction as solved, any shape.
        sum_norm: norm of the sum of the task gradients, same shape; used by "norm" only.

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


def scaled_aggregate(
    solved: Aggregate, rows: dict[str, Tensor], scale: Scale, max_norm: float | None
) -> tuple[Aggregate, Tensor]:
    """Multiplies direction and weights by `scale_factor`.

    Args:
        rows: the task gradients by name, [K, P], whose sum decides with "norm".

    Returns:
        the scaled aggregate, and the norm [] of its direction.
    """
    # Not from the Gramian: w' A w cancels where gradients conflict strongly.
    norm = norm_of_sum = total_norm(solved.direction.values())
    if scale == "norm":
        norm_of_sum = total_norm(at_least_float32(row).sum(0) for row in rows.values())
    factor = scale_factor(scale, max_norm, len(solved.weights), norm, norm_of_sum)
    direction = solved.direction
    if scale != "none" or max_norm is not None:
        direction = {name: part * factor for name, part in direction.items()}
    return Aggregate(direction, solved.weights * factor, solved.residual), norm * factor
