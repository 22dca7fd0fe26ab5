"""GradDrop: gradient sign dropout (Chen et al., Just Pick a Sign, 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.combiners.by_jacobian import JacobianCombiner
from mtrl_fair.combiners.randomness import Randomness


class GradDrop(JacobianCombiner):
    """Sums, in every coordinate, the task gradients of one sign, drawn at random.

    The positive sign is kept with probability P = ½ (1 + Σ g_i / Σ |g_i|), the negative one
    otherwise.

    Source: Chen et al., Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign
    Dropout, 2020.
    Convention: the paper's algorithm 1, lines 10 to 15, with f the identity and no leak, applied to
    parameter gradients as in the baselines of the FairGrad paper (the authors apply it to
    activations).
    Needs: the task gradients.
    State: its generator.

    >>> import torch
    >>> task_gradients = torch.tensor([[1.0, 4.0], [2.0, -4.0]])
    >>> GradDrop(seed=0).combine(task_gradients, torch.ones(2))[0].abs()  # 3, and 4 or -4
    tensor([3., 4.])

    Args:
        seed: of the signs; None draws one from torch's global generator.
        **options: see `Combiner`, without `weighted_heads`: there are no task weights.
    """

    def __init__(self, seed: int | None = None, **options: Any):
        super().__init__(**options)
        if self.weighted_heads:
            raise ValueError("weighted_heads is True, but graddrop has no weights for heads")
        self.randomness = Randomness(seed)

    def direct(self, jacobian: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        total, size = jacobian.sum(0), jacobian.abs().sum(0)
        purity = 0.5 * (1 + total / size.where(size > 0, 1))
        drawn = torch.rand(
            total.shape,
            generator=self.randomness.generator(jacobian.device),
            dtype=jacobian.dtype,
            device=jacobian.device,
        )
        sign = torch.where(purity > drawn, 1, -1)
        kept = jacobian.where(jacobian.sign() == sign, 0)
        squares = jacobian.square().sum(1)
        return kept.sum(0), kept.square().sum(1) / squares.where(squares > 0, 1)
