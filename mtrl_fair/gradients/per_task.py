"""The gradients of K task losses for the price of about one backward.

The batch is laid out [task, batch, …] and a task's loss depends on its own rows only. So one
backward can yield every task's gradient if each parameter stands for K equal copies, one per task.
The copies are stride-0 views, which take no memory. Matrix products run on the shared values, and
only the gradient with respect to a weight is formed per task.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtrl_fair.checks import describe
from mtrl_fair.errors import NotPerTaskError
from mtrl_fair.gradients.backward import gradients_of, zero_if_none
from mtrl_fair.gradients.linear import Slot
from mtrl_fair.gradients.task_parameter import TaskParameter

TaskLossFn = Callable[[dict[str, Tensor], Any], Any]


def task_gradients(
    task_loss_fn: Callable[[dict[str, Tensor], Any], Tensor],
    parameters: Mapping[str, Tensor],
    batch: Any,
) -> dict[str, Tensor]:
    """Returns the gradient of every task's loss with respect to shared parameters.

    The fast path takes about one backward. It knows linear layers, matrix products, layer
    normalisation, sums, differences, products, quotients, maxima and minima of a parameter and
    data, and any function of parameters alone. Perceptrons, twin critics as stacked weights and
    task embeddings take it; so do all architectures of `agents.networks`.

    The slow path takes one backward per task, gives the same result, and warns with the name of the
    operation that led to it. Convolutions, recurrent layers, `nn.Embedding`,
    `nn.MultiheadAttention`, batch, group and RMS normalisation, `einsum`, networks that flatten
    [K, B] into one dimension, and losses that differentiate twice (gradient penalties) take it.

    Whatever tensor meets a parameter must have the task as its first dimension. Data whose rows
    were moved elsewhere (`x.transpose(0, 1)`) or a constant [K, …] that is not one row per task
    cannot be told from it if its first dimension happens to be K too. Nor can a loss be seen to use
    the rows of other tasks, as with batch normalisation, attention or means over [task × batch]:
    its gradients are silently wrong. `check_task_gradients` finds both; call it on a first batch.

    Args:
        task_loss_fn: (parameters, batch) -> task losses [K]. Row k depends on rows [k] of the batch
            leaves only. `torch.func.functional_call(module, parameters, x)` works inside.
        parameters: shared parameters by name, each [*shape].
        batch: a pytree of tensors [K, B, …].

    Returns:
        By name, [K, *shape].

    Raises:
        ValueError: losses or batch leaves whose first dimension is not K.

    Two tasks of three samples share a weight; the second task wants twice as much:

    >>> batch = {"x": torch.ones(2, 3, 1), "y": torch.tensor([[[1.0]], [[2.0]]]).expand(2, 3, 1)}
    >>> def task_losses(parameters, batch):
    ...     error = batch["x"] @ parameters["weight"] - batch["y"]
    ...     return error.square().mean((1, 2))
    >>> task_gradients(task_losses, {"weight": torch.zeros(1, 1)}, batch)["weight"].flatten()
    tensor([-2., -4.])
    """
    return task_losses_and_gradients(task_loss_fn, parameters, batch)[1]


def task_losses_and_gradients(
    task_loss_fn: TaskLossFn,
    parameters: Mapping[str, Tensor],
    batch: Any,
    task_parameters: Mapping[str, Tensor] | None = None,
    *,
    has_aux: bool = False,
    out: Tensor | None = None,
) -> tuple[Any, dict[str, Tensor]]:
    """Returns task losses and the gradients of shared and task parameters (see `task_gradients`).

    Args:
        task_loss_fn: as in `task_gradients`; it receives shared and task parameters in one dict.
        parameters: shared parameters, each [*shape].
        batch: a pytree of tensors [K, B, …].
        task_parameters: parameters [K, *shape] whose row k only task k uses, such as heads.
        has_aux: whether task_loss_fn returns (task losses, aux), as in `torch.func.grad`.
        out: [K, P], receives the gradients of the shared parameters, flattened, in their order. A
            matrix that is used again and again saves most of the time that fresh memory costs. Its
            dtype is that of the gradients, which may have lower precision than the parameters.

    Returns:
        what task_loss_fn returned, detached, and gradients by name: [K, *shape] for both kinds of
        parameter; with `out`, those of shared parameters are views of it.

    Raises:
        ValueError: as `task_gradients`; task parameters without one row per task; a name that is
            given twice; an `out` of another shape.
    """
    num_tasks = count_tasks(batch)
    check_parameters(parameters, task_parameters, num_tasks)
    slots = _slots(parameters, num_tasks, out)
    heads = leaves_of(task_parameters or {})
    gradients: dict[str, Any]
    copies = leaves_of(parameters, num_tasks)
    leaves = {**copies, **heads}
    try:
        with torch.enable_grad():
            shared = {name: TaskParameter.of(copies[name], slots.get(name)) for name in copies}
            output = task_loss_fn({**shared, **heads}, batch)
            # A copy has one task's rows behind it, so the gradients of the sum are the tasks'.
            total = losses_of(output, has_aux, num_tasks).sum()
        for slot in slots.values():
            # A loss function may have called autograd.grad itself. That ran SharedLinear.backward,
            # which wrote another derivative into the slot and set this. If it stayed set and the
            # losses did not depend on that product, the other derivative would be returned.
            slot.written = False
        found = gradients_of(total, list(leaves.values()), keep_graph=False)
        gradients = dict(zip(leaves, found, strict=True))
    except NotPerTaskError as error:
        warnings.warn(
            f"task_gradients takes one backward per task, because {error}",
            UserWarning,
            stacklevel=2,
        )
        with torch.enable_grad():
            output, gradients = one_backward_per_task(
                task_loss_fn, parameters, heads, batch, num_tasks, has_aux
            )
    for name, gradient in gradients.items():
        if name in slots:
            gradients[name] = _finish_slot(slots[name], gradient)
        elif gradient is None:
            gradients[name] = torch.zeros_like(leaves[name], memory_format=torch.contiguous_format)
    return detach(output), gradients


def one_backward_per_task(
    task_loss_fn: TaskLossFn,
    parameters: Mapping[str, Tensor],
    heads: dict[str, Tensor],
    batch: Any,
    num_tasks: int,
    has_aux: bool,
) -> tuple[Any, dict[str, Tensor]]:
    """Returns the output and the gradients of one backward per task, for any use of parameters.

    Args:
        heads: task parameters [K, *shape], leaves of a graph. Row k gets the gradient of task k's
            loss, even where other losses depend on it, too.
    """
    shared = leaves_of(parameters)
    output = task_loss_fn({**shared, **heads}, batch)
    losses = losses_of(output, has_aux, num_tasks)
    leaves = {**shared, **heads}
    names, values = list(leaves), list(leaves.values())
    rows = [
        zero_if_none(gradients_of(loss, values, keep_graph=True), values, names) for loss in losses
    ]
    gradients = {}
    for name, columns in zip(leaves, zip(*rows, strict=True), strict=True):
        if name in heads:
            columns = tuple(column[k] for k, column in enumerate(columns))
        gradients[name] = torch.stack(columns)
    return output, gradients


def leaves_of(parameters: Mapping[str, Tensor], num_tasks: int | None = None) -> dict[str, Tensor]:
    """Returns parameters as leaves of a new graph, or their stride-0 copies [num_tasks, *shape].

    Raises:
        ValueError: one that has no gradient, such as an integer buffer.
    """
    try:
        if num_tasks is None:
            return {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        return {
            name: tensor.detach().expand(num_tasks, *tensor.shape).requires_grad_()
            for name, tensor in parameters.items()
        }
    except (AttributeError, RuntimeError) as error:
        for name, value in parameters.items():
            if (
                not isinstance(value, Tensor)
                or value.layout != torch.strided
                or not (value.is_floating_point() or value.is_complex())
            ):
                raise ValueError(
                    f"the parameter {name!r} is {describe(value)}, expected a dense tensor of"
                    " floating-point or complex numbers: leave out buffers and constants"
                ) from error
        raise


def split_rows(matrix: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a matrix [..., P] as views [..., *shape] by the name of a parameter."""
    parts = matrix.split([tensor.numel() for tensor in parameters.values()], -1)
    return {
        name: part.view(*matrix.shape[:-1], *parameters[name].shape)
        for name, part in zip(parameters, parts, strict=True)
    }


def _slots(parameters: Mapping[str, Tensor], num_tasks: int, out: Tensor | None) -> dict[str, Slot]:
    if out is None:
        return {}
    size = 0
    for name, tensor in parameters.items():
        if tensor.is_complex():
            raise ValueError(f"out is real, but the parameter {name!r} is complex: leave out `out`")
        size += tensor.numel()
    expected = (num_tasks, size)
    if out.shape != expected or not out.is_floating_point():
        raise ValueError(
            f"out is {list(out.shape)} {out.dtype}, expected {list(expected)}, the numbers of tasks"
            " and of shared parameters, and a floating-point type"
        )
    return {name: Slot(tensor) for name, tensor in split_rows(out, parameters).items()}


def _finish_slot(slot: Slot, gradient: Tensor | None) -> Tensor:
    """Returns the slot's gradients, with what came from uses that did not write there.

    Args:
        gradient: what autograd returned for the parameter's copies: from its second use on, and
            from uses without a product, such as a bias added by hand.
    """
    if gradient is not None and slot.written:
        slot.tensor += gradient
    elif gradient is not None:
        slot.tensor.copy_(gradient)
    elif not slot.written:
        slot.tensor.zero_()
    return slot.tensor


def count_tasks(batch: Any) -> int:
    """Returns K, the first dimension of every leaf.

    Raises:
        ValueError: leaves whose first dimensions differ, or that have none.
    """
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in pytree.tree_leaves(batch)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"the leaves of the batch have first dimensions {sorted(sizes)}, expected the same"
            " number of tasks K for all: lay the batch out [task, batch, …]"
        )
    return sizes.pop()


def check_parameters(
    parameters: Mapping[str, Tensor],
    task_parameters: Mapping[str, Tensor] | None,
    num_tasks: int,
) -> None:
    """Raises ValueError unless there are shared parameters, and others whose row k is task k's."""
    heads = task_parameters or {}
    if not isinstance(parameters, Mapping) or not isinstance(heads, Mapping) or not parameters:
        raise ValueError(
            "parameters must be a dict of tensors by name with at least one entry, such as"
            f" dict(module.named_parameters()), got {type(parameters).__name__}"
            f" and {type(heads).__name__}"
        )
    if both := sorted(parameters.keys() & heads.keys()):
        raise ValueError(f"{', '.join(both)} are shared and task parameters: name them differently")
    for name, tensor in heads.items():
        if tensor.ndim == 0 or len(tensor) != num_tasks:
            raise ValueError(
                f"the task parameter {name} is {list(tensor.shape)}, expected one row for each of"
                f" {num_tasks} tasks"
            )


def losses_of(output: Any, has_aux: bool, num_tasks: int) -> Tensor:
    """Returns the task losses in what a loss function returned.

    Raises:
        ValueError: it is no tensor [K], or with `has_aux` no pair; or it has no graph.
    """
    if has_aux and not (isinstance(output, tuple) and len(output) == 2):
        raise ValueError(
            f"task_loss_fn returned {type(output).__name__}, but has_aux=True expects (losses, aux)"
        )
    losses = output[0] if has_aux else output
    if not isinstance(losses, Tensor):
        raise ValueError(
            f"task_loss_fn returned {type(losses).__name__}, expected one tensor of losses"
            f" [{num_tasks}] (or (losses, aux) with has_aux=True)"
        )
    if losses.shape != (num_tasks,):
        raise ValueError(
            f"task_loss_fn returned shape {list(losses.shape)}, expected one loss per task,"
            f" [{num_tasks}]: take the mean over the batch dimensions only"
        )
    if not losses.requires_grad:
        raise ValueError(
            "the task losses do not depend on the parameters: nothing to differentiate"
        )
    return losses


def detach(output: Any) -> Any:
    """Returns a pytree of tensors without their graph."""
    with torch._C.DisableTorchFunctionSubclass():
        return pytree.tree_map_only(Tensor, lambda leaf: leaf.as_subclass(Tensor).detach(), output)
