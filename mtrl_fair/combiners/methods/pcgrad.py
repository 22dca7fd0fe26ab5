"""PCGrad: projecting conflicting gradients (Yu et al., Gradient Surgery, 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.combiners.randomness import Randomness


class PCGrad(GramianCombiner):
    """Sums the task gradients, each projected off those it conflicts with, in random order.

    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020.
    Convention: the paper's algorithm 1, with the sum of the projected gradients; some codes take
    the mean.
    Needs: the Gramian.
    State: its generator.

    >>> import torch
    >>> PCGrad()(torch.tensor([[4.0, -1.0], [-1.0, 1.0]]))  # g₁ + g₂, and g₂ + ¼ g₁
    tensor([1.2500, 2.0000])

    Args:
        seed: of the orders; None draws one from torch's global generator.
        **options: see `Combiner`.
    """

    def __init__(self, seed: int | None = None, **options: Any):
        super().__init__(**options)
        self.randomness = Randomness(seed)

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        generator = self.randomness.generator(gramian.device)
        keys = torch.rand(gramian.shape, generator=generator, device=gramian.device)
        orders = keys.argsort(-1)
        return project(gramian, orders), gramian.new_zeros(gramian.shape[:-2])


def project(gramian: Tensor, orders: Tensor) -> Tensor:
    """Returns weights [..., K] of the summed projected gradients.

    Args:
        gramian: [..., K, K].
        orders: [..., K, K], integers: row i is the order in which g_i meets the others.
    """
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    identity = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    identity = identity.expand(gramian.shape)
    coefficients = identity.clone()  # row i: the projected g_i
    for other in orders.unbind(-1):
        column = other.unsqueeze(-1)  # [..., K, 1]
        toward = gramian.gather(-2, column.expand(gramian.shape))  # row i: A[other_i]
        inner = (coefficients * toward).sum(-1, keepdim=True)
        conflicts = (inner < 0) & (identity.gather(-1, column) == 0)
        length = squares.gather(-1, other).unsqueeze(-1)
        change = -inner / length.where(length > 0, 1)
        coefficients.scatter_add_(-1, column, change.where(conflicts, 0))
    return coefficients.sum(-2)
