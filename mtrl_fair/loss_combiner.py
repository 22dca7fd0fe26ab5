"""Methods that need the task losses only: one backward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mtrl_fair.combiner import (
    Aggregate,
    Combiner,
    CombinerInfo,
    accumulate,
    check_present,
    total_norm,
    weighted_sum,
)
from mtrl_fair.solver import NonFiniteError

SMALLEST_WEIGHT = 1e-20  # keeps a head's gradient recoverable from that of the weighted sum


class LossBoundError(ValueError):
    """A loss is not above the lower bound that the method was given."""


class LossCombiner(Combiner):
    """A weighted sum of the task losses, with weights from their values.

    `backward` takes one backward (two with scale="norm") and `scalarize` none.
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

    def backward(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        task_parameters: Sequence[Iterable[Tensor]] | None = None,
        present: Tensor | None = None,
    ) -> CombinerInfo:
        shared, own = self._check_parameters(task_losses, shared_parameters, task_parameters)
        present = self._all_present(task_losses, present)
        losses = task_losses.detach()
        weights = self._weigh_present(losses, present)
        norm_of_sum = None
        if self.scale == "norm":
            norm_of_sum = total_norm(_gradients(task_losses, torch.ones_like(losses), shared, True))
        safe = weights.clamp(min=SMALLEST_WEIGHT).where(present, 0)
        heads = [parameter for parameters in own for parameter in parameters]
        gradients = _gradients(task_losses, safe, [*shared, *heads], False)
        norm = total_norm(gradients[: len(shared)])
        if not norm.is_cuda and not norm.isfinite():
            raise NonFiniteError("gradient of the weighted sum", [])
        self._train(losses, present)
        factor = self._factor(norm, norm if norm_of_sum is None else norm_of_sum, len(losses))
        for parameter, gradient in zip(shared, gradients[: len(shared)], strict=True):
            accumulate(parameter, gradient * factor.to(gradient.dtype))
        undo = (factor if self.weighted_heads else 1 / safe.where(present, 1)).expand(len(losses))
        remaining = iter(gradients[len(shared) :])
        for k, parameters in enumerate(own):
            for parameter in parameters:
                gradient = next(remaining)
                accumulate(parameter, gradient * undo[k].to(gradient.dtype))
        unseen = weights.new_full(weights.shape, float("nan"))
        return CombinerInfo(
            weights=weights * factor,
            residual=weights.new_zeros(()),
            cosines=unseen.unsqueeze(1) * unseen,
            conflicts=unseen[0],
            gradient_norms=unseen,
            direction_norm=norm * factor,
        )

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
            norm_of_sum = total_norm(_gradients(task_losses, torch.ones_like(losses), shared, True))
            weights = weights * self._factor(norm, norm_of_sum, len(losses))
        elif self.scale == "tasks":
            weights = weights * len(losses)
        scalar = weights @ task_losses
        own_loss = self.own_loss(losses, present)
        return scalar if own_loss is None else scalar + own_loss - own_loss.detach()

    def _weigh_present(self, task_losses: Tensor, present: Tensor) -> Tensor:
        return self.weigh(task_losses, present).where(present, 0)

    def _all_present(self, task_losses: Tensor, present: Tensor | None) -> Tensor:
        if present is None:
            return torch.ones_like(task_losses, dtype=torch.bool)
        return check_present(present, task_losses)

    def _train(self, task_losses: Tensor, present: Tensor) -> None:
        with torch.enable_grad():
            own_loss = self.own_loss(task_losses, present)
        if own_loss is None:
            return
        parameters = list(self.parameters())
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
