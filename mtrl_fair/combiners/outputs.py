"""What combiners hand over: a method's direction and weights, and the record of what they did."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Aggregate(NamedTuple):
    """Holds what `Combiner.aggregate` makes of the task gradients.

    Here each gradient is rescaled to the length of its loss:

    >>> from mtrl_fair import Aggregate, Combiner
    >>> class LossLengths(Combiner):
    ...     def aggregate(self, rows, gramian, task_losses, present):
    ...         weights = torch.where(present, task_losses / gramian.diagonal().sqrt(), 0)
    ...         direction = {name: weights @ part.to(weights) for name, part in rows.items()}
    ...         return Aggregate(direction, weights, residual=torch.zeros(()))
    >>> task_gradients = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> direction, info = LossLengths().combine(task_gradients, torch.tensor([1.0, 3.0]))
    >>> print(direction, info.weights)
    tensor([1., 3.]) tensor([0.5000, 0.7500])
    """

    direction: dict[str, Tensor]
    """By name, [P], at least in float32."""
    weights: Tensor
    """[K], the coefficients of the task gradients in the direction."""
    residual: Tensor
    """[], of FairGrad's equation 4; 0 for a method that does not solve it."""


class CombinerInfo(NamedTuple):
    """Records weights and statistics of one combination, as detached tensors ready to be logged.

    A method of losses does not look at the task gradients in `differentiate`, `backward` and
    `scalarize`, which then cost one backward: `cosines`, `conflicts` and `gradient_norms` are NaN.
    """

    weights: Tensor
    """[K], the coefficients of the task gradients in the direction, `scale` included. MoCo's are
    those of its tracked gradients. GradDrop has none: here they are the share of each gradient's
    squared norm that was kept, times the factor of `scale`."""
    residual: Tensor
    """[], the relative residual of FairGrad's equation 4; 0 for methods that do not solve it."""
    cosines: Tensor
    """[K, K], between task gradients; 0 where a gradient vanishes."""
    conflicts: Tensor
    """[], the number of task pairs with a negative cosine."""
    gradient_norms: Tensor
    """[K], the norm of each task's gradient."""
    direction_norm: Tensor
    """[], the norm of the direction, `scale` and `max_norm` included."""

    @classmethod
    def of(cls, gramian: Tensor, aggregate: Aggregate, direction_norm: Tensor) -> CombinerInfo:
        """Describes the scaled aggregate of task gradients with a Gramian [K, K]."""
        norms = gramian.diagonal().sqrt()
        product = norms.unsqueeze(1) * norms
        cosines = torch.where(product > 0, gramian / product.where(product > 0, 1), 0)
        return cls(
            weights=aggregate.weights,
            residual=aggregate.residual,
            cosines=cosines,
            conflicts=cosines.triu(1).lt(0).sum(),
            gradient_norms=norms,
            direction_norm=direction_norm,
        )


class Differentiated(NamedTuple):
    """Holds what `Combiner.differentiate` returns."""

    output: Any
    """What the loss function returned, detached."""
    direction: dict[str, Tensor]
    """By name, [*shape]: the combined direction for the shared parameters."""
    head_gradients: dict[str, Tensor]
    """By name, [K, *shape]: the gradients of the task parameters."""
    info: CombinerInfo
    """The record of the combination."""
