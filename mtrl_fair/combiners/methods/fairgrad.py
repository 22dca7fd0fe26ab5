"""FairGrad (Ban & Ji, Fair Resource Allocation in Multi-Task Learning)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.solvers.equation import SOLVERS, check_alpha, solve


class FairGrad(GramianCombiner):
    """Finds the α-fair direction: weights w with A w = w^(-1/α) for the Gramian A.

    The direction d = Σ w_i g_i maximises the α-fair utility of the tasks' first-order gains g_iᵀd
    (the paper's equation 4, algorithm 1). α = 0 is the sum, 1 proportional fairness (Nash-MTL), 2
    minimum potential delay; large values approach max-min fairness.

    Source: Ban & Ji, Fair Resource Allocation in Multi-Task Learning, 2024.
    Convention: the direction as solved. The authors' supervised code multiplies it by K and clips
    it to norm 1 (scale="tasks", max_norm=1); their RL code does neither.
    Departs: "sgd" and "least_squares" run on the preconditioned Gramian unless `precondition` is
    False.
    Needs: the Gramian.
    State: none.

    With α > 1, task i adds w_i ‖g_i‖ = ‖g_i‖^((1 - α) / (1 + α)) to the direction where task
    gradients do not correlate: a task that has nothing to learn yet, and therefore a tiny gradient,
    dominates the direction.

    Three defaults exist, each for its reader:

    * this class and `supervised.py`: α = 2, solver="newton": as most of the paper's runs, solved
      exactly;
    * `train.py`: α = 1, solver="sgd", where SGD solves the equation whatever the rewards' scale;
    * its preset `mt10-fairgrad-paper`: α = 2, solver="sgd", precondition=False, as published.

    >>> import torch
    >>> FairGrad(alpha=2.0)
    FairGrad(alpha=2.0, solver='newton', precondition=True, scale='none')
    >>> FairGrad(alpha=2.0)(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))  # 4^(-2/3) and 1
    tensor([0.3969, 1.0000])

    Args:
        alpha: α, the fairness exponent, at least 0.
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
