"""Methods that need the task losses only: one backward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl_fair.checks import check_head_gradients, check_present
from mtrl_fair.combiners.base import (
    Aggregate,
    Combiner,
    CombinerInfo,
    Differentiated,
    accumulate,
    full_precision,
    weighted_loss,
)
from mtrl_fair.errors import LossBoundError, NonFiniteError
from mtrl_fair.gradients.gramian import per_row, total_norm, weighted_sum
from mtrl_fair.gradients.per_task import (
    TaskLossFn,
    check_parameters,
    count_tasks,
    detach,
    head_leaves,
    losses_of,
)

SMALLEST_WEIGHT = 1e-20  # keeps a head's gradient recoverable from that of the weighted sum


class LossCombiner(Combiner):
    """A weighted sum of the task losses, with weights from their values.

    `backward` takes one backward, two with scale="norm". `scalarize` takes none besides that of its
    user, one with `max_norm`, two with scale="norm".
    """

    @abstractmethod
    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        """Weights [K] for losses [K]; advances the method's state by one step.

        Args:
            task_losses: detached.
            present: [K] (bool).
        """

    def own_loss(self, task_losses: Tensor, present: Tensor) -> Tensor | None:
        """The loss [] of the method's own parameters, if it has any."""
        return None

    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        weights = self._weigh_present(task_losses, present)
        self._train(task_losses, present)
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
        """As `Combiner.differentiate`, in one ordinary backward, for which `out` is not needed.

        As in `backward`, a task whose gradient happens to be zero counts like any other; `combine`
        gives it weight 0.
        """
        num_tasks = count_tasks(batch)
        check_parameters(parameters, task_parameters, num_tasks)
        shared = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        own = head_leaves(task_parameters)
        with torch.enable_grad():
            output = task_loss_fn({**shared, **own}, batch)
        losses = losses_of(output, has_aux, num_tasks)
        self._check_losses(losses)
        direction, heads, head_factor, info = self._combined(
            losses, None, list(shared.values()), list(own.values())
        )
        self._train(losses.detach(), self._all_present(losses, None))
        rows = [gradient * per_row(head_factor, gradient) for gradient in heads]
        return Differentiated(
            detach(output),
            dict(zip(shared, direction, strict=True)),
            dict(zip(own, rows, strict=True)),
            info,
        )

    @full_precision
    def backward(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        task_parameters: Sequence[Iterable[Tensor]] | None = None,
        present: Tensor | None = None,
    ) -> CombinerInfo:
        shared, own = self._check_parameters(task_losses, shared_parameters, task_parameters)
        direction, heads, head_factor, info = self._combined(
            task_losses, present, shared, [parameter for part in own for parameter in part]
        )
        remaining = iter(heads)
        own_gradients = [
            [next(remaining) * head_factor[k] for _ in part] for k, part in enumerate(own)
        ]
        check_head_gradients(own_gradients)
        self._train(task_losses.detach(), self._all_present(task_losses, present))
        for parameter, gradient in zip(shared, direction, strict=True):
            accumulate(parameter, gradient)
        for parameters, gradients in zip(own, own_gradients, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                accumulate(parameter, gradient.to(parameter.dtype))
        return info

    @full_precision
    def _combined(
        self,
        task_losses: Tensor,
        present: Tensor | None,
        shared: Sequence[Tensor],
        heads: Sequence[Tensor],
    ) -> tuple[list[Tensor], tuple[Tensor, ...], Tensor, CombinerInfo]:
        """The direction, the heads' gradients of the weighted loss, and their factors [K]."""
        present = self._all_present(task_losses, present)
        losses = task_losses.detach()
        weights = self._weigh_present(losses, present)
        norm_of_sum = self._norm_of_sum(task_losses, present, shared)
        safe = weights.clamp(min=SMALLEST_WEIGHT).where(present, 0)
        gradients = _gradients(task_losses, safe, [*shared, *heads], False)
        norm = total_norm(gradients[: len(shared)])
        if not norm.is_cuda and not norm.isfinite():
            raise NonFiniteError("gradient of the weighted sum", [])
        factor = self._factor(norm, norm_of_sum, len(losses))
        undo = factor if self.weighted_heads else 1 / safe.where(present, 1)
        unseen = weights.new_full(weights.shape, float("nan"))
        info = CombinerInfo(
            weights=weights * factor,
            residual=weights.new_zeros(()),
            cosines=unseen.unsqueeze(1) * unseen,
            conflicts=unseen[0],
            gradient_norms=unseen,
            direction_norm=norm * factor,
        )
        direction = [gradient * factor.to(gradient.dtype) for gradient in gradients[: len(shared)]]
        return direction, gradients[len(shared) :], undo.expand(len(losses)), info

    @full_precision
    def scalarize(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        shared, _ = self._check_parameters(task_losses, shared_parameters, None)
        present = self._all_present(task_losses, present)
        losses = task_losses.detach()
        weights = self._weigh_present(losses, present)
        if self.scale == "norm" or self.max_norm is not None:
            norm = total_norm(_gradients(task_losses, weights, shared, True))
            norm_of_sum = self._norm_of_sum(task_losses, present, shared)
            factor = self._factor(norm, norm_of_sum, len(losses))
            weights = weights * factor
        elif self.scale == "tasks":
            weights = weights * len(losses)
        scalar = weighted_loss(weights, task_losses)
        own_loss = self.own_loss(losses, present)
        return scalar if own_loss is None else scalar + own_loss - own_loss.detach()

    def _weigh_present(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return self.weigh(task_losses, present).where(present, 0)

    def _norm_of_sum(
        self, task_losses: Tensor, present: Tensor, shared: Sequence[Tensor]
    ) -> Tensor:
        """The norm [] of Σ g_i; NaN unless scale="norm" needs it."""
        if self.scale != "norm":
            return task_losses.new_full((), float("nan")).detach()
        ones = present.to(task_losses.dtype)
        return total_norm(_gradients(task_losses, ones, shared, True))

    def _all_present(self, task_losses: Tensor, present: Tensor | None) -> Tensor:
        if present is None:
            return torch.ones_like(task_losses, dtype=torch.bool)
        check_present(present, task_losses)
        return present

    def _train(self, task_losses: Tensor, present: Tensor) -> None:
        with torch.enable_grad():
            own_loss = self.own_loss(task_losses, present)
        if own_loss is None:
            return
        parameters = [p for p in self.parameters() if p.requires_grad]
        if not parameters:
            return
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(own_loss, parameters), strict=True
        ):
            accumulate(parameter, gradient)


def _gradients(
    task_losses: Tensor, weights: Tensor, parameters: Sequence[Tensor], keep_graph: bool
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        task_losses,
        list(parameters),
        weights.to(task_losses.dtype),
        retain_graph=keep_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def excess_losses(method: str, task_losses: Tensor, min_loss: float, present: Tensor) -> Tensor:
    """ℓ - min_loss, [K], whose logarithm or reciprocal the method takes.

    Raises:
        LossBoundError: a present task's is not positive. On CUDA it is NaN instead, because looking
            would make the host wait for the device.
    """
    excess = task_losses - min_loss
    if not task_losses.is_cuda:
        wrong = (present & ~(excess > 0)).nonzero().flatten().tolist()
        if wrong:
            values = ", ".join(f"task {k} has {task_losses[k]:.4g}" for k in wrong)
            raise LossBoundError(
                f"{method} needs losses above min_loss = {min_loss:g}, but {values}: give a"
                " min_loss that no loss reaches"
            )
    return excess.where(excess > 0, float("nan"))
