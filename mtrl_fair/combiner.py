"""What every combiner does: per-task losses or gradients in, one update direction out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from mtrl_fair.names import check_name
from mtrl_fair.scale import Scale, scaled_weights
from mtrl_fair.solver import NonFiniteError

Gradients = TypeVar("Gradients", Tensor, dict[str, Tensor])


class CombinerInfo(NamedTuple):
    """What a combiner saw and decided, as detached tensors ready to be logged."""

    weights: Tensor
    """[K], the coefficients of the task gradients in the direction, `scale` included."""
    residual: Tensor
    """[], the relative residual of the method's own equation; 0 for methods that solve none."""
    cosines: Tensor
    """[K, K], between task gradients; 0 where a gradient vanishes."""
    conflicts: Tensor
    """[], the number of task pairs with a negative cosine."""
    gradient_norms: Tensor
    """[K]"""
    direction_norm: Tensor
    """[]"""


class Combiner(nn.Module, ABC):
    """Turns K task gradients into one direction: their sum, weighted by weights from the Gramian.

    A subclass computes the weights in `solve`. All state is in buffers or parameters, so that
    `state_dict` is complete.

    Args:
        num_tasks: K, checked against what arrives if given.
        scale: the length of the direction: "none" leaves it as solved, "tasks" multiplies it by K,
            "norm" gives it the norm of the summed gradient.
    """

    def __init__(self, *, num_tasks: int | None = None, scale: Scale = "none"):
        super().__init__()
        if num_tasks is not None and num_tasks < 1:
            raise ValueError(f"num_tasks is {num_tasks}, but a combiner needs at least 1 task")
        check_name("scale", scale, get_args(Scale))
        self.num_tasks = num_tasks
        self.scale = scale

    @abstractmethod
    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [K] for a Gramian [K, K], and the residual [] of the equation they solve."""

    def forward(self, gramian: Tensor) -> Tensor:
        """Task weights [..., K] for a Gramian [..., K, K], `scale` included."""
        self._check_num_tasks(gramian.shape[-1])
        return scaled_weights(gramian, self.solve(gramian)[0], self.scale)

    def combine(
        self, task_gradients: Gradients, task_losses: Tensor
    ) -> tuple[Gradients, CombinerInfo]:
        """The direction Σ w_i g_i of given task gradients.

        Args:
            task_gradients: [K, P], or a dict of [K, *shape] as `task_gradients` returns it.
            task_losses: [K].

        Returns:
            The direction, [P] or a dict of [*shape], and a `CombinerInfo`.

        Raises:
            NonFiniteError: a loss or (on CPU) a gradient is not finite; it names the tasks.
        """
        named = task_gradients if isinstance(task_gradients, dict) else {"": task_gradients}
        rows = [gradient.flatten(1) for gradient in named.values()]
        info = self._info(rows, task_losses)
        flat = [info.weights.to(row.dtype) @ row for row in rows]
        direction = {
            name: part.view(gradient.shape[1:])
            for (name, gradient), part in zip(named.items(), flat, strict=True)
        }
        return (direction if isinstance(task_gradients, dict) else direction[""]), info

    def backward(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        task_parameters: Sequence[Iterable[Tensor]] | None = None,
    ) -> CombinerInfo:
        """Replaces `loss.backward()`. Adds the combined direction to the `.grad` of the shared
        parameters, and each task's own, unweighted gradient to the `.grad` of its task parameters.

        Args:
            task_losses: [K], with a graph.
            shared_parameters: the parameters that several tasks use.
            task_parameters: K collections, the parameters that only task k uses (its head).

        Raises:
            ValueError: shapes that do not fit.
            NonFiniteError: a loss or (on CPU) a gradient is not finite. No `.grad` has changed.
        """
        shared = list(shared_parameters)
        own = [list(parameters) for parameters in task_parameters or [()] * len(task_losses)]
        if len(own) != len(task_losses):
            raise ValueError(
                f"task_parameters has {len(own)} collections for {len(task_losses)} task losses:"
                " give one per task, empty ones included"
            )
        jacobian, own_gradients = _jacobian(task_losses, shared, own, keep_graph=False)
        direction, info = self.combine(jacobian, task_losses.detach())
        parts = direction.split([parameter.numel() for parameter in shared])
        for parameter, part in zip(shared, parts, strict=True):
            _accumulate(parameter, part.view_as(parameter))
        for parameters, gradients in zip(own, own_gradients, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                _accumulate(parameter, gradient)
        return info

    def scalarize(self, task_losses: Tensor, shared_parameters: Iterable[Tensor]) -> Tensor:
        """The scalar Σ w_i ℓ_i with detached weights, for code that keeps its `loss.backward()`.

        Task parameters then receive w_i g_i, not g_i as in `backward`.

        Args:
            task_losses: [K], with a graph, which stays usable.
            shared_parameters: the parameters whose task gradients decide the weights.
        """
        shared = list(shared_parameters)
        jacobian, _ = _jacobian(task_losses, shared, [()] * len(task_losses), keep_graph=True)
        weights = self._info([jacobian], task_losses.detach()).weights
        return weights.to(task_losses.dtype) @ task_losses

    def after_step(self, task_losses: Tensor) -> None:
        """A second look at the losses, [K], after the optimiser step. Only some methods use it."""

    def _info(self, rows: list[Tensor], task_losses: Tensor) -> CombinerInfo:
        self._check_num_tasks(len(task_losses))
        if task_losses.ndim != 1 or any(len(row) != len(task_losses) for row in rows):
            raise ValueError(
                f"task losses of shape {list(task_losses.shape)} do not fit task gradients with"
                f" {[len(row) for row in rows]} rows: one loss and one row per task"
            )
        if not task_losses.is_cuda and not task_losses.isfinite().all():
            raise NonFiniteError("loss", (~task_losses.isfinite()).nonzero().flatten().tolist())
        gramian = sum((row @ row.mT for row in rows), start=rows[0].new_zeros(()))
        solution, residual = self.solve(gramian)
        weights = scaled_weights(gramian, solution, self.scale)
        norms = gramian.diagonal().clamp(min=0).sqrt()
        product = norms[:, None] * norms
        cosines = torch.where(product > 0, gramian / product.where(product > 0, 1), 0)
        return CombinerInfo(
            weights=weights,
            residual=residual,
            cosines=cosines,
            conflicts=cosines.triu(1).lt(0).sum(),
            gradient_norms=norms,
            direction_norm=(weights @ gramian @ weights).clamp(min=0).sqrt(),
        )

    def _check_num_tasks(self, number: int) -> None:
        if self.num_tasks is not None and number != self.num_tasks:
            raise ValueError(
                f"{number} tasks arrived, but this combiner was made for {self.num_tasks}"
            )


def _jacobian(
    task_losses: Tensor,
    shared: list[Tensor],
    own: Sequence[Sequence[Tensor]],
    keep_graph: bool,
) -> tuple[Tensor, list[list[Tensor]]]:
    if not shared:
        raise ValueError("no shared parameters: give the parameters that several tasks use")
    rows, own_gradients = [], []
    last = len(task_losses) - 1
    for k, loss in enumerate(task_losses):
        inputs = [*shared, *own[k]]
        gradients = torch.autograd.grad(
            loss,
            inputs,
            retain_graph=keep_graph or k < last,
            allow_unused=True,
            materialize_grads=True,
        )
        rows.append(torch.cat([gradient.flatten() for gradient in gradients[: len(shared)]]))
        own_gradients.append(list(gradients[len(shared) :]))
    return torch.stack(rows), own_gradients


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.detach().clone()
    else:
        parameter.grad += gradient
