"""Linear scalarisation: the summed loss, the baseline of every comparison."""

from __future__ import annotations

from torch import Tensor

from mtrl_fair.combiner import Combiner


class LinearScalarization(Combiner):
    """Σ ℓ_i: weight 1 for every task with a gradient (the paper's LS; FairGrad at alpha = 0)."""

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        return gramian.new_ones(gramian.shape[:-1]), gramian.new_zeros(gramian.shape[:-2])
