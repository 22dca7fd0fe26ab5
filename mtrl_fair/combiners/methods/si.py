"""SI: scale-invariant scalarisation, the summed logarithm of the losses."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mtrl_fair.combiners.by_losses import LossCombiner, excess_losses


class ScaleInvariant(LossCombiner):
    """Σ log(ℓ_i - b): weights 1 / (ℓ_i - b), so that a rescaled loss changes nothing.

    Convention: Nash-MTL's and FairGrad's baseline, with b = 0. Needs losses only, above `min_loss`.
    State: none.

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
