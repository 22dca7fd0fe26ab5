"""FAMO: fast adaptive multitask optimization (Liu et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from mtrl_fair.checks import check_at_least, check_task_losses
from mtrl_fair.combiners.by_losses import LossCombiner
from mtrl_fair.combiners.methods.loss_bound import excess_losses

EPSILON = 1e-8


class FAMO(LossCombiner):
    """Weighs tasks so that all log-losses fall at the same rate, from losses only.

    With z = softmax(ξ): weights w_i ∝ z_i / (ℓ_i - b + 1e-8), Σ w = 1. After the optimiser step,
    `after_step` looks at the new losses ℓ′ and takes an Adam step on ξ along the gradient of
    Σ z_i (log(ℓ_i - b) - log(ℓ′_i - b)).

    Source: Liu et al., FAMO: Fast Adaptive Multitask Optimization, 2023.
    Convention: the paper's algorithm with its weight decay of 1e-3 (the authors' code has 1e-5) and
    the code's Adam.
    Needs: losses above `min_loss`, and a second look at them on the same batch (`after_step`).
    State: ξ, Adam's moments, the losses of the last step.

    >>> import torch
    >>> combiner = FAMO(num_tasks=2)
    >>> before, after = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 4.0])
    >>> combiner.combine(torch.eye(2), before)[1].weights
    tensor([0.8000, 0.2000])
    >>> combiner.after_step(after)  # the first loss fell faster: it counts less
    >>> combiner.combine(torch.eye(2), before)[1].weights
    tensor([0.7919, 0.2081])

    Args:
        num_tasks: K.
        min_loss: b, a lower bound of every loss. Losses that can be negative, such as an actor's,
            need one.
        learning_rate: Adam's, for ξ, at least 0.
        weight_decay: Adam's, for ξ, at least 0.
        **options: see `Combiner`.
    """

    logits: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    log_losses: Tensor

    def __init__(
        self,
        num_tasks: int,
        min_loss: float = 0.0,
        learning_rate: float = 0.025,
        weight_decay: float = 1e-3,
        **options: Any,
    ):
        super().__init__(num_tasks=num_tasks, **options)
        check_at_least("learning_rate", learning_rate, 0)
        check_at_least("weight_decay", weight_decay, 0)
        self.min_loss = min_loss
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        for name in ("logits", "mean", "square"):
            self.register_buffer(name, torch.zeros(num_tasks))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("log_losses", torch.full((num_tasks,), float("nan")))

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        excess = self._excess(task_losses, present)
        self.log_losses.copy_(excess.log().where(present, float("nan")))
        weights = (self.logits.softmax(-1) / excess).where(present, 0)
        return (weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)).to(task_losses)

    @torch.no_grad()
    def after_step(self, task_losses: Tensor) -> None:
        """Adapts the weights to how the step changed the losses.

        Args:
            task_losses: [K], of the same batch after the optimiser step, with the same dropout.
                Their forward counts the batch again in running statistics of normalisations, unless
                it gets copies of the buffers.

        Raises:
            ValueError: no step has come before, or losses that are not above `min_loss`.
        """
        check_task_losses(task_losses, self.num_tasks)
        present = ~self.log_losses.isnan()
        if not present.is_cuda and not present.any():
            raise ValueError("after_step compares with a step before it: call backward first")
        fall = self.log_losses - self._excess(task_losses.detach(), present).log()
        share = self.logits.softmax(-1)
        fall = fall.where(present, 0)
        gradient = share * (fall - (share * fall).sum())
        adam(
            [self.logits],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self.steps],
            capturable=self.logits.is_cuda,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def _excess(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return excess_losses("famo", task_losses.to(self.logits), self.min_loss, present) + EPSILON
