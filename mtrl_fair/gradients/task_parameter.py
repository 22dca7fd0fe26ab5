"""Tensors that look like a shared parameter and compute as its copies, one per task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from mtrl_fair.errors import NotPerTaskError
from mtrl_fair.gradients.linear import SharedLinear, Slot


class TaskParameter(Tensor):
    """Looks like a shared parameter [*shape]; computes as its K copies [K, *shape].

    A loss function is written for one parameter w [4, 5], so w.shape must be (4, 5): modules and
    `functional_call` ask for it. Inside, w.copies is [2, 4, 5] for K = 2 tasks, two views of the
    same values. torch calls `__torch_function__` with every function that meets w:

        x @ w          x [2, 3, 4]. `_matmul`: [2, 3, 5], from the copies, by `SharedLinear`
        y + b          y [2, 3, 5], b [5]. `_elementwise`: y + b.copies.view(2, 1, 5), so that task
                       k's rows meet copy k. As plain tensors, y + b.copies would match [2, 5] with
                       the dimensions [3, 5]: an error, or a mix-up where batch and K are equal
        w.mT           `_of_parameters`: again such a parameter, with copies [2, 5, 4]
        conv1d(x, w)   no rule: NotPerTaskError, and the caller takes one backward per task

    So no value depends on two copies, and one backward of the summed losses gives each copy the
    gradient of its own task's loss: [2, 4, 5].
    """

    copies: Tensor
    slot: Slot | None

    @staticmethod
    def of(copies: Tensor, slot: Slot | None = None) -> TaskParameter:
        """Returns the parameter of which these are the copies [K, *shape].

        Args:
            slot: where the first use that can writes the gradients of the copies.
        """
        parameter = copies.detach()[0].as_subclass(TaskParameter)
        parameter.copies = copies
        parameter.slot = slot
        return parameter

    def take_slot(self) -> Slot | None:
        """Returns the slot once, then None: a second use would overwrite the first one's gradients.

        Those of later uses are returned by autograd, and added to the slot at the end.
        """
        slot, self.slot = self.slot, None
        return slot

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            operands = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if all(isinstance(operand, TaskParameter) for operand in operands):
                return _of_parameters(func, args, kwargs)
            rule = _RULES.get(func.__name__.strip("_"))
            if rule is None:
                raise NotPerTaskError(f"it has no rule for a parameter in {func.__name__}")
            return rule(func, *args, **kwargs)


def shared_linear(data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns data @ weight + bias, in one product over the rows of all tasks.

    Args:
        data: [K, …, in], or [E, K, …, in] for E stacked networks.
        weight: [in, out], or [E, in, out]. Inside a `task_gradients` loss it gets one gradient per
            task, for about the price of one.
        bias: [out] or [1, out], or [E, 1, out].

    Returns:
        [K, …, out] or [E, K, …, out], computed in the data's dtype. It has first derivatives by
        autograd only: `torch.func`'s transforms and second derivatives need `data @ weight`.

    Raises:
        ValueError: the shapes of data, weight and bias do not fit.

    Twin critics of five tasks with three samples each:

    >>> weight, bias = torch.ones(2, 4, 1), torch.zeros(2, 1, 1)
    >>> shared_linear(torch.ones(2, 5, 3, 4), weight, bias).shape
    torch.Size([2, 5, 3, 1])
    """
    with torch._C.DisableTorchFunctionSubclass():
        stacked = weight.ndim - 2
        if (
            stacked not in (0, 1)
            or data.ndim < weight.ndim
            or data.shape[:stacked] != weight.shape[:stacked]
            or data.shape[-1] != weight.shape[-2]
        ):
            raise ValueError(
                f"data {list(data.shape)} do not fit weight {list(weight.shape)}: expected"
                " [K, …, in] and [in, out], or [E, K, …, in] and [E, in, out]"
            )
        biases = [(*weight.shape[:-2], 1, weight.shape[-1]), (weight.shape[-1],)]
        if bias is not None and bias.shape not in biases[: 2 - stacked]:
            raise ValueError(
                f"bias {list(bias.shape)} does not fit weight {list(weight.shape)}: expected"
                f" {list(biases[0])}"
            )
        shared = [isinstance(operand, TaskParameter) for operand in (data, weight, bias)]
        if shared[0] or (shared[2] and not shared[1]):
            raise NotPerTaskError(
                "shared_linear has no form for a parameter as data, or bias alone"
            )
        if not isinstance(weight, TaskParameter):
            return SharedLinear.apply(data, weight, bias, False, False, None, None)
        _check_task_major(data, weight.ndim, len(weight.copies), stacked)
        return _apply(data, weight, bias, transposed=False)


def _of_parameters(func: Any, args: Any, kwargs: Any) -> Any:
    """Returns a function of parameters alone, such as a transpose, as that of every copy."""
    result = func(*args, **kwargs)
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)):
        return result  # a shape, a dtype, a device
    leaves, spec = pytree.tree_flatten((args, kwargs))

    def apply(*copies: Tensor) -> Any:
        remaining = iter(copies)
        filled = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments, keywords = pytree.tree_unflatten(filled, spec)
        return func(*arguments, **keywords)

    copies = [leaf.copies for leaf in leaves if isinstance(leaf, TaskParameter)]
    try:
        results = torch.vmap(apply)(*copies)
    except RuntimeError as error:  # random or in-place functions
        raise NotPerTaskError(f"it cannot batch {func.__name__}") from error
    return pytree.tree_map_only(Tensor, TaskParameter.of, results)


def _elementwise(func: Any, *operands: Any, **kwargs: Any) -> Tensor:
    """Returns a function that broadcasts, with copies [K, 1, …, *shape] beside data [K, …]."""
    if any(isinstance(value, Tensor) for value in kwargs.values()):
        raise NotPerTaskError(f"{func.__name__} takes a tensor by keyword")
    plain = [x for x in operands if isinstance(x, Tensor) and not isinstance(x, TaskParameter)]
    rank = max(x.ndim for x in plain)
    num_tasks = next(x.copies.shape[0] for x in operands if isinstance(x, TaskParameter))
    aligned = []
    for operand in operands:
        if isinstance(operand, TaskParameter):
            _check_task_major(next(x for x in plain if x.ndim == rank), operand.ndim + 1, num_tasks)
            shape = (num_tasks, *[1] * (rank - 1 - operand.ndim), *operand.shape)
            operand = operand.copies.view(shape)
        aligned.append(operand)
    return func(*aligned, **kwargs)


def _matmul(func: Any, data: Tensor, weight: Tensor) -> Tensor:
    """Returns data @ weight: one shared product where the shapes allow it, else one per task."""
    if func.__name__ == "__rmatmul__":
        data, weight = weight, data
    if isinstance(data, TaskParameter):
        if data.ndim == 1:
            raise NotPerTaskError("a vector parameter multiplies from the left")
        return _elementwise(torch.matmul, data, weight)
    assert isinstance(weight, TaskParameter)
    if weight.ndim == 1:
        column = TaskParameter.of(weight.copies.unsqueeze(-1))
        return _matmul(torch.matmul, data, column).squeeze(-1)
    stacked = weight.ndim - 2
    _check_task_major(data, weight.ndim + 1 if stacked else 2, len(weight.copies))
    fits = data.ndim == weight.ndim + 1 and data.shape[1] in (1, len(weight))
    if stacked > 1 or (stacked and not fits):
        return _elementwise(torch.matmul, data, weight)
    if stacked:
        stack_first = data.expand(-1, len(weight), -1, -1).transpose(0, 1)
        return _apply(stack_first, weight, None, transposed=False).transpose(0, 1)
    return _apply(data, weight, None, transposed=False)


def _linear(func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if isinstance(input, TaskParameter) or not isinstance(weight, TaskParameter):
        raise NotPerTaskError("linear mixes parameters with data in a way that has no rule")
    _check_task_major(input, 2, len(weight.copies))
    return _apply(input, weight, bias, transposed=True)


def _apply(data: Tensor, weight: TaskParameter, bias: Tensor | None, transposed: bool) -> Tensor:
    """Returns the product of `SharedLinear` with the copies of weight and bias."""
    slots = weight.take_slot(), bias.take_slot() if isinstance(bias, TaskParameter) else None
    if bias is None or isinstance(bias, TaskParameter):
        copies = None if bias is None else bias.copies
        return SharedLinear.apply(data, weight.copies, copies, True, transposed, *slots)
    # A frozen bias [E, 1, out] of stacked networks meets an output [E, K, …, out].
    bias = bias.unsqueeze(-3) if bias.ndim > 2 else bias
    return SharedLinear.apply(data, weight.copies, None, True, transposed, *slots) + bias


def _layer_norm(
    func: Any,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    # The normalisation knows no parameter; gain and bias are elementwise on its result.
    output = functional.layer_norm(input, normalized_shape, None, None, eps)
    if weight is not None:
        rule = _elementwise if isinstance(weight, TaskParameter) else _plain
        output = rule(torch.mul, output, weight)
    if bias is not None:
        rule = _elementwise if isinstance(bias, TaskParameter) else _plain
        output = rule(torch.add, output, bias)
    return output


def _plain(func: Any, *operands: Any) -> Tensor:
    return func(*operands)


# By the function's name without underscores, so that x @ w, x.matmul(w) and torch.matmul(x, w) are
# one. Every other function of a parameter and data takes the slow path.
_RULES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(["add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv"], _elementwise),
    **dict.fromkeys(["rtruediv", "true_divide", "maximum", "minimum", "rdiv"], _elementwise),
    **dict.fromkeys(["matmul", "rmatmul", "mm"], _matmul),
    "linear": _linear,
    "layer_norm": _layer_norm,
}


def _check_task_major(
    data: Tensor, least_rank: int, num_tasks: int, task_dimension: int = 0
) -> None:
    if data.ndim < least_rank or data.shape[task_dimension] != num_tasks:
        raise NotPerTaskError(
            f"a tensor of shape {list(data.shape)} meets a parameter and is not [task, batch, …]"
        )
