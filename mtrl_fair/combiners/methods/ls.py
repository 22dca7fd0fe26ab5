"""LS: linear scalarisation, the summed loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_fair.combiners.by_losses import LossCombiner


class LinearScalarization(LossCombiner):
    """Sums the losses: every weight is 1.

    It is the baseline of every comparison, and FairGrad at α = 0.

    Convention: the sum, as in the FairGrad paper; some codes take the mean.
    Needs: losses.
    State: none.

    >>> import torch
    >>> LinearScalarization().combine(torch.eye(2), torch.tensor([1.0, 9.0]))[0]
    tensor([1., 1.])
    """

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return torch.ones_like(task_losses)
