"""Compares the fast path of task gradients with the slow, obvious one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtrl_fair.checks import check_positive, check_task_losses
from mtrl_fair.gradients.per_task import (
    TaskLossFn,
    leaves_of,
    one_backward_per_task,
    task_losses_and_gradients,
)

SMALLEST_SHARE = 1e-2
"""A parameter's gradient counts as at least this share of the task's whole gradient. Next to one
that is 0, as of a bias before a normalisation, rounding would be infinite."""


def check_task_gradients(
    task_loss_fn: TaskLossFn,
    parameters: Mapping[str, Tensor],
    batch: Any,
    task_parameters: Mapping[str, Tensor] | None = None,
    *,
    has_aux: bool = False,
    tolerance: float = 1e-3,
) -> None:
    """Raises ValueError unless `task_gradients` gives what one backward per task gives.

    `task_gradients` and `Combiner.differentiate` cannot see that one task's loss depends on another
    task's rows, as with batch normalisation, attention or means over [task × batch]. Their
    gradients are wrong then. Check a new loss function once, on a first batch. A loss that must mix
    tasks needs `Combiner.backward`, which takes one backward per task.

    Both ways draw the same numbers from torch's global generators, which are then as before. A loss
    function that changes state, such as the running statistics of a normalisation, changes it
    twice: check before training, or a copy.

    >>> import torch
    >>> batch = torch.tensor([[[1.0], [3.0]], [[5.0], [6.0]]])  # [task, sample, feature]
    >>> def task_losses(parameters, batch):
    ...     output = batch @ parameters["weight"]
    ...     return (output - output.mean(0)).square().mean((1, 2))  # the mean over tasks
    >>> check_task_gradients(task_losses, {"weight": torch.ones(1, 1)}, batch)
    Traceback (most recent call last):
    ValueError: task_gradients differ by 204.0 % from one backward per task for task 0 and 'weight'\
: the loss of a task must use its own rows of the batch only, see Combiner.backward for others

    Args:
        task_loss_fn: (parameters, batch) -> task losses [K], as in `task_losses_and_gradients`.
        parameters: shared parameters by name, each [*shape].
        batch: a pytree of tensors [K, B, …].
        task_parameters: parameters [K, *shape] whose row k only task k uses, such as heads.
        has_aux: whether task_loss_fn returns (task losses, aux).
        tolerance: the largest relative difference of a task's gradient of a parameter. Half
            precision needs about 0.05.

    Raises:
        ValueError: the largest difference is beyond the tolerance; it names task and parameter.
        NonFiniteError: a loss is not finite (on CPU).
    """
    check_positive("tolerance", tolerance)
    devices = {tensor.device for tensor in parameters.values() if tensor.is_cuda}
    with torch.random.fork_rng(devices):
        output, found = task_losses_and_gradients(
            task_loss_fn, parameters, batch, task_parameters, has_aux=has_aux
        )
    losses = output[0] if has_aux else output
    check_task_losses(losses, None)
    heads = leaves_of(task_parameters or {})
    with torch.random.fork_rng(devices), torch.enable_grad():
        _, expected = one_backward_per_task(
            task_loss_fn, parameters, heads, batch, len(losses), has_aux
        )
    names = list(expected)
    norms = _norms(expected)
    smallest = SMALLEST_SHARE * norms.norm(dim=0)
    errors = _norms({name: found[name] - expected[name] for name in names})
    differences = (errors / norms.maximum(smallest)).where(errors != 0, 0)
    worst = int(differences.nan_to_num(torch.inf).argmax())
    name, task = names[worst // len(losses)], worst % len(losses)
    if not differences.flatten()[worst] <= tolerance:
        raise ValueError(
            f"task_gradients differ by {100 * differences.flatten()[worst]:.1f} % from one backward"
            f" per task for task {task} and {name!r}: the loss of a task must use its own rows of"
            " the batch only, see Combiner.backward for others"
        )


def _norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """Returns the norms [parameter, K] of gradients [K, *shape], in float64 on the CPU."""
    rows = [part.reshape(len(part), -1).cpu() for part in gradients.values()]
    wide = [row.to(torch.promote_types(row.dtype, torch.float64)) for row in rows]
    return torch.stack([torch.linalg.vector_norm(row, dim=1) for row in wide])
