"""MoCo: multi-objective gradient correction (Fernando et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.checks import check_at_least
from mtrl_fair.combiners.by_jacobian import JacobianCombiner


class MoCo(JacobianCombiner):
    """Follows Yᵀλ for tracked gradients Y and slowly adapted convex weights λ.

    At step k = 1, 2, …, with β_k = β / k^decay and γ_k = γ / k^decay:
    Y ← Y - β_k (Y - J), then λ ← softmax(λ - γ_k (Y Yᵀ + ρ I) λ), from Y = 0 and λ = 1/K.

    Source: Fernando et al., Mitigating Gradient Bias in Multi-objective Learning, 2023.
    Convention: LibMTL's softmax in place of the paper's projection onto the simplex, and its
    defaults; LibMTL also rescales each gradient to the length of its loss, which this class, like
    the paper, does not. A task that is absent keeps its row of Y and has weight 0 in this step's
    direction.
    Needs: the task gradients.
    State: Y [K, P], λ and k. Y's columns are the trainable parameters in their order: whoever
    freezes or thaws some needs a new combiner, even if P stays the same.

    >>> import torch
    >>> combiner = MoCo(num_tasks=2)
    >>> for _ in range(2):
    ...     direction, info = combiner.combine(torch.diag(torch.tensor([2.0, 1.0])), torch.ones(2))
    >>> print(direction, info.weights)
    tensor([0.6545, 0.3495]) tensor([0.4836, 0.5164])

    Args:
        num_tasks: K.
        beta: rate of the tracked gradients, at least 0.
        gamma: rate of the weights, at least 0.
        rho: regularisation of the weights, at least 0.
        decay: exponent of both rates' decay, at least 0.
        **options: see `Combiner`.
    """

    tracked: Tensor
    task_weights: Tensor
    steps: Tensor

    def __init__(
        self,
        num_tasks: int,
        beta: float = 0.5,
        gamma: float = 0.1,
        rho: float = 0.0,
        decay: float = 0.5,
        **options: Any,
    ):
        super().__init__(num_tasks=num_tasks, **options)
        for name, value in {"beta": beta, "gamma": gamma, "rho": rho, "decay": decay}.items():
            check_at_least(name, value, 0)
        self.beta, self.gamma, self.rho, self.decay = beta, gamma, rho, decay
        self.register_buffer("tracked", torch.zeros(num_tasks, 0))  # P is known at the first step
        self.register_buffer("task_weights", torch.full((num_tasks,), 1.0 / num_tasks))
        self.register_buffer("steps", torch.zeros(()))

    def direct(self, jacobian: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        if not self.tracked.numel():
            self.tracked = torch.zeros_like(jacobian)
            self.task_weights = self.task_weights.to(jacobian)
        if self.tracked.shape != jacobian.shape:
            raise ValueError(
                f"task gradients {list(jacobian.shape)} do not fit the tracked ones"
                f" {list(self.tracked.shape)}: use one combiner per network, and a new one when"
                " parameters are frozen or thawed"
            )
        self.steps += 1
        rate = self.steps**-self.decay
        moved = self.tracked - self.beta * rate * (self.tracked - jacobian)
        self.tracked.copy_(moved.where(present.unsqueeze(1), self.tracked))
        gramian = self.tracked @ self.tracked.mT
        slope = gramian @ self.task_weights + self.rho * self.task_weights
        self.task_weights.copy_((self.task_weights - self.gamma * rate * slope).softmax(-1))
        weights = self.task_weights.where(present, 0)
        return weights @ self.tracked, weights

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "tracked")
        if saved is not None and len(saved) == self.num_tasks:
            # A fresh combiner does not know P yet, and torch refuses to load another shape.
            self.tracked = self.tracked.new_zeros(saved.shape, dtype=saved.dtype)
            self.task_weights = self.task_weights.to(saved.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
