"""What every combiner does: per-task losses or gradients in, one update direction out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from mtrl_fair.checks import (
    check_gradient_rows,
    check_gramian,
    check_head_gradients,
    check_integer,
    check_name,
    check_positive,
    check_present,
    check_task_losses,
    trainable_parameters,
)
from mtrl_fair.combiners.autograd import (
    accumulate,
    direction_like,
    flat_rows,
    full_precision,
    gradients_of_each_task,
    only_used,
    weighted_loss,
)
from mtrl_fair.combiners.outputs import Aggregate, CombinerInfo, Differentiated
from mtrl_fair.combiners.randomness import Randomness
from mtrl_fair.combiners.scale import Scale, scale_factor, scaled_aggregate
from mtrl_fair.gradients.gramian import gramian_of, per_row
from mtrl_fair.gradients.per_task import TaskLossFn, split_rows, task_losses_and_gradients

Gradients = TypeVar("Gradients", Tensor, dict[str, Tensor])


class Combiner(nn.Module, ABC):
    """Turns K task losses or gradients into one direction for the parameters that tasks share.

    A method is of one of three kinds, by what it needs: `LossCombiner` (losses: one backward),
    `GramianCombiner` (inner products of the task gradients), `JacobianCombiner` (the gradients).
    Their docstrings show how to write a method. If it needs both losses and gradients, subclass
    this class; `Aggregate` has an example. All state is in buffers or parameters, and
    `state_dict` is complete.

    Args:
        num_tasks: K, checked against what arrives if given.
        scale: the length of the direction: "none" leaves it as solved, "tasks" multiplies it by K,
            "norm" gives it the norm of the summed gradient.
        max_norm: a longer direction is shortened to this norm; None leaves it.
        weighted_heads: whether `backward` and `differentiate` give each task's own parameters the
            gradient of the weighted loss, w_k g_k, instead of g_k.
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
        check_integer("num_tasks", num_tasks, 1)
        check_name("scale", scale, get_args(Scale))
        check_positive("max_norm", max_norm)
        self.num_tasks = num_tasks
        self.scale = scale
        self.max_norm = max_norm
        self.weighted_heads = weighted_heads

    @abstractmethod
    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        """Applies the method itself, before `scale` and `max_norm`.

        Args:
            rows: task gradients by name, [K, P]; large ones may be in half precision.
            gramian: [K, K], their inner products, at least in float32.
            task_losses: [K], detached.
            present: [K] (bool), the tasks that have a gradient; the others must get weight 0.
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
        """Returns the direction that the method makes of given task gradients.

        >>> from mtrl_fair import MGDA
        >>> task_gradients = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> direction, info = MGDA().combine(task_gradients, task_losses=torch.ones(2))
        >>> print(direction, info.weights, info.conflicts)
        tensor([0.4000, 0.8000]) tensor([0.2000, 0.8000]) tensor(0)

        Args:
            task_gradients: [K, P], or a dict of [K, *shape] as `task_gradients` returns it. Complex
                ones are taken as pairs of real numbers.
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
        check_task_losses(task_losses, self.num_tasks)
        check_gradient_rows(task_gradients, task_losses)
        rows = flat_rows(named, task_losses, present)
        gramian = gramian_of(rows.values())
        check_gramian(gramian)
        solved = self.aggregate(rows, gramian, task_losses.detach(), gramian.diagonal() > 0)
        scaled, norm = scaled_aggregate(solved, rows, self.scale, self.max_norm)
        direction = {
            name: direction_like(part, named[name], dtype)
            for name, part in scaled.direction.items()
        }
        info = CombinerInfo.of(gramian, scaled, norm)
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
        """Returns the direction of a loss function laid out by task, for about one backward.

        A method of losses takes one ordinary backward and does not need `out`; like `backward`, and
        unlike `combine`, it counts a task whose gradient happens to be zero.

        >>> from mtrl_fair import FairGrad
        >>> parameters = {"w": torch.tensor([[1.0], [1.0]])}
        >>> def task_losses(parameters, batch):  # batch: [task, sample, feature]
        ...     return (batch @ parameters["w"]).square().mean((1, 2))
        >>> batch = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
        >>> losses, direction, _, info = FairGrad().differentiate(task_losses, parameters, batch)
        >>> print(losses, direction["w"].flatten(), info.gradient_norms)
        tensor([1., 4.]) tensor([0.7937, 0.5000]) tensor([2., 8.])

        Args:
            task_loss_fn: (parameters, batch) -> task losses [K], or (task losses, aux) with
                `has_aux`; see `task_gradients`.
            parameters: shared parameters by name, each [*shape].
            batch: a pytree of tensors [K, B, …].
            task_parameters: parameters [K, *shape] whose row k only task k uses, such as heads.
            has_aux: whether task_loss_fn also returns something besides the losses.
            out: [K, P], where the task gradients may be kept, see `task_losses_and_gradients`.

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
            flat, info = self.combine(out, losses, dtype=dtype)
            parts = split_rows(flat, parameters)
            direction = {name: part.to(parameters[name].dtype) for name, part in parts.items()}
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
        """Adds the direction to the `.grad` of shared parameters, in place of `loss.backward()`.

        Each task's own gradient g_k is added to the `.grad` of its task parameters; w_k g_k only
        with `weighted_heads`.

        >>> from mtrl_fair import FairGrad
        >>> trunk, head = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> losses = torch.stack([(trunk[0] * head).sum(), 8 * trunk[1]])
        >>> info = FairGrad(alpha=2.0).backward(losses, [trunk], task_parameters=[[head], []])
        >>> print(trunk.grad, head.grad, info.weights)
        tensor([1.0000, 0.5000]) tensor([1.]) tensor([1.0000, 0.0625])

        Args:
            task_losses: [K], with a graph.
            shared_parameters: the parameters that several tasks use; frozen ones are left out.
            task_parameters: K collections, the parameters that only task k uses (its head).
            present: [K] (bool), see `combine`. The head of a task that is not present gets nothing.
                To know which, the host waits for the device.

        As after an ordinary backward, a parameter on which no loss depends keeps its `.grad`, None
        or not, so optimisers with weight decay or momentum leave it alone. Hooks of
        `register_post_accumulate_grad_hook` are called, those of AccumulateGrad nodes are not.

        Raises:
            ValueError: shapes that do not fit.
            NonFiniteError: as in `combine`, and for heads. No `.grad` has changed then; the state
                of a method that keeps one may have advanced.
        """
        check_task_losses(task_losses, self.num_tasks)
        shared, heads = trainable_parameters(
            task_losses, shared_parameters, task_parameters, get_grad=True
        )
        if present is not None:
            check_present(present, task_losses)
            if any(heads):
                here = present.tolist()
                heads = [head if is_here else [] for head, is_here in zip(heads, here, strict=True)]
        direction, head_gradients, info = self._gradients(task_losses, shared, heads, present)
        accumulate(shared, direction)
        for head, gradients in zip(heads, head_gradients, strict=True):
            accumulate(head, gradients)
        return info

    @full_precision
    def scalarize(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        """Returns the scalar Σ w_i ℓ_i with detached weights, for code that keeps its `backward()`.

        Task parameters then receive w_i g_i, not g_i as in `backward`.

        >>> from mtrl_fair import FairGrad
        >>> shared = torch.ones(2, requires_grad=True)
        >>> loss = FairGrad(alpha=2.0).scalarize(torch.tensor([1.0, 8.0]) * shared, [shared])
        >>> loss.backward()
        >>> print(loss.item(), shared.grad)
        1.5 tensor([1.0000, 0.5000])

        Args:
            task_losses: [K], with a graph, which stays usable.
            shared_parameters: the parameters whose task gradients decide the weights; or the
                features that heads share, for the gradients' approximation by those of features.
            present: [K] (bool), see `combine`.

        Raises:
            ValueError, NonFiniteError: as in `backward`.
            TypeError: the method is no weighted sum of task gradients.
        """
        check_task_losses(task_losses, self.num_tasks)
        shared, _ = trainable_parameters(task_losses, shared_parameters, None, get_grad=False)
        return weighted_loss(self._loss_weights(task_losses, shared, present), task_losses)

    def after_step(self, task_losses: Tensor) -> None:
        """Takes a second look at the losses, [K], after the optimiser step. Only FAMO uses it."""

    def generators(self, device: torch.device) -> list[torch.Generator]:
        """Returns the generators that the method draws from, on a device."""
        return [part.generator(device) for part in self.modules() if isinstance(part, Randomness)]

    @property
    def uses_after_step(self) -> bool:
        """Whether the method uses `after_step`, which costs another forward."""
        return type(self).after_step is not Combiner.after_step

    def _gradients(
        self,
        task_losses: Tensor,
        shared: list[Tensor],
        heads: list[list[Tensor]],
        present: Tensor | None,
    ) -> tuple[list[Tensor | None], list[list[Tensor | None]], CombinerInfo]:
        """What `backward` adds to shared parameters and to each task's head, in their dtypes."""
        rows, used, head_gradients = gradients_of_each_task(
            task_losses, shared, heads, keep_graph=False
        )
        check_head_gradients(head_gradients)
        direction, info = self.combine(rows, task_losses.detach(), present)
        if self.weighted_heads:
            head_gradients = [
                [None if part is None else part * weight.to(part.dtype) for part in gradients]
                for gradients, weight in zip(head_gradients, info.weights, strict=True)
            ]
        return only_used(direction.values(), used), head_gradients, info

    def _loss_weights(
        self, task_losses: Tensor, shared: list[Tensor], present: Tensor | None
    ) -> Tensor:
        """The weights [K] of `scalarize`; the graph of the losses stays usable."""
        no_heads = [()] * len(task_losses)
        rows, _, _ = gradients_of_each_task(task_losses, shared, no_heads, keep_graph=True)
        _, info = self.combine(rows, task_losses.detach(), present)
        return info.weights

    def _factor(self, norm: Tensor, norm_of_sum: Tensor, num_tasks: int) -> Tensor:
        return scale_factor(self.scale, self.max_norm, num_tasks, norm, norm_of_sum)
