"""UW: uncertainty weighting (Kendall et al., Multi-Task Learning Using Uncertainty, 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mtrl_fair.combiners.by_losses import LossCombiner


class UncertaintyWeighting(LossCombiner):
    """Learns a log-variance s_i per task and minimises Σ ½ (e^(-s_i) (ℓ_i - b) + s_i).

    The weights are ½ e^(-s_i); s is zero at first.

    Source: Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, 2018.
    Convention: the paper's section 3.2, where b = 0, in log-variances; LibMTL starts at s = -½.
    Needs: losses above `min_loss`.
    State: s, an `nn.Parameter`. `backward`, `combine` and the scalar of `scalarize` add to its
    gradient; the user's optimiser must hold it: `[*network.parameters(), *combiner.parameters()]`.

    >>> import torch
    >>> combiner = UncertaintyWeighting(num_tasks=2)
    >>> combiner.combine(torch.eye(2), torch.tensor([1.0, 4.0]))[1].weights
    tensor([0.5000, 0.5000])
    >>> combiner.log_variances.grad  # ½ (1 - ℓ e^(-s)): a step raises s of the larger loss
    tensor([ 0.0000, -1.5000])

    Args:
        num_tasks: K.
        min_loss: b, a lower bound of every loss. While ℓ_i < b, s_i falls and the weight grows
            without end; so losses that can be negative, such as an actor's, need one.
        **options: see `Combiner`.
    """

    def __init__(self, num_tasks: int, min_loss: float = 0.0, **options: Any):
        super().__init__(num_tasks=num_tasks, **options)
        self.min_loss = min_loss
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return 0.5 * torch.exp(-self.log_variances.detach()).to(task_losses.dtype)

    def parameter_loss(self, task_losses: Tensor, present: Tensor) -> Tensor:
        excess = task_losses - self.min_loss
        terms = torch.exp(-self.log_variances) * excess + self.log_variances
        return 0.5 * terms.where(present, 0).sum()
