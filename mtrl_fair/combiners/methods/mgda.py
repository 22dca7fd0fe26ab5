"""MGDA: the multiple-gradient descent algorithm (Désidéri 2012; Sener & Koltun 2018)."""

from __future__ import annotations

from torch import Tensor

from mtrl_fair.combiners.by_gramian import GramianCombiner, solve_on_host
from mtrl_fair.combiners.methods.min_norm import min_norm_weights


class MGDA(GramianCombiner):
    """Finds the point of least norm in the convex hull of the task gradients.

    That is min ‖Jᵀw‖ over Σ w = 1, w ≥ 0.

    Source: Désidéri, Multiple-gradient descent algorithm, 2012; Sener & Koltun, Multi-Task Learning
    as Multi-Objective Optimization, 2018.
    Convention: a convex combination of the gradients as they are, not normalised (Sener & Koltun
    offer both).
    Departs: solved exactly, by an active set, instead of by some Frank-Wolfe steps; a task without
    a gradient is left out, although its zero would be the point of least norm.
    Needs: the Gramian.
    State: none.

    >>> import torch
    >>> MGDA()(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))  # weights
    tensor([0.2000, 0.8000])
    """

    capturable = False  # solves on the host

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        return solve_on_host(gramian, min_norm_weights), gramian.new_zeros(gramian.shape[:-2])
