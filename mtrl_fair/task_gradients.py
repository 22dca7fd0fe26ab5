"""The gradients of K task losses for the price of about one backward.

The batch is laid out [task, batch, …] and a task's loss depends on its own rows only, so one
backward can yield every task's gradient if each parameter stands for K equal copies, one per task.
The copies are stride-0 views; matrix products run on the shared values, and only the gradient with
respect to a weight is formed per task.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

TaskLossFn = Callable[[dict[str, Tensor], Any], Any]


def task_gradients(
    task_loss_fn: Callable[[dict[str, Tensor], Any], Tensor],
    parameters: Mapping[str, Tensor],
    batch: Any,
) -> dict[str, Tensor]:
    """The gradient of every task's loss with respect to shared parameters.

    Linear layers, matrix products, layer normalisation and elementwise operations between a
    parameter and data cost about one backward. Where a parameter is used in another way (an
    `einsum`, a convolution), the result is the same but takes K backwards, and a warning names the
    operation.

    Whatever tensor meets a parameter must have the task as its first dimension. Data whose rows
    were moved elsewhere (`x.transpose(0, 1)`) or a constant [K, …] that is not one row per task
    cannot be told from it if its first dimension happens to be K too.

    Args:
        task_loss_fn: (parameters, batch) -> task losses [K]. Row k depends on rows [k] of the batch
            leaves only. `torch.func.functional_call(module, parameters, x)` works inside.
        parameters: shared parameters by name, each [*shape].
        batch: a pytree of tensors [K, B, …].

    Returns:
        By name, [K, *shape].

    Raises:
        ValueError: losses or batch leaves whose first dimension is not K.
    """
    return task_losses_and_gradients(task_loss_fn, parameters, batch)[1]


def task_losses_and_gradients(
    task_loss_fn: TaskLossFn,
    parameters: Mapping[str, Tensor],
    batch: Any,
    task_parameters: Mapping[str, Tensor] | None = None,
    *,
    has_aux: bool = False,
) -> tuple[Any, dict[str, Tensor]]:
    """`task_gradients` that also returns the losses, and the gradients of task parameters.

    Args:
        task_loss_fn: as in `task_gradients`; it receives shared and task parameters in one dict.
        parameters: shared parameters, each [*shape].
        batch: a pytree of tensors [K, B, …].
        task_parameters: parameters [K, *shape] whose row k only task k uses, such as heads.
        has_aux: whether task_loss_fn returns (task losses, aux), as in `torch.func.grad`.

    Returns:
        what task_loss_fn returned, detached, and gradients by name: [K, *shape] for both kinds of
        parameter.
    """
    num_tasks = _num_tasks(batch)
    own = {
        name: tensor.detach().requires_grad_() for name, tensor in (task_parameters or {}).items()
    }
    copies = {
        name: tensor.detach().expand(num_tasks, *tensor.shape).requires_grad_()
        for name, tensor in parameters.items()
    }
    try:
        with torch.enable_grad():
            shared = {name: _TaskParameter.of(tensor) for name, tensor in copies.items()}
            output = task_loss_fn({**shared, **own}, batch)
            total = _check_losses(output[0] if has_aux else output, num_tasks).sum()
    except _NotPerTaskError as error:
        warnings.warn(
            f"task_gradients takes one backward per task, because {error}",
            UserWarning,
            stacklevel=2,
        )
        with torch.enable_grad():
            return _loop(task_loss_fn, parameters, own, batch, num_tasks, has_aux)
    leaves = {**copies, **own}
    gradients = torch.autograd.grad(
        total, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return _detach(output), dict(zip(leaves, gradients, strict=True))


def _loop(
    task_loss_fn: TaskLossFn,
    parameters: Mapping[str, Tensor],
    own: dict[str, Tensor],
    batch: Any,
    num_tasks: int,
    has_aux: bool,
) -> tuple[Any, dict[str, Tensor]]:
    shared = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    output = task_loss_fn({**shared, **own}, batch)
    losses = _check_losses(output[0] if has_aux else output, num_tasks)
    leaves = {**shared, **own}
    rows = [
        torch.autograd.grad(
            loss,
            list(leaves.values()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for loss in losses
    ]
    gradients = {}
    for name, columns in zip(leaves, zip(*rows, strict=True), strict=True):
        gradients[name] = sum(columns[1:], columns[0]) if name in own else torch.stack(columns)
    return _detach(output), gradients


def _num_tasks(batch: Any) -> int:
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in pytree.tree_leaves(batch)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"the leaves of the batch have first dimensions {sorted(sizes)}, expected the same"
            " number of tasks K for all: lay the batch out [task, batch, …]"
        )
    return sizes.pop()


def _check_losses(losses: Tensor, num_tasks: int) -> Tensor:
    if losses.shape != (num_tasks,):
        raise ValueError(
            f"task_loss_fn returned shape {list(losses.shape)}, expected one loss per task,"
            f" [{num_tasks}]: take the mean over the batch dimensions only"
        )
    return losses


def _detach(output: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.Tensor.detach, output)


class _NotPerTaskError(Exception):
    """A parameter is used in a way that has no per-task form here."""


class _TaskParameter(Tensor):
    """Looks like a shared parameter [*shape]; computes as its K copies [K, *shape]."""

    copies: Tensor

    @staticmethod
    def of(copies: Tensor) -> _TaskParameter:
        parameter = copies.detach()[0].as_subclass(_TaskParameter)
        parameter.copies = copies
        return parameter

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            operands = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if all(isinstance(operand, _TaskParameter) for operand in operands):
                return _of_parameters(func, args, kwargs)
            rule = _RULES.get(func.__name__.strip("_"))
            if rule is None:
                raise _NotPerTaskError(f"it has no rule for a parameter in {func.__name__}")
            return rule(func, *args, **kwargs)


def _of_parameters(func: Any, args: Any, kwargs: Any) -> Any:
    """A function of parameters alone, such as a transpose: the same function of every copy."""
    result = func(*args, **kwargs)
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)):
        return result  # a shape, a dtype, a device
    leaves, spec = pytree.tree_flatten((args, kwargs))

    def apply(*copies: Tensor) -> Any:
        remaining = iter(copies)
        filled = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments, keywords = pytree.tree_unflatten(filled, spec)
        return func(*arguments, **keywords)

    copies = [leaf.copies for leaf in leaves if isinstance(leaf, _TaskParameter)]
    try:
        results = torch.vmap(apply)(*copies)
    except RuntimeError as error:  # random or in-place functions
        raise _NotPerTaskError(f"it cannot batch {func.__name__}") from error
    return pytree.tree_map_only(Tensor, _TaskParameter.of, results)


def _elementwise(func: Any, *operands: Any, **kwargs: Any) -> Tensor:
    """Any function that broadcasts its operands, on copies aligned with the task-major ones."""
    if any(isinstance(value, Tensor) for value in kwargs.values()):
        raise _NotPerTaskError(f"{func.__name__} takes a tensor by keyword")
    plain = [x for x in operands if isinstance(x, Tensor) and not isinstance(x, _TaskParameter)]
    rank = max(x.ndim for x in plain)
    num_tasks = next(x.copies.shape[0] for x in operands if isinstance(x, _TaskParameter))
    aligned = []
    for operand in operands:
        if isinstance(operand, _TaskParameter):
            _check_task_major(next(x for x in plain if x.ndim == rank), operand.ndim + 1, num_tasks)
            shape = (num_tasks, *[1] * (rank - 1 - operand.ndim), *operand.shape)
            operand = operand.copies.view(shape)
        aligned.append(operand)
    return func(*aligned, **kwargs)


def _matmul(func: Any, data: Tensor, weight: Tensor) -> Tensor:
    if func.__name__ == "__rmatmul__":
        data, weight = weight, data
    if isinstance(data, _TaskParameter):
        if data.ndim == 1:
            raise _NotPerTaskError("a vector parameter multiplies from the left")
        return _elementwise(torch.matmul, data, weight)
    assert isinstance(weight, _TaskParameter)
    if weight.ndim == 1:
        column = _TaskParameter.of(weight.copies.unsqueeze(-1))
        return _shared_product(data, column).squeeze(-1)
    return _shared_product(data, weight)


def _linear(func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if isinstance(input, _TaskParameter) or not isinstance(weight, _TaskParameter):
        raise _NotPerTaskError("linear mixes parameters with data in a way that has no rule")
    output = _shared_product(input, weight, transpose=True)
    return output if bias is None else _add(output, bias)


def _layer_norm(
    func: Any,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    output = functional.layer_norm(input, normalized_shape, None, None, eps)
    if weight is not None:
        output = _multiply(output, weight)
    return output if bias is None else _add(output, bias)


def _add(data: Tensor, parameter: Tensor) -> Tensor:
    rule = _elementwise if isinstance(parameter, _TaskParameter) else _plain
    return rule(torch.add, data, parameter)


def _multiply(data: Tensor, parameter: Tensor) -> Tensor:
    rule = _elementwise if isinstance(parameter, _TaskParameter) else _plain
    return rule(torch.mul, data, parameter)


def _plain(func: Any, *operands: Any) -> Tensor:
    return func(*operands)


_RULES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(["add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv"], _elementwise),
    **dict.fromkeys(["rtruediv", "true_divide", "maximum", "minimum", "rdiv"], _elementwise),
    **dict.fromkeys(["matmul", "rmatmul", "mm"], _matmul),
    "linear": _linear,
    "layer_norm": _layer_norm,
}


def _check_task_major(data: Tensor, least_rank: int, num_tasks: int) -> None:
    if data.ndim < least_rank or data.shape[0] != num_tasks:
        raise _NotPerTaskError(
            f"a tensor of shape {list(data.shape)} meets a parameter and is not [task, batch, …]"
        )


def _shared_product(data: Tensor, weight: _TaskParameter, transpose: bool = False) -> Tensor:
    stacked = weight.ndim - 2
    num_tasks = weight.copies.shape[0]
    _check_task_major(data, weight.ndim + 1 if stacked else 2, num_tasks)
    if stacked > 1 or (stacked and data.ndim != weight.ndim + 1):
        return _elementwise(torch.matmul, data, weight)
    copies = weight.copies.mT if transpose else weight.copies
    if stacked:
        data = data.expand(-1, weight.shape[0], -1, -1)
    return _SharedProduct.apply(data, copies)


def shared_product(data: Tensor, weight: Tensor) -> Tensor:
    """data @ weight as one product over the rows of all tasks.

    Args:
        data: [K, …, in], or [K, E, B, in] for E stacked networks.
        weight: [in, out], or [E, in, out]; inside a `task_gradients` loss its gradient stays apart
            per task. For stacked weights this is faster than `data @ weight`, which would copy the
            weight K times.

    Returns:
        [K, …, out]
    """
    if isinstance(weight, _TaskParameter):
        return _shared_product(data, weight)
    return _product(data, weight)


class _SharedProduct(torch.autograd.Function):
    """data @ W as one product over all tasks, whose gradient for W stays apart per task.

    data [K, …, in] with W [in, out], or data [K, E, B, in] with E stacked weights [E, in, out].
    """

    @staticmethod
    def forward(ctx: Any, data: Tensor, copies: Tensor) -> Tensor:
        ctx.save_for_backward(data, copies)
        return _product(data, copies[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        data, copies = ctx.saved_tensors
        (gradient,) = gradients
        for_data = for_copies = None
        if ctx.needs_input_grad[0]:
            for_data = _product(gradient, copies[0].mT)
        if ctx.needs_input_grad[1]:
            if copies.ndim == 3:
                rows = data.shape[1:-1].numel()
                data = data.reshape(len(data), rows, -1)
                gradient = gradient.reshape(len(gradient), rows, -1)
            for_copies = data.mT @ gradient
        return for_data, for_copies


def _product(data: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim == 2:
        return data @ weight
    # One product per stacked weight over the rows of all tasks.
    num_tasks, stack, batch, size = data.shape
    rows = data.transpose(0, 1).reshape(stack, num_tasks * batch, size)
    return (rows @ weight).view(stack, num_tasks, batch, -1).transpose(0, 1)
