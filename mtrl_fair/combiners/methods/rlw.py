"""RLW: random loss weighting (Lin et al., Reasonable Effectiveness of Random Weighting, 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.combiners.by_losses import LossCombiner
from mtrl_fair.combiners.randomness import Randomness


class RandomLossWeighting(LossCombiner):
    """Draws the weights anew at every step: softmax(z), z ~ N(0, I).

    Source: Lin et al., Reasonable Effectiveness of Random Weighting, 2022.
    Convention: the paper's algorithm 2 with a normal distribution; the weights sum to 1.
    Needs: losses.
    State: its generator.

    >>> import torch
    >>> weights = RandomLossWeighting(seed=0).combine(torch.eye(2), torch.ones(2))[1].weights
    >>> round(weights.sum().item(), 6)
    1.0

    Args:
        seed: of the weights; None draws one from torch's global generator.
        **options: see `Combiner`.
    """

    def __init__(self, seed: int | None = None, **options: Any):
        super().__init__(**options)
        self.randomness = Randomness(seed)

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        generator = self.randomness.generator(task_losses.device)
        return torch.randn(
            task_losses.shape,
            generator=generator,
            dtype=task_losses.dtype,
            device=task_losses.device,
        ).softmax(-1)
