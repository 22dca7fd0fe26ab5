"""LS: linear scalarisation, the summed loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_fair.combiners.by_losses import LossCombiner


class LinearScalarization(LossCombiner):
    """Σ ℓ_i: every weight is 1. The baseline of every comparison, and FairGrad at alpha = 0.

    Convention: the sum, as in the FairGrad paper; some codes take the mean. Needs losses only.
    State: none.
    """

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return torch.ones_like(task_losses)
