"""What every combiner does: per-task losses or gradients in, one update direction out."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor, nn

from mtrl_fair.checks import (
    check_gramian,
    check_head_gradients,
    check_name,
    check_present,
    check_task_gradients,
    trainable_parameters,
)
from mtrl_fair.combiners.randomness import Randomness
from mtrl_fair.combiners.scale import Scale, scale_factor
from mtrl_fair.errors import NonFiniteError
from mtrl_fair.gradients.gramian import (
    at_least_float32,
    gramian_of,
    per_row,
    total_norm,
    upcast_if_small,
)
from mtrl_fair.gradients.per_task import TaskLossFn, split_rows, task_losses_and_gradients

Gradients = TypeVar("Gradients", Tensor, dict[str, Tensor])
P = ParamSpec("P")
Result = TypeVar("Result")


def full_precision(function: Callable[P, Result]) -> Callable[P, Result]:
    """Leaves autocast for the time of a call: Gramians and weights need float32."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Result:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return wrapper


class CombinerInfo(NamedTuple):
    """What a combiner saw and decided, as detached tensors ready to be logged.

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
    """[K]"""
    direction_norm: Tensor
    """[]"""


class Aggregate(NamedTuple):
    """What a method made of the task gradients, before `scale` and `max_norm`."""

    direction: dict[str, Tensor]
    """By name, [P]."""
    weights: Tensor
    """[K]"""
    residual: Tensor
    """[]"""


class Differentiated(NamedTuple):
    """What `Combiner.differentiate` returns."""

    output: Any
    """What the loss function returned, detached."""
    direction: dict[str, Tensor]
    """By name, [*shape]: the combined direction for the shared parameters."""
    head_gradients: dict[str, Tensor]
    """By name, [K, *shape]: the gradients of the task parameters."""
    info: CombinerInfo


class Combiner(nn.Module, ABC):
    """Turns K task losses or gradients into one direction for the parameters that tasks share.

    A method is of one of three kinds, by what it needs: `LossCombiner` (losses: one backward),
    `GramianCombiner` (inner products of the task gradients), `JacobianCombiner` (the gradients).
    All state is in buffers or parameters, and `state_dict` is complete.

    Args:
        num_tasks: K, checked against what arrives if given.
        scale: the length of the direction: "none" leaves it as solved, "tasks" multiplies it by K,
            "norm" gives it the norm of the summed gradient.
        max_norm: a longer direction is shortened to this norm; None leaves it.
        weighted_heads: whether `backward` gives each task's own parameters the gradient of the
            weighted loss, w_k g_k, instead of g_k.
    """

    capturable: bool = True
    """Whether a step can be captured in a CUDA graph: nothing waits for the device."""

    def __init__(
        self,
        *,
        num_tasks: int | None = None,
        scale: Scale = "none",
        max_norm: float | None = None,
        weighted_heads: bool = False,
    ):
        super().__init__()
        if num_tasks is not None and not (isinstance(num_tasks, int) and num_tasks >= 1):
            raise ValueError(
                f"num_tasks is {num_tasks}, but a combiner needs a whole number, at least 1 task"
            )
        check_name("scale", scale, get_args(Scale))
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm is {max_norm}, expected a positive number or None")
        self.num_tasks = num_tasks
        self.scale = scale
        self.max_norm = max_norm
        self.weighted_heads = weighted_heads

    @abstractmethod
    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        """The method itself.

        Args:
            rows: task gradients by name, [K, P]; large ones may be in half precision.
            gramian: [K, K], their inner products.
            task_losses: [K], detached.
            present: [K] (bool), the tasks that have a gradient.
        """

    @torch.no_grad()
    @full_precision
    def combine(
        self,
        task_gradients: Gradients,
        task_losses: Tensor,
        present: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> tuple[Gradients, CombinerInfo]:
        """The direction that the method makes of given task gradients.

        Args:
            task_gradients: [K, P], or a dict of [K, *shape] as `task_gradients` returns it.
            task_losses: [K].
            present: [K] (bool), as `task_mean` returns it. A task that is not present, or whose
                gradient is zero, gets weight 0.
            dtype: of the direction; None: that of the task gradients.

        Returns:
            The direction, [P] or a dict of [*shape], and a `CombinerInfo`.

        Raises:
            ValueError: shapes that do not fit.
            NonFiniteError: a loss or gradient is not finite; it names the tasks. Not on CUDA, where
                looking would make the host wait: look at `info.gradient_norms` there.
        """
        named = task_gradients if isinstance(task_gradients, dict) else {"": task_gradients}
        least = 1 if isinstance(task_gradients, dict) else 2
        check_task_gradients(named.values(), least)
        self._check_losses(task_losses)
        if any(len(gradient) != len(task_losses) for gradient in named.values()):
            raise ValueError(
                f"{len(task_losses)} task losses do not fit task gradients with"
                f" {sorted({len(gradient) for gradient in named.values()})} rows: one of each per"
                " task"
            )
        rows = upcast_if_small(
            {
                name: gradient.detach().reshape(len(task_losses), -1)
                for name, gradient in named.items()
            }
        )
        if present is not None:
            check_present(present, task_losses)
            rows = {name: row.where(present.unsqueeze(1), 0) for name, row in rows.items()}
        gramian = gramian_of(rows.values())
        check_gramian(gramian)
        present = gramian.diagonal() > 0
        parts, weights, residual = self.aggregate(rows, gramian, task_losses.detach(), present)
        # Not from the Gramian: w' A w cancels where gradients conflict strongly.
        norm = norm_of_sum = total_norm(parts.values())
        if self.scale == "norm":
            norm_of_sum = total_norm(at_least_float32(row).sum(0) for row in rows.values())
        factor = self._factor(norm, norm_of_sum, len(task_losses))
        if self.scale != "none" or self.max_norm is not None:
            parts = {name: part * factor for name, part in parts.items()}
        direction = {
            name: part.to(dtype or named[name].dtype).reshape(named[name].shape[1:])
            for name, part in parts.items()
        }
        norms = gramian.diagonal().sqrt()
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
        """The direction of a loss function laid out by task, for the price of about one backward.

        Args:
            task_loss_fn: (parameters, batch) -> task losses [K], or (task losses, aux) with
                `has_aux`; see `task_gradients`.
            parameters: shared parameters by name, each [*shape].
            batch: a pytree of tensors [K, B, …].
            task_parameters: parameters [K, *shape] whose row k only task k uses, such as heads.
            has_aux: whether task_loss_fn also returns something besides the losses.
            out: [K, P], where the task gradients may be kept, see `task_losses_and_gradients`.

        Returns:
            A `Differentiated`: (output, direction, head_gradients, info).

        Raises:
            ValueError, NonFiniteError: as in `combine`; the gradients of task parameters are not
                looked at.
        """
        output, gradients = task_losses_and_gradients(
            task_loss_fn, parameters, batch, task_parameters, has_aux=has_aux, out=out
        )
        losses = output[0] if has_aux else output
        if out is None:
            direction, info = self.combine({name: gradients[name] for name in parameters}, losses)
        else:
            dtype = torch.promote_types(out.dtype, torch.float32)
            joined, info = self.combine(out, losses, dtype=dtype)
            direction = {
                name: part.to(parameters[name].dtype)
                for name, part in split_rows(joined, parameters).items()
            }
        head_gradients = {name: gradients[name] for name in task_parameters or {}}
        if self.weighted_heads:
            head_gradients = {
                name: rows * per_row(info.weights, rows) for name, rows in head_gradients.items()
            }
        return Differentiated(output, direction, head_gradients, info)

    @full_precision
    def backward(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        task_parameters: Sequence[Iterable[Tensor]] | None = None,
        present: Tensor | None = None,
    ) -> CombinerInfo:
        """Replaces `loss.backward()`. Adds the combined direction to the `.grad` of the shared
        parameters, and each task's own gradient to the `.grad` of its task parameters (weighted
        only with `weighted_heads`).

        Args:
            task_losses: [K], with a graph.
            shared_parameters: the parameters that several tasks use; frozen ones are left out.
            task_parameters: K collections, the parameters that only task k uses (its head).
            present: [K] (bool), see `combine`.

        Raises:
            ValueError: shapes that do not fit.
            NonFiniteError: as in `combine`, and for heads. No `.grad` has changed then; the state
                of a method that keeps one may have advanced.
        """
        shared, own = self._check_parameters(task_losses, shared_parameters, task_parameters)
        task_gradients, own_gradients = _loop(task_losses, shared, own, keep_graph=False)
        check_head_gradients(own_gradients)
        direction, info = self.combine(task_gradients, task_losses.detach(), present)
        for parameter, gradient in zip(shared, direction.values(), strict=True):
            accumulate(parameter, gradient)
        for k, (parameters, gradients) in enumerate(zip(own, own_gradients, strict=True)):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                head_weight = info.weights[k].to(gradient.dtype) if self.weighted_heads else 1
                accumulate(parameter, gradient * head_weight)
        return info

    @full_precision
    def scalarize(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        """The scalar Σ w_i ℓ_i with detached weights, for code that keeps its `loss.backward()`.

        Task parameters then receive w_i g_i, not g_i as in `backward`.

        Args:
            task_losses: [K], with a graph, which stays usable.
            shared_parameters: the parameters whose task gradients decide the weights.
            present: [K] (bool), see `combine`.

        Raises:
            ValueError, NonFiniteError: as in `backward`.
            TypeError: the method is no weighted sum of task gradients.
        """
        shared, own = self._check_parameters(task_losses, shared_parameters, None)
        task_gradients, _ = _loop(task_losses, shared, own, keep_graph=True)
        _, info = self.combine(task_gradients, task_losses.detach(), present)
        return weighted_loss(info.weights, task_losses)

    def after_step(self, task_losses: Tensor) -> None:
        """A second look at the losses, [K], after the optimiser step. Only FAMO uses it."""

    def generators(self, device: torch.device) -> list[torch.Generator]:
        """The generators that the method draws from, on a device."""
        return [part.generator(device) for part in self.modules() if isinstance(part, Randomness)]

    @property
    def uses_after_step(self) -> bool:
        """Whether the method uses `after_step`, which costs another forward."""
        return type(self).after_step is not Combiner.after_step

    def _factor(self, norm: Tensor, norm_of_sum: Tensor, num_tasks: int) -> Tensor:
        return scale_factor(self.scale, self.max_norm, num_tasks, norm, norm_of_sum)

    def _check_losses(self, task_losses: Tensor) -> None:
        if not isinstance(task_losses, Tensor) or task_losses.ndim != 1:
            found = (
                list(task_losses.shape) if isinstance(task_losses, Tensor) else type(task_losses)
            )
            raise ValueError(f"task losses must be one tensor [K], got {found}: stack them")
        self._check_num_tasks(len(task_losses))
        if not task_losses.is_cuda and not task_losses.isfinite().all():
            raise NonFiniteError("loss", (~task_losses.isfinite()).nonzero().flatten().tolist())

    def _check_num_tasks(self, number: int) -> None:
        if self.num_tasks is not None and number != self.num_tasks:
            raise ValueError(
                f"{number} tasks arrived, but this combiner was made for {self.num_tasks}"
            )

    def _check_parameters(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        task_parameters: Sequence[Iterable[Tensor]] | None,
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        self._check_losses(task_losses)
        return trainable_parameters(task_losses, shared_parameters, task_parameters)


@full_precision
def weighted_loss(weights: Tensor, task_losses: Tensor) -> Tensor:
    """Σ w_i ℓ_i, at least in float32, which holds weights that half precision does not."""
    return weights @ task_losses.to(torch.promote_types(weights.dtype, task_losses.dtype))


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Adds to `.grad`, as backward does."""
    if parameter.grad is None:
        parameter.grad = gradient.detach().clone()
    else:
        parameter.grad += gradient


def _loop(
    task_losses: Tensor,
    shared: list[Tensor],
    own: Sequence[Sequence[Tensor]],
    keep_graph: bool,
) -> tuple[dict[str, Tensor], list[list[Tensor]]]:
    """Task gradients [K, *shape] of the shared parameters, by position, and those of the heads."""
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
