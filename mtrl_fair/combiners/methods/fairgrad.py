"""FairGrad (Ban & Ji, Fair Resource Allocation in Multi-Task Learning)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.solvers.equation import SOLVERS, check_alpha, solve


class FairGrad(GramianCombiner):
    """The alpha-fair direction: weights with A w = w^(-1/alpha) (paper eq. 4, algorithm 1).

    Convention: the direction as solved (the authors' supervised code multiplies it by K and clips
    it to norm 1: scale="tasks", max_norm=1; their RL code does neither). Needs the Gramian.
    Departs: "sgd" and "least_squares" run on the preconditioned Gramian unless `precondition` is
    False. State: none.

    With alpha > 1, task i adds w_i ‖g_i‖ = ‖g_i‖^((1 - alpha) / (1 + alpha)) to the direction where
    task gradients do not correlate: a task that has nothing to learn yet, and therefore a tiny
    gradient, dominates the direction.

    Args:
        alpha: the fairness exponent, at least 0.
        solver: "newton" (exact), "sgd" (the paper's 20 steps for RL), "least_squares" (section 4).
        precondition: False runs "sgd" and "least_squares" on the raw Gramian, as published.
        **options: see `Combiner`.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        solver: str = "newton",
        *,
        precondition: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        check_alpha(alpha)
        check_name("solver", solver, SOLVERS)
        self.alpha = alpha
        self.solver = solver
        self.precondition = precondition
        # torch's linear solver, which "newton" needs, is not known to be capturable.
        self.capturable = solver == "sgd"

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        return solve(gramian, self.alpha, self.solver, precondition=self.precondition)

    def extra_repr(self) -> str:
        shown = ("alpha", "solver", "precondition", "scale")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
