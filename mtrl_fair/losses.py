"""Losses by task: the mean of each task in a mixed batch, and the alpha-fair transformation."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor


def task_mean(per_sample_loss: Tensor, task_ids: Tensor, num_tasks: int) -> tuple[Tensor, Tensor]:
    """Returns the mean loss of each task in a batch whose samples come from several tasks.

    >>> losses, task_ids = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])
    >>> task_mean(losses, task_ids, num_tasks=3)
    (tensor([2., 0., 5.]), tensor([ True, False,  True]))

    Args:
        per_sample_loss: [N].
        task_ids: [N] integers in [0, num_tasks).
        num_tasks: K.

    Returns:
        task losses [K], at least float32, and present [K] (bool). A task without a sample has loss
        0; its gradient is 0 too, and combiners give it weight 0.

    Raises:
        ValueError: shapes that differ, ids that are no integers, or (on CPU) an id that is out of
            range.
    """
    if per_sample_loss.ndim != 1 or per_sample_loss.shape != task_ids.shape:
        raise ValueError(
            f"per_sample_loss {list(per_sample_loss.shape)} and task_ids {list(task_ids.shape)}"
            " must both have shape [N]"
        )
    if task_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"task_ids have dtype {task_ids.dtype}, expected int64 or int32")
    if (
        not task_ids.is_cuda
        and len(task_ids)
        and not 0 <= task_ids.min() <= task_ids.max() < num_tasks
    ):
        raise ValueError(
            f"task_ids span {int(task_ids.min())} to {int(task_ids.max())}, expected ids from 0 to"
            f" {num_tasks - 1}"
        )
    dtype = torch.promote_types(per_sample_loss.dtype, torch.float32)  # half would overflow
    totals = per_sample_loss.new_zeros(num_tasks, dtype=dtype).index_add(
        0, task_ids, per_sample_loss.to(dtype)
    )
    counts = totals.new_zeros(num_tasks).index_add(0, task_ids, totals.new_ones(len(task_ids)))
    return totals / counts.clamp(min=1), counts > 0


def alpha_fair_loss(losses: Tensor, alpha: float, present: Tensor | None = None) -> Tensor:
    """Transforms losses so that their gradients become g / ℓ^alpha (the paper's equation 5).

    That is ℓ^(1 - alpha) / (1 - alpha), and log ℓ at alpha = 1. Any combiner can take it in place
    of the losses: with alpha = 0.5 these are the paper's Fair-LS, Fair-RLW, Fair-DWA, Fair-UW,
    Fair-MGDA, Fair-PCGrad and Fair-CAGrad.

    >>> losses = torch.tensor([1.0, 4.0])
    >>> alpha_fair_loss(losses, alpha=0.5)
    tensor([2., 4.])

    Args:
        losses: positive, any shape.
        alpha: any finite number, below 1 in the paper. Beyond 1 the result is negative.
        present: of the losses' shape (bool), as `task_mean` returns it; the other losses stay as
            they are.

    Returns:
        of the losses' shape.

    Raises:
        ValueError: an alpha that is not finite; a loss that is not positive (on CPU; elsewhere it
            becomes NaN or infinite).
    """
    if not isinstance(alpha, Real) or not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha!r}, expected a finite number")
    if present is not None:
        transformed = alpha_fair_loss(losses.where(present, 1), alpha)
        return transformed.where(present, losses)
    if not losses.is_cuda and not (losses > 0).all():
        wrong = (~(losses > 0)).nonzero().flatten().tolist()
        raise ValueError(
            f"alpha_fair_loss needs positive losses, but got {losses.detach().flatten()[wrong[0]]}"
            f" at index {wrong[0]}: add a constant, or give `present` if that task is absent"
        )
    if alpha == 1:
        return losses.log()
    return losses ** (1 - alpha) / (1 - alpha)
