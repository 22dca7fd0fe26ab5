"""Gradients of task losses by autograd, and how they are added to `.grad`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from mtrl_fair.checks import check_present
from mtrl_fair.gradients.backward import gradients_of, zero_if_none
from mtrl_fair.gradients.gramian import upcast_if_small

P = ParamSpec("P")
Result = TypeVar("Result")


def full_precision(function: Callable[P, Result]) -> Callable[P, Result]:
    """Leaves autocast for the time of a call: Gramians and weights need float32."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Result:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return wrapper


def weighted_gradients(
    task_losses: Tensor, weights: Tensor, parameters: Sequence[Tensor], *, keep_graph: bool
) -> tuple[Tensor | None, ...]:
    """Returns the gradients of Σ w_k ℓ_k with respect to parameters; None for those it lacks."""
    held = weights.to(task_losses.dtype)
    return gradients_of(task_losses, parameters, held, keep_graph=keep_graph)


def gradients_of_each_task(
    task_losses: Tensor,
    shared: Sequence[Tensor],
    heads: Sequence[Sequence[Tensor]],
    *,
    keep_graph: bool,
) -> tuple[dict[str, Tensor], list[bool], list[list[Tensor | None]]]:
    """Takes one backward per task.

    Args:
        task_losses: [K].
        heads: the parameters of each task's head.

    Returns:
        task gradients [K, *shape] of the shared parameters, by their position; whether any loss
        depends on each of them; and the gradients of each task's head, None where its loss does not
        depend on a parameter.
    """
    rows: list[list[Tensor]] = []
    head_gradients: list[list[Tensor | None]] = []
    used = [False] * len(shared)
    last = len(task_losses) - 1
    for k, loss in enumerate(task_losses):
        gradients = gradients_of(loss, [*shared, *heads[k]], keep_graph=keep_graph or k < last)
        of_shared = gradients[: len(shared)]
        used = [so_far or part is not None for so_far, part in zip(used, of_shared, strict=True)]
        rows.append(zero_if_none(of_shared, shared))
        head_gradients.append(list(gradients[len(shared) :]))
    columns = zip(*rows, strict=True)
    return {str(i): torch.stack(column) for i, column in enumerate(columns)}, used, head_gradients


def only_used(gradients: Iterable[Tensor], used: Sequence[bool]) -> list[Tensor | None]:
    """Returns gradients, with None for parameters on which no loss depends."""
    return [part if is_used else None for part, is_used in zip(gradients, used, strict=True)]


def flat_rows(
    task_gradients: dict[str, Tensor], task_losses: Tensor, present: Tensor | None
) -> dict[str, Tensor]:
    """Returns task gradients [K, *shape] as [K, P]; those of tasks that are not present are 0.

    A complex number counts as two real ones: so inner products are those of the steps that are
    taken, and a direction of real weights is again complex.

    Raises:
        ValueError: `present` is no tensor [K] (bool).
    """
    rows = upcast_if_small(
        {name: _real_rows(part.detach()) for name, part in task_gradients.items()}
    )
    if present is None:
        return rows
    check_present(present, task_losses)
    return {name: row.where(present.unsqueeze(1), 0) for name, row in rows.items()}


def _real_rows(gradients: Tensor) -> Tensor:
    rows = gradients.reshape(len(gradients), -1)
    return torch.view_as_real(rows.resolve_conj()).flatten(1) if rows.is_complex() else rows


def direction_like(
    direction: Tensor, task_gradients: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Returns a direction [P] of `flat_rows` as [*shape], in the task gradients' dtype if None."""
    if task_gradients.is_complex():
        direction = torch.view_as_complex(direction.view(-1, 2))
    return direction.to(dtype or task_gradients.dtype).reshape(task_gradients.shape[1:])


def weighted_loss(weights: Tensor, task_losses: Tensor) -> Tensor:
    """Returns Σ w_i ℓ_i, at least in float32, which holds weights that half precision does not."""
    return weights @ task_losses.to(torch.promote_types(weights.dtype, task_losses.dtype))


def accumulate(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Adds gradients to the `.grad` of parameters, as backward does, and calls their hooks.

    These are the hooks of `register_post_accumulate_grad_hook`; autograd calls those of
    `register_hook` when it computes the gradients that are given here.

    A parameter without a gradient keeps its `.grad`, which may be None: with zeros there, weight
    decay and momentum would move it.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient.detach().clone()
        elif parameter.grad.is_sparse and not gradient.is_sparse:
            parameter.grad = gradient + parameter.grad  # torch adds no dense one to a sparse one
        else:
            parameter.grad += gradient
        # autograd.grad accumulates nothing, so torch does not call them; it has no other name.
        if hooks := parameter._post_accumulate_grad_hooks:
            with torch.no_grad():
                for hook in tuple(hooks.values()):
                    hook(parameter)
