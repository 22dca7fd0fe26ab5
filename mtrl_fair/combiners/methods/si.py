"""SI: scale-invariant scalarisation, the summed logarithm of the losses."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mtrl_fair.combiners.by_losses import LossCombiner
from mtrl_fair.combiners.methods.loss_bound import excess_losses


class ScaleInvariant(LossCombiner):
    """Sums the logarithms of the losses, so that a rescaled loss changes nothing.

    The gradient of Σ log(ℓ_i - b) has the weights 1 / (ℓ_i - b).

    Source: a baseline of Nash-MTL and FairGrad.
    Convention: theirs, where b = 0.
    Needs: losses above `min_loss`.
    State: none.

    >>> import torch
    >>> ScaleInvariant().combine(torch.eye(2), torch.tensor([1.0, 4.0]))[1].weights
    tensor([1.0000, 0.2500])

    Args:
        min_loss: b, a lower bound of every loss. Losses that can be negative, such as an actor's,
            need one.
        **options: see `Combiner`.
    """

    def __init__(self, min_loss: float = 0.0, **options: Any):
        super().__init__(**options)
        self.min_loss = min_loss

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return 1.0 / excess_losses("si", task_losses, self.min_loss, present)
