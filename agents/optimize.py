"""One optimiser step from per-task losses through a combiner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.networks import TaskNetwork
from mtrl_fair import Combiner, NonFiniteError, task_losses_and_gradients


def combined_step(
    network: TaskNetwork,
    optimizer: torch.optim.Optimizer,
    combiner: Combiner,
    task_loss_fn: Callable[[dict[str, Tensor], Any], tuple[Tensor, dict[str, Tensor]]],
    data: Any,
    max_grad_norm: float | None,
    label: str,
) -> dict[str, Tensor]:
    """Moves shared parameters along the combined direction and each head along its own gradient.

    Args:
        task_loss_fn: (parameters, data) -> task losses [K] and metrics.
        data: a tuple of tensors [K, B, …].
        max_grad_norm: the clip of the direction and, separately, of each task's head.
        label: the name of the network in metric keys and errors.

    Returns:
        metrics: scalars [], or [K] under keys with the placeholder {task}.

    Raises:
        NonFiniteError: a task's loss or gradient is not finite; nothing has changed then.
    """
    parameters = dict(network.named_parameters())
    own = {name: parameters.pop(name) for name in network.task_parameter_names()}
    (losses, metrics), gradients = task_losses_and_gradients(
        task_loss_fn, parameters, data, own, has_aux=True
    )
    for parameter in combiner.parameters():
        parameter.grad = None  # combine adds to it
    try:
        direction, info = combiner.combine({name: gradients[name] for name in parameters}, losses)
    except NonFiniteError as error:
        raise NonFiniteError(f"{label} {error.what}", error.tasks) from error
    head_weights = info.weights if combiner.weighted_heads else torch.ones_like(losses)
    head_gradients = {
        name: gradients[name] * _per_row(head_weights, gradients[name]) for name in own
    }
    head_norms = _norms_per_task(head_gradients, losses)
    finite = (losses + info.gradient_norms + info.weights + head_norms).isfinite()
    if not finite.all():  # synchronises: a bad step must not reach the parameters
        raise NonFiniteError(f"{label} gradient", (~finite).nonzero().flatten().tolist())

    shrink, shrink_heads = torch.ones_like(info.direction_norm), torch.ones_like(head_norms)
    if max_grad_norm is not None:
        shrink = (max_grad_norm / info.direction_norm.clamp(min=1e-12)).clamp(max=1)
        shrink_heads = (max_grad_norm / head_norms.clamp(min=1e-12)).clamp(max=1)
    for name, parameter in parameters.items():
        parameter.grad = direction[name] * shrink
    for name, parameter in own.items():
        parameter.grad = head_gradients[name] * _per_row(shrink_heads, parameter)
    optimizer.step()
    if combiner.looks_again:
        with torch.no_grad():
            combiner.after_step(task_loss_fn({**parameters, **own}, data)[0])

    pairs = max(len(losses) * (len(losses) - 1), 1)
    return {
        **metrics,
        f"losses/{label}": losses.mean(),
        f"losses/{label}/{{task}}": losses,
        f"fairness/weight/{{task}}/{label}": info.weights,
        f"fairness/gradient_norm/{{task}}/{label}": info.gradient_norms,
        f"fairness/head_gradient_norm/{{task}}/{label}": head_norms,
        f"fairness/direction_norm/{label}": info.direction_norm,
        f"fairness/residual/{label}": info.residual,
        f"fairness/mean_cosine/{label}": (info.cosines.triu(1).sum() * 2) / pairs,
        f"fairness/min_cosine/{label}": info.cosines.min(),
        f"fairness/conflicts/{label}": info.conflicts,
    }


def _per_row(values: Tensor, rows: Tensor) -> Tensor:
    return values.view(-1, *[1] * (rows.ndim - 1))


def _norms_per_task(gradients: dict[str, Tensor], losses: Tensor) -> Tensor:
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
    return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(losses)
