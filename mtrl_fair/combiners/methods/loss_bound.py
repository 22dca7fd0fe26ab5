"""Losses above a lower bound, for methods that take their logarithm or reciprocal."""

from __future__ import annotations

from torch import Tensor

from mtrl_fair.errors import LossBoundError


def excess_losses(method: str, task_losses: Tensor, min_loss: float, present: Tensor) -> Tensor:
    """Returns ℓ - min_loss, [K], whose logarithm or reciprocal the method takes.

    Raises:
        LossBoundError: a present task's is not positive. On CUDA it is NaN instead, because looking
            would make the host wait for the device.
    """
    excess = task_losses - min_loss
    if not task_losses.is_cuda:
        wrong = (present & ~(excess > 0)).nonzero().flatten().tolist()
        if wrong:
            values = ", ".join(f"task {k} has {task_losses[k]:.4g}" for k in wrong)
            raise LossBoundError(
                f"{method} needs losses above min_loss = {min_loss:g}, but {values}: give a"
                " min_loss that no loss reaches"
            )
    return excess.where(excess > 0, float("nan"))
