"""FairGrad (Ban & Ji, Fair Resource Allocation in Multi-Task Learning)."""

from __future__ import annotations

from torch import Tensor

from mtrl_fair.combiner import Combiner
from mtrl_fair.names import check_name
from mtrl_fair.scale import Scale
from mtrl_fair.solver import SOLVERS, check_alpha, solve


class FairGrad(Combiner):
    """The alpha-fair direction: weights with A w = w^(-1/alpha) (paper eq. 4, algorithm 1).

    It needs the Gramian and keeps no state. Departures from the published code: "sgd" runs on the
    preconditioned Gramian unless `precondition` is False, and the direction is not multiplied by K
    unless `scale` is "tasks".

    Args:
        alpha: the fairness exponent, at least 0.
        solver: "newton" (exact), "sgd" (the paper's 20 steps for RL), "least_squares" (section 4).
        precondition: False runs "sgd" and "least_squares" on the raw Gramian, as published.
        num_tasks: K, checked if given.
        scale: "none", "tasks" or "norm", see `Combiner`.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        solver: str = "newton",
        *,
        precondition: bool = True,
        num_tasks: int | None = None,
        scale: Scale = "none",
    ):
        super().__init__(num_tasks=num_tasks, scale=scale)
        check_alpha(alpha)
        check_name("solver", solver, SOLVERS)
        self.alpha = alpha
        self.solver = solver
        self.precondition = precondition

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        return solve(gramian, self.alpha, self.solver, precondition=self.precondition)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, solver={self.solver!r}, scale={self.scale!r}"
