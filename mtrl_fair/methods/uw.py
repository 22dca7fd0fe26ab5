"""UW: uncertainty weighting (Kendall et al., Multi-Task Learning Using Uncertainty, 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mtrl_fair.loss_combiner import LossCombiner


class UncertaintyWeighting(LossCombiner):
    """Σ ½ (e^(-s_i) ℓ_i + s_i) with learned log-variances s, zero at first: weights ½ e^(-s_i).

    Convention: the paper's section 3.2 in log-variances; LibMTL starts at s = -½. Needs losses
    only. State: s, an `nn.Parameter`. `backward`, `combine` and the scalar of `scalarize` add to
    its gradient; the user's optimiser must hold it: `[*network.parameters(),
    *combiner.parameters()]`.

    Args:
        num_tasks: K.
        **options: see `Combiner`.
    """

    def __init__(self, num_tasks: int, **options: Any):
        super().__init__(num_tasks=num_tasks, **options)
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return 0.5 * torch.exp(-self.log_variances.detach()).to(task_losses.dtype)

    def own_loss(self, task_losses: Tensor, present: Tensor) -> Tensor:
        terms = torch.exp(-self.log_variances) * task_losses + self.log_variances
        return 0.5 * terms.where(present, 0).sum()
