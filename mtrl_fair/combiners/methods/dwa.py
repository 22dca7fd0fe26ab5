"""DWA: dynamic weight average (Liu et al., End-to-End Multi-Task Learning with Attention, 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.checks import check_at_least, check_positive
from mtrl_fair.combiners.by_losses import LossCombiner

LARGEST_RATE = 1e6  # of a loss that was almost 0; the softmax of more would be the same


class DynamicWeightAverage(LossCombiner):
    """Weighs tasks by how slowly their losses fall: K softmax(r / T).

    r_i is the mean of ℓ_i - b in the last epoch over that of the one before (the paper's equation
    7, where b = 0). The weights are 1 in the first two epochs and sum to K.

    Source: Liu et al., End-to-End Multi-Task Learning with Attention, 2019.
    Convention: the paper's, T = 2.
    Departs: an epoch is a number of steps, because reinforcement learning has no other.
    Needs: losses above `min_loss`.
    State: sums and means of losses.

    >>> import torch
    >>> combiner = DynamicWeightAverage(num_tasks=2, steps_per_epoch=1)
    >>> for losses in ([1.0, 1.0], [1.0, 0.5], [1.0, 0.5]):  # the second task's has fallen
    ...     info = combiner.combine(torch.eye(2), torch.tensor(losses))[1]
    >>> info.weights
    tensor([1.1244, 0.8756])

    Args:
        num_tasks: K.
        temperature: T, above 0.
        steps_per_epoch: calls whose losses are averaged, at least 1.
        min_loss: b, a lower bound of every loss. Where a loss crosses it, the ratio of its means
            says nothing; so losses that can be negative, such as an actor's, need one.
        **options: see `Combiner`.
    """

    loss_sum: Tensor
    count: Tensor
    steps: Tensor
    epochs: Tensor
    last: Tensor
    before_last: Tensor

    def __init__(
        self,
        num_tasks: int,
        temperature: float = 2.0,
        steps_per_epoch: int = 100,
        min_loss: float = 0.0,
        **options: Any,
    ):
        super().__init__(num_tasks=num_tasks, **options)
        check_positive("temperature", temperature)
        check_at_least("steps_per_epoch", steps_per_epoch, 1)
        self.temperature = temperature
        self.steps_per_epoch = steps_per_epoch
        self.min_loss = min_loss
        for name in ("loss_sum", "count"):
            self.register_buffer(name, torch.zeros(num_tasks, dtype=torch.float64))
        for name in ("last", "before_last"):
            self.register_buffer(name, torch.ones(num_tasks, dtype=torch.float64))
        for name in ("steps", "epochs"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        rates = self.last / self.before_last.where(self.before_last != 0, 1)
        rates = rates.clamp(-LARGEST_RATE, LARGEST_RATE)
        dynamic = len(task_losses) * (rates / self.temperature).softmax(-1)
        weights = dynamic.where(self.epochs >= 2, 1).to(task_losses.dtype)

        self.loss_sum += (task_losses - self.min_loss).where(present, 0)
        self.count += present
        self.steps += 1
        # By selection, not by a branch, which would make the host wait for the device.
        ends = self.steps >= self.steps_per_epoch
        mean = (self.loss_sum / self.count.clamp(min=1)).where(self.count > 0, self.last)
        self.before_last.copy_(self.last.where(ends, self.before_last))
        self.last.copy_(mean.where(ends, self.last))
        self.epochs += ends
        for tensor in (self.loss_sum, self.count, self.steps):
            tensor.mul_(~ends)
        return weights
