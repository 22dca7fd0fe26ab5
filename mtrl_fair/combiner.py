"""What every combiner does: per-task losses or gradients in, one update direction out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from mtrl_fair.names import check_name
from mtrl_fair.scale import Scale, scale_factor
from mtrl_fair.solver import NonFiniteError, check_gramian

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
        weights, _ = self._present_weights(gramian)
        squared_norm = (weights.unsqueeze(-2) @ gramian @ weights.unsqueeze(-1)).squeeze(-1)
        squared_sum = gramian.sum((-2, -1)).unsqueeze(-1)
        factor = scale_factor(
            self.scale, gramian.shape[-1], _root(squared_norm), _root(squared_sum)
        )
        return weights * factor

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
            ValueError: shapes that do not fit.
            NonFiniteError: a loss or gradient is not finite; it names the tasks. Not on CUDA, where
                looking would make the host wait: look at `info.gradient_norms` there.
        """
        named = task_gradients if isinstance(task_gradients, dict) else {"": task_gradients}
        if not named or any(g.ndim < 2 or not g.is_floating_point() for g in named.values()):
            raise ValueError(
                "task gradients must be floating-point tensors [K, P] or [K, *shape], got"
                f" {[(list(g.shape), g.dtype) for g in named.values()]}"
            )
        # Half-precision products would overflow; the combination returns to the gradients' dtype.
        rows = {
            name: gradient.flatten(1).to(torch.promote_types(gradient.dtype, torch.float32))
            for name, gradient in named.items()
        }
        self._check(rows, task_losses)
        gramian = torch.stack([row @ row.mT for row in rows.values()]).sum(0)
        check_gramian(gramian)
        weights, residual = self._present_weights(gramian)
        parts = {name: weights.to(row.dtype) @ row for name, row in rows.items()}
        # Not from the Gramian: w' A w cancels where gradients conflict strongly.
        norm = norm_of_sum = _norm(parts.values())
        if self.scale == "norm":
            norm_of_sum = _norm(row.sum(0) for row in rows.values())
        factor = scale_factor(self.scale, len(task_losses), norm, norm_of_sum)
        direction = {
            name: (part * factor).to(named[name].dtype).view(named[name].shape[1:])
            for name, part in parts.items()
        }
        norms = _root(gramian.diagonal())
        product = norms.unsqueeze(1) * norms
        cosines = torch.where(product > 0, gramian / product.where(product > 0, 1), 0)
        info = CombinerInfo(
            weights=weights * factor,
            residual=residual,
            cosines=cosines,
            conflicts=cosines.triu(1).lt(0).sum(),
            gradient_norms=norms,
            direction_norm=norm * factor,
        )
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
            shared_parameters: the parameters that several tasks use; frozen ones are left out.
            task_parameters: K collections, the parameters that only task k uses (its head).

        Raises:
            ValueError: shapes that do not fit.
            NonFiniteError: as in `combine`. No `.grad` has changed then.
        """
        _check_losses(task_losses)
        shared = _trainable(shared_parameters)
        own = [_trainable(parameters) for parameters in task_parameters or [()] * len(task_losses)]
        if {id(p) for p in shared} & {id(p) for parameters in own for p in parameters}:
            raise ValueError(
                "a parameter is both shared and a task's own: give it to shared_parameters only"
            )
        if len(own) != len(task_losses):
            raise ValueError(
                f"task_parameters has {len(own)} collections for {len(task_losses)} task losses:"
                " give one per task, empty ones included"
            )
        task_gradients, own_gradients = _loop(task_losses, shared, own, keep_graph=False)
        direction, info = self.combine(task_gradients, task_losses.detach())
        for parameter, gradient in zip(shared, direction.values(), strict=True):
            _accumulate(parameter, gradient)
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

        Raises:
            ValueError, NonFiniteError: as in `backward`.
        """
        _check_losses(task_losses)
        task_gradients, _ = _loop(
            task_losses, _trainable(shared_parameters), [()] * len(task_losses), keep_graph=True
        )
        _, info = self.combine(task_gradients, task_losses.detach())
        return info.weights.to(task_losses.dtype) @ task_losses

    def after_step(self, task_losses: Tensor) -> None:
        """A second look at the losses, [K], after the optimiser step. Only some methods use it."""

    def _present_weights(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        """The method's weights, 0 for tasks without a gradient, and its residual."""
        weights, residual = self.solve(gramian)
        return weights.where(gramian.diagonal(dim1=-2, dim2=-1) > 0, 0), residual

    def _check(self, rows: dict[str, Tensor], task_losses: Tensor) -> None:
        _check_losses(task_losses)
        self._check_num_tasks(len(task_losses))
        if any(len(row) != len(task_losses) for row in rows.values()):
            raise ValueError(
                f"{len(task_losses)} task losses do not fit task gradients with"
                f" {sorted({len(row) for row in rows.values()})} rows: one of each per task"
            )
        if not task_losses.is_cuda and not task_losses.isfinite().all():
            raise NonFiniteError("loss", (~task_losses.isfinite()).nonzero().flatten().tolist())

    def _check_num_tasks(self, number: int) -> None:
        if self.num_tasks is not None and number != self.num_tasks:
            raise ValueError(
                f"{number} tasks arrived, but this combiner was made for {self.num_tasks}"
            )


def _check_losses(task_losses: Tensor) -> None:
    if not isinstance(task_losses, Tensor) or task_losses.ndim != 1:
        found = list(task_losses.shape) if isinstance(task_losses, Tensor) else type(task_losses)
        raise ValueError(f"task losses must be one tensor [K], got {found}: stack them")


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise ValueError(
            f"parameters must be a collection of tensors such as module.parameters(), got"
            f" {type(parameters).__name__}"
        )
    found = list(parameters)
    for parameter in found:
        if not isinstance(parameter, Tensor):
            raise ValueError(
                f"parameters must be tensors, got {type(parameter).__name__}: use"
                " module.parameters()"
            )
    if len({id(parameter) for parameter in found}) < len(found):
        raise ValueError("a parameter is given twice: give each once")
    return [parameter for parameter in found if parameter.requires_grad]


def _loop(
    task_losses: Tensor,
    shared: list[Tensor],
    own: Sequence[Sequence[Tensor]],
    keep_graph: bool,
) -> tuple[dict[str, Tensor], list[list[Tensor]]]:
    """Task gradients [K, *shape] of the shared parameters, by position, and those of the heads."""
    if not task_losses.requires_grad:
        raise ValueError("the task losses have no graph: compute them with gradients enabled")
    if not shared:
        raise ValueError("no shared parameters that require a gradient: give the common trunk's")
    rows, own_gradients = [], []
    last = len(task_losses) - 1
    for k, loss in enumerate(task_losses):
        gradients = torch.autograd.grad(
            loss,
            [*shared, *own[k]],
            retain_graph=keep_graph or k < last,
            allow_unused=True,
            materialize_grads=True,
        )
        rows.append(gradients[: len(shared)])
        own_gradients.append(list(gradients[len(shared) :]))
    columns = zip(*rows, strict=True)
    return {str(i): torch.stack(column) for i, column in enumerate(columns)}, own_gradients


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.detach().clone()
    else:
        parameter.grad += gradient


def _root(squared: Tensor) -> Tensor:
    return squared.clamp(min=0).sqrt()


def _norm(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(part) for part in parts]).norm()
