"""IMTL-G: impartial multi-task learning (Liu et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_fair.combiners.by_gramian import GramianCombiner


class IMTLG(GramianCombiner):
    """Finds the direction whose projections onto all task gradients are equal: A w ∝ ‖g_i‖.

    Source: Liu et al., Towards Impartial Multi-task Learning, 2021.
    Convention: the paper's closed form, whose weights sum to 1 and may be negative.
    Limits: equal projections need not be positive. The direction can lead uphill for every task,
    although no two tasks conflict: then the weights of some are negative.
    Departs: gradients that are linearly dependent are handled by a pseudo-inverse; where the
    weights would sum to 0 no direction exists, and they are all 0.
    Needs: the Gramian.
    State: none.

    >>> import torch
    >>> IMTLG()(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))  # weights
    tensor([0.3333, 0.6667])
    """

    capturable = False  # a pseudo-inverse waits for the device

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        matrix = gramian.double()
        squares = matrix.diagonal(dim1=-2, dim2=-1)
        inverse_norms = squares.where(squares > 0, 1).rsqrt().where(squares > 0, 0)
        cosines = inverse_norms.unsqueeze(-1) * matrix * inverse_norms.unsqueeze(-2)
        ones = (squares > 0).double().unsqueeze(-1)
        rounding = torch.finfo(gramian.dtype).eps * gramian.shape[-1]
        solution = torch.linalg.pinv(cosines, rtol=rounding, hermitian=True) @ ones
        weights = inverse_norms * solution.squeeze(-1)
        total = weights.sum(-1, keepdim=True)
        exists = total.abs() > 1e-12 * weights.abs().sum(-1, keepdim=True)
        weights = (weights / total.where(exists, 1)).where(exists, 0)
        return weights.to(gramian.dtype), gramian.new_zeros(gramian.shape[:-2])
