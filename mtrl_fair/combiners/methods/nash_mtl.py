"""Nash-MTL: multi-task learning as a bargaining game (Navon et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.solvers.equation import solve


class NashMTL(GramianCombiner):
    """Finds the Nash bargaining solution: weights w with A w = 1 / w, FairGrad's at α = 1.

    Source: Navon et al., Multi-Task Learning as a Bargaining Game, 2022.
    Convention: the paper's equation; the direction has norm √K, which the authors' code clips to 1
    (max_norm=1).
    Departs: solved exactly by Newton's method at every step, where the authors run a sequence of
    cone programs, warm-started and stopped early.
    Needs: the Gramian.
    State: none.

    >>> import torch
    >>> NashMTL()(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))  # weights
    tensor([0.5000, 1.0000])
    """

    capturable = False  # torch's linear solver is not known to be capturable

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        return solve(gramian, 1.0, "newton")
