"""FairGrad (Ban & Ji, Fair Resource Allocation in Multi-Task Learning)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.combiners.base import Aggregate
from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.solvers.equation import SOLVERS, check_alpha, solve


class FairGrad(GramianCombiner):
    """The alpha-fair direction: weights with A w = w^(-1/alpha) (paper eq. 4, algorithm 1).

    Convention: the direction as solved (the authors' supervised code multiplies it by K and clips
    it to norm 1: scale="tasks", max_norm=1; their RL code does neither). Needs the Gramian.
    Departs: "sgd" and "least_squares" run on the preconditioned Gramian unless `precondition` is
    False. State: none, but with `norm_rate` the running norms, with `warmup_steps` their count.

    The last three options are not the paper's. They answer one property of alpha > 1: where task
    gradients do not correlate, task i adds w_i ‖g_i‖ = ‖g_i‖^((1 - alpha) / (1 + alpha)) to the
    direction, so that tasks whose gradients are small for want of anything to learn lead it. The
    residual is that of equation 4 as it was solved, before weights are cut or replaced.

    Args:
        alpha: the fairness exponent, at least 0.
        solver: "newton" (exact), "sgd" (the paper's 20 steps for RL), "least_squares" (section 4).
        precondition: False runs "sgd" and "least_squares" on the raw Gramian, as published.
        norm_rate: divide each task's gradient by its running root mean square norm before solving;
            the weight of a new squared norm in it, in (0, 1]. None: off. Needs `num_tasks`.
        max_weight: larger task weights are cut to it, before `scale`. None: off.
        warmup_steps: so many first directions are the sum of the task gradients. Only `backward`,
            `combine` and `differentiate` count, and update the running norms; weights of a
            Gramian, `combiner(gramian)`, are those of the next direction.
        **options: see `Combiner`.
    """

    squared_norms: Tensor
    steps_taken: Tensor

    def __init__(
        self,
        alpha: float = 2.0,
        solver: str = "newton",
        *,
        precondition: bool = True,
        norm_rate: float | None = None,
        max_weight: float | None = None,
        warmup_steps: int = 0,
        **options: Any,
    ):
        super().__init__(**options)
        check_alpha(alpha)
        check_name("solver", solver, SOLVERS)
        self.alpha = alpha
        self.solver = solver
        if norm_rate is not None and not 0 < norm_rate <= 1:
            raise ValueError(f"norm_rate is {norm_rate}, expected a number in (0, 1] or None")
        if norm_rate is not None and self.num_tasks is None:
            raise ValueError("norm_rate needs num_tasks, one running norm per task: give it")
        if max_weight is not None and not max_weight > 0:
            raise ValueError(f"max_weight is {max_weight}, expected a positive number or None")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps is {warmup_steps}, expected 0 or more")
        self.precondition = precondition
        self.norm_rate = norm_rate
        self.max_weight = max_weight
        self.warmup_steps = warmup_steps
        if norm_rate is not None:
            # Zero until a task has had a gradient, which then counts whole.
            self.register_buffer("squared_norms", torch.zeros(self.num_tasks or 0))
        if warmup_steps:
            self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))
        # torch's linear solver, which "newton" needs, is not known to be capturable.
        self.capturable = solver == "sgd"

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        if self.norm_rate is None:
            weights, residual = self._solve(gramian)
        else:
            seen = self.squared_norms > 0
            own = gramian.diagonal(dim1=-2, dim2=-1)
            norms = torch.where(seen, self.squared_norms.to(gramian), own).sqrt()
            norms = norms.where(norms > 0, 1)
            weights, residual = self._solve(gramian / (norms.unsqueeze(-1) * norms.unsqueeze(-2)))
            weights = weights / norms
        if self.max_weight is not None:
            weights = weights.clamp(max=self.max_weight)
        if self.warmup_steps:
            weights = torch.where(self.steps_taken < self.warmup_steps, 1, weights)
        return weights, residual

    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        if self.norm_rate is not None:
            squares = gramian.diagonal().to(self.squared_norms)
            kept = torch.where(self.squared_norms > 0, self.squared_norms, squares)
            self.squared_norms.copy_(torch.where(present, kept.lerp(squares, self.norm_rate), kept))
        aggregate = super().aggregate(rows, gramian, task_losses, present)
        if self.warmup_steps:
            self.steps_taken += 1
        return aggregate

    def _solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        return solve(gramian, self.alpha, self.solver, precondition=self.precondition)

    def extra_repr(self) -> str:
        own = (
            "alpha",
            "solver",
            "precondition",
            "norm_rate",
            "max_weight",
            "warmup_steps",
            "scale",
        )
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in own)
