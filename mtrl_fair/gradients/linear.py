"""The linear layer that tasks share: one product over the rows of all tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_fair.errors import NotPerTaskError


class Slot:
    """Memory [K, *shape] for the gradients of a parameter's copies, in a dtype of its own."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
        self.written = False
        """Whether a backward has written there. Without it, what is left of an earlier call would
        be taken for a gradient."""


class SharedLinear(torch.autograd.Function):
    """Computes data @ weight + bias in the data's dtype.

    data [*stack, K, ..., in] and one weight [*stack, in, out] ([*stack, out, in] if `transposed`)
    per entry of `stack`, with at most one such dimension. With `per_task`, weight and bias are
    given as their K stride-0 copies [K, *shape]: the products are the same, but the gradients of
    the copies are not added up. Where there is a slot, they are written there and not returned.

    K = 2 tasks with 3 samples each, data [2, 3, 4], weight [4, 5] as copies [2, 4, 5]:

        forward    [6, 4] @ [4, 5] -> [6, 5], seen as [2, 3, 5]: the rows of all tasks at once,
                   because the copies are equal
        backward   of a gradient [2, 3, 5]:
          data     [6, 5] @ [5, 4] -> [6, 4], again at once
          weight   by task, [2, 4, 3] @ [2, 3, 5] -> [2, 4, 5]: as many multiplications as the
                   ordinary [4, 6] @ [6, 5] -> [4, 5], which adds up the tasks
          bias     sums over a task's samples, [2, 5]
    """

    @staticmethod
    def forward(
        ctx: Any,
        data: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        per_task: bool,
        transposed: bool,
        weight_slot: Slot | None,
        bias_slot: Slot | None,
    ) -> Tensor:
        matrix = (weight[0] if per_task else weight).to(data.dtype)
        matrix = matrix.mT if transposed else matrix
        shape = (*data.shape[:-1], matrix.shape[-1])
        if torch.compiler.is_exporting():
            # `torch.export` keeps these operations and not this function, so autograd must be able
            # to follow them, which it cannot into given memory.
            rows = _rows(data, matrix) @ matrix
            output = rows.view(shape)
        else:
            # An output that is no view of another tensor can be activated in place.
            output = data.new_empty(shape)
            rows = _rows(output, matrix)
            torch.matmul(_rows(data, matrix), matrix, out=rows)
        if bias is not None:
            rows += (bias[0] if per_task else bias).to(data.dtype)
            ctx.bias_shape, ctx.bias_dtype = bias.shape, bias.dtype
        ctx.save_for_backward(data, matrix)
        ctx.per_task, ctx.transposed, ctx.dtype = per_task, transposed, weight.dtype
        ctx.slots = weight_slot, bias_slot
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # autograd cannot follow products written to given memory
            raise NotPerTaskError("it is differentiated twice, which shared_linear cannot be")
        data, matrix = ctx.saved_tensors
        for_data = None
        if ctx.needs_input_grad[0]:
            for_data = (_rows(gradient, matrix) @ matrix.mH).view(data.shape)
        by_task_or_summed = _gradients_by_task if ctx.per_task else _summed_gradients
        for_weight, for_bias = by_task_or_summed(ctx, data, matrix, gradient)
        return for_data, for_weight, for_bias, None, None, None, None


def _summed_gradients(
    ctx: Any, data: Tensor, matrix: Tensor, gradient: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the gradients of weight and bias of an ordinary layer."""
    for_weight = for_bias = None
    rows = _rows(gradient, matrix)
    if ctx.needs_input_grad[1]:
        for_weight = (_rows(data, matrix).mH @ rows).to(ctx.dtype)
    if ctx.needs_input_grad[2]:
        for_bias = rows.sum(-2, dtype=ctx.bias_dtype).reshape(ctx.bias_shape)
    return for_weight, for_bias


def _gradients_by_task(
    ctx: Any, data: Tensor, matrix: Tensor, gradient: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the gradients of the copies of weight and bias; None where a slot takes them."""
    for_weight = for_bias = None
    weight_slot, bias_slot = ctx.slots
    outputs = _by_task(gradient, matrix)
    if ctx.needs_input_grad[1]:
        inputs = _by_task(data, matrix).conj()  # of complex data; real ones stay as they are
        left, right = (outputs, inputs) if ctx.transposed else (inputs, outputs)
        if weight_slot is None:
            shape = (matrix.mT if ctx.transposed else matrix).shape
            for_weight = data.new_empty(outputs.shape[1], *shape, dtype=ctx.dtype)
            _products_per_task(left, right, for_weight)
        else:
            _products_per_task(left, right, weight_slot.tensor)
            weight_slot.written = True
    if ctx.needs_input_grad[2]:
        sums = outputs.sum(2, dtype=ctx.bias_dtype).movedim(1, 0).reshape(ctx.bias_shape)
        if bias_slot is None:
            for_bias = sums
        else:
            bias_slot.tensor.copy_(sums)
            bias_slot.written = True
    return for_weight, for_bias


def _rows(data: Tensor, matrix: Tensor) -> Tensor:
    """Returns [*stack, K, ..., size] as [*stack, rows of all tasks, size]."""
    return data.reshape(*matrix.shape[:-2], -1, data.shape[-1])


def _by_task(data: Tensor, matrix: Tensor) -> Tensor:
    """Returns [*stack, K, ..., size] as [stack, K, rows of a task, size]."""
    num_tasks = data.shape[matrix.ndim - 2]
    return data.reshape(matrix.shape[:-2].numel(), num_tasks, -1, data.shape[-1])


def _products_per_task(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Writes left.mT @ right of every task and entry of the stack to out [K, *stack, in, out].

    One product for each entry of the stack, because a slot's strides allow no single one.
    """
    stack, num_tasks = left.shape[:2]
    out = out.view(num_tasks, stack, left.shape[-1], right.shape[-1])
    for entry in range(stack):
        transposed = left[entry].mT
        if left.dtype == torch.bfloat16 and not left.is_cuda:
            transposed = transposed.contiguous()  # a third faster in oneDNN
        if out.dtype == left.dtype:
            torch.bmm(transposed, right[entry], out=out[:, entry])
        else:
            out[:, entry] = transposed @ right[entry]
