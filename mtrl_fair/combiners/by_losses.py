"""Methods that need the task losses only: one backward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl_fair.checks import check_head_gradients, check_present, check_task_losses
from mtrl_fair.combiners.autograd import (
    accumulate,
    full_precision,
    only_used,
    weighted_gradients,
)
from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.outputs import Aggregate, CombinerInfo, Differentiated
from mtrl_fair.errors import NonFiniteError
from mtrl_fair.gradients.backward import zero_if_none
from mtrl_fair.gradients.gramian import at_least_float32, per_row, total_norm, weighted_sum
from mtrl_fair.gradients.per_task import (
    TaskLossFn,
    check_parameters,
    count_tasks,
    detach,
    leaves_of,
    losses_of,
)

SMALLEST_WEIGHT = 1e-20
"""What a smaller weight counts as in the one backward of Σ_k w_k ℓ_k, which serves trunk and heads.

It gives Σ_k w_k g_k to the trunk, which is the direction, but w_k g_k to the head of task k, on
which ℓ_k alone depends. A head is to get g_k, whatever its task's weight in the trunk is: hence
`head_factors`, 1 / w_k. For the losses 3 h₀ and 5 h₁ and w = (2, ½), the backward gives the heads 6
and 2.5; times (½, 2) these are 3 and 5.

A weight that has rounded to 0 (FAMO's may) would leave 0 / 0. This one divides well: w_k g_k is a
normal float32 number for g_k down to 1e-18, and too small to count in the direction.
"""


class LossCombiner(Combiner):
    """Weighs the task losses by their values.

    `backward` and `differentiate` take one backward, two with scale="norm". `scalarize` takes none
    besides that of its user, one with `max_norm`, two with scale="norm". With float16 losses or
    parameters, the heads of `backward` and `differentiate` take one more.

    A method of your own says the weights:

    >>> import torch
    >>> from mtrl_fair import LossCombiner
    >>> class ShareOfLoss(LossCombiner):
    ...     def weigh(self, task_losses, present):
    ...         return task_losses / task_losses.where(present, 0).sum()
    >>> parameter = torch.ones(2, requires_grad=True)
    >>> info = ShareOfLoss().backward(torch.tensor([1.0, 3.0]) * parameter, [parameter])
    >>> print(parameter.grad, info.weights)
    tensor([0.2500, 2.2500]) tensor([0.2500, 0.7500])
    """

    @abstractmethod
    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        """Returns weights [K] ≥ 0 for losses [K], and advances the method's state by one step.

        Args:
            task_losses: detached, at least in float32.
            present: [K] (bool).
        """

    def parameter_loss(self, task_losses: Tensor, present: Tensor) -> Tensor | None:
        """Returns the loss [] of the parameters that the method itself learns, if it has any."""
        return None

    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        weights = self._weights(task_losses, present)
        self._differentiate_parameter_loss(task_losses, present)
        return Aggregate(weighted_sum(weights, rows), weights, weights.new_zeros(()))

    def differentiate(
        self,
        task_loss_fn: TaskLossFn,
        parameters: Mapping[str, Tensor],
        batch: Any,
        task_parameters: Mapping[str, Tensor] | None = None,
        *,
        has_aux: bool = False,
        out: Tensor | None = None,
    ) -> Differentiated:
        num_tasks = count_tasks(batch)
        check_parameters(parameters, task_parameters, num_tasks)
        shared = leaves_of(parameters)
        heads = leaves_of(task_parameters or {})
        with torch.enable_grad():
            output = task_loss_fn({**shared, **heads}, batch)
        task_losses = losses_of(output, has_aux, num_tasks)
        check_task_losses(task_losses, self.num_tasks)
        present = _mask(None, task_losses)
        direction, _, of_heads, head_factors, info = self._weigh_and_differentiate(
            task_losses, present, list(shared.values()), list(heads.values())
        )
        head_gradients = [
            _times(rows, per_row(head_factors, at_least_float32(rows)))
            for rows in zero_if_none(of_heads, list(heads.values()))
        ]
        self._differentiate_parameter_loss(task_losses, present)
        return Differentiated(
            detach(output),
            dict(zip(shared, direction, strict=True)),
            dict(zip(heads, head_gradients, strict=True)),
            info,
        )

    @full_precision
    def scalarize(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        scalar = super().scalarize(task_losses, shared_parameters, present)
        losses = at_least_float32(task_losses.detach())
        parameter_loss = self.parameter_loss(losses, _mask(present, task_losses))
        if parameter_loss is not None:  # add its gradient, but not its value
            scalar = scalar + parameter_loss - parameter_loss.detach()
        return scalar

    def _gradients(
        self,
        task_losses: Tensor,
        shared: list[Tensor],
        heads: list[list[Tensor]],
        present: Tensor | None,
    ) -> tuple[list[Tensor | None], list[list[Tensor | None]], CombinerInfo]:
        present = _mask(present, task_losses)
        direction, used, of_heads, head_factors, info = self._weigh_and_differentiate(
            task_losses, present, shared, [parameter for head in heads for parameter in head]
        )
        remaining = iter(of_heads)
        head_gradients = [
            [None if (part := next(remaining)) is None else _times(part, factor) for _ in head]
            for head, factor in zip(heads, head_factors, strict=True)
        ]
        check_head_gradients(head_gradients)
        self._differentiate_parameter_loss(task_losses, present)
        return only_used(direction, used), head_gradients, info

    def _loss_weights(
        self, task_losses: Tensor, shared: list[Tensor], present: Tensor | None
    ) -> Tensor:
        present = _mask(present, task_losses)
        weights = self._weights(task_losses, present)
        norm = norm_of_sum = weights.new_full((), float("nan"))  # not needed by "none" and "tasks"
        if self.scale == "norm" or self.max_norm is not None:
            parts, _, _ = _backward(task_losses, weights, present, shared, [], keep_graph=True)
            norm = _norm(parts, shared)
            norm_of_sum = self._norm_of_sum(task_losses, present, shared)
        return weights * self._factor(norm, norm_of_sum, len(weights))

    @full_precision
    def _weigh_and_differentiate(
        self, task_losses: Tensor, present: Tensor, shared: list[Tensor], heads: list[Tensor]
    ) -> tuple[list[Tensor], list[bool], Sequence[Tensor | None], Tensor, CombinerInfo]:
        """Weighs the losses and takes the backward that `SMALLEST_WEIGHT` explains.

        Returns:
            the direction, by shared parameter; whether any loss depends on each of them; the
            backward's gradients, by head parameter, None where no loss depends on it;
            `head_factors` [K], which make of them what heads get; and the info.
        """
        weights = self._weights(task_losses, present)
        norm_of_sum = self._norm_of_sum(task_losses, present, shared)
        parts, of_heads, held = _backward(task_losses, weights, present, shared, heads)
        norm = _norm(parts, shared)
        if not norm.is_cuda and not norm.isfinite():
            raise NonFiniteError("gradient of the weighted sum", [])
        factor = self._factor(norm, norm_of_sum, len(weights))
        held = held.where(present, 1)
        head_factors = weights / held * factor if self.weighted_heads else 1 / held
        unknown = torch.full_like(weights, float("nan"))
        info = CombinerInfo(
            weights=weights * factor,
            residual=weights.new_zeros(()),
            cosines=unknown.unsqueeze(1) * unknown,
            conflicts=unknown[0],
            gradient_norms=unknown,
            direction_norm=norm * factor,
        )
        direction = [
            (part * factor.to(part.dtype)).to(parameter.dtype)
            for part, parameter in zip(zero_if_none(parts, shared), shared, strict=True)
        ]
        return direction, [part is not None for part in parts], of_heads, head_factors, info

    def _weights(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return self.weigh(at_least_float32(task_losses.detach()), present).where(present, 0)

    def _norm_of_sum(self, task_losses: Tensor, present: Tensor, shared: list[Tensor]) -> Tensor:
        """The norm [] of Σ g_i; NaN unless scale="norm" needs it."""
        if self.scale != "norm":
            return at_least_float32(task_losses.detach()).new_full((), float("nan"))
        gradients = weighted_gradients(task_losses, present, shared, keep_graph=True)
        return _norm(gradients, shared)

    def _differentiate_parameter_loss(self, task_losses: Tensor, present: Tensor) -> None:
        """Adds to `.grad` of the method's own parameters."""
        with torch.enable_grad():
            loss = self.parameter_loss(at_least_float32(task_losses.detach()), present)
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if loss is None or not parameters:
            return
        accumulate(parameters, torch.autograd.grad(loss, parameters))


def _backward(
    task_losses: Tensor,
    weights: Tensor,
    present: Tensor,
    shared: list[Tensor],
    heads: list[Tensor],
    *,
    keep_graph: bool = False,
) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None], Tensor]:
    """Differentiates the weighted loss.

    Returns:
        its gradients, by shared parameter and by head parameter, None where no loss depends on it;
        and the weights [K] in the latter.
    """
    if torch.float16 in {tensor.dtype for tensor in (task_losses, *shared, *heads)}:
        return _float16_backward(task_losses, weights, present, shared, heads, keep_graph)
    held = weights.clamp(min=SMALLEST_WEIGHT).where(present, 0)
    gradients = weighted_gradients(task_losses, held, [*shared, *heads], keep_graph=keep_graph)
    return gradients[: len(shared)], gradients[len(shared) :], held


def _float16_backward(
    task_losses: Tensor,
    weights: Tensor,
    present: Tensor,
    shared: list[Tensor],
    heads: list[Tensor],
    keep_graph: bool,
) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None], Tensor]:
    """As `_backward`, where weights and w_k g_k may be beyond float16's range, 6e-8 to 65504.

    The largest weight is taken out of the direction's backward, and heads get one without weights.
    """
    largest = weights.max().where(weights.max() > 0, 1)
    keep_first = keep_graph or bool(heads)
    parts = weighted_gradients(task_losses, weights / largest, shared, keep_graph=keep_first)
    of_heads: tuple[Tensor | None, ...] = ()
    if heads:
        of_heads = weighted_gradients(task_losses, present, heads, keep_graph=keep_graph)
    of_shared = [None if part is None else at_least_float32(part) * largest for part in parts]
    return of_shared, of_heads, present.to(weights)


def _norm(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    return total_norm(map(at_least_float32, zero_if_none(gradients, parameters)))


def _mask(present: Tensor | None, task_losses: Tensor) -> Tensor:
    if present is None:
        return torch.ones_like(task_losses, dtype=torch.bool)
    check_present(present, task_losses)
    return present


def _times(gradient: Tensor, factor: Tensor) -> Tensor:
    """The product in the gradient's dtype; float16 may hold it, but not the factor."""
    wide = at_least_float32(gradient)
    return (wide * factor.to(wide.dtype)).to(gradient.dtype)
