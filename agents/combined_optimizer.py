"""Optimiser steps from per-task losses through a combiner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from agents.finite_guard import FiniteGuard
from agents.flat_parameters import FlatParameters
from agents.networks import TaskNetwork
from mtrl_fair import Combiner, CombinerInfo, LossCombiner, NonFiniteError
from mtrl_fair.gradients.gramian import per_row

LossFunction = Callable[[dict[str, Tensor], Any], tuple[Tensor, dict[str, Tensor]]]
"""(parameters, data) -> task losses [K] and metrics."""


class CombinedOptimizer:
    """Adam along the combined direction for shared parameters and each head's own gradient.

    A step whose losses or gradients are not finite changes no parameter, nor does any later one
    until the guard has reported it.

    Args:
        label: the name of the network in metric keys and errors.
        network: its parameters become views of one vector.
        max_grad_norm: the clip of the direction and, separately, of each task's head.
    """

    def __init__(
        self,
        label: str,
        network: TaskNetwork,
        combiner: Combiner,
        learning_rate: float,
        max_grad_norm: float | None,
        guard: FiniteGuard,
    ):
        self.label = label
        self.combiner = combiner
        self.max_grad_norm = max_grad_norm
        self.guard = guard
        self.parameters = FlatParameters(network)
        # A combiner may learn something itself, such as the log-variances of "uw".
        self.adam = make_adam([self.parameters.vector, *combiner.parameters()], learning_rate)

    def step(self, task_loss_fn: LossFunction, data: Any, buffer: Tensor) -> dict[str, Tensor]:
        """Takes one step.

        Args:
            data: a tuple of tensors [K, B, …].
            buffer: vector whose first `buffer_size(K)` entries are overwritten.

        Returns:
            metrics: scalars [], or [K] under keys with the placeholder {task}.

        Raises:
            NonFiniteError: on the CPU; elsewhere only the guard's `check` raises, because looking
                would make the host wait for the device.
        """
        num_tasks = len(data[0])
        jacobian = None
        if not self.needs_losses_only:
            jacobian = buffer[: self.buffer_size(num_tasks)].view(num_tasks, -1)
        shared, own = self.parameters.shared, self.parameters.own
        for parameter in self.combiner.parameters():
            parameter.grad = None  # the combiner adds to it
        with naming(self.label):
            (losses, metrics), direction, own_gradients, info = self.combiner.differentiate(
                task_loss_fn, shared, data, own, has_aux=True, out=jacobian
            )
        head_norms = _norms_per_task(own_gradients, losses)
        seen = losses + head_norms
        if not self.needs_losses_only:
            seen = seen + info.gradient_norms
        combined = info.direction_norm + info.weights.sum()
        found_inf = self.guard.see(self.label, seen, combined)
        shrink, shrink_heads = torch.ones_like(info.direction_norm), torch.ones_like(head_norms)
        if self.max_grad_norm is not None:
            shrink = (self.max_grad_norm / info.direction_norm.clamp(min=1e-12)).clamp(max=1)
            shrink_heads = (self.max_grad_norm / head_norms.clamp(min=1e-12)).clamp(max=1)
        for name, part in direction.items():
            torch.mul(part, shrink, out=self.parameters.gradients[name])
        for name, rows in own_gradients.items():
            factor = per_row(shrink_heads, rows)
            torch.mul(rows, factor, out=self.parameters.gradients[name])
        guarded_step(self.adam, found_inf)
        if not losses.is_cuda:
            self.guard.check()
        if self.combiner.uses_after_step:
            with torch.no_grad():
                self.combiner.after_step(task_loss_fn({**shared, **own}, data)[0])
        return {
            **metrics,
            f"losses/{self.label}": losses.mean(),
            f"losses/{self.label}/{{task}}": losses,
            f"fairness/head_gradient_norm/{{task}}/{self.label}": head_norms,
            **describe(info, self.label, saw_gradients=not self.needs_losses_only),
        }

    @property
    def needs_losses_only(self) -> bool:
        """Whether steps take one ordinary backward, without task gradients."""
        return isinstance(self.combiner, LossCombiner)

    def buffer_size(self, num_tasks: int) -> int:
        """How many numbers the task gradients of a step are."""
        return 0 if self.needs_losses_only else num_tasks * self.parameters.num_shared


@contextlib.contextmanager
def naming(label: str) -> Iterator[None]:
    """Errors of a combiner say whose losses or gradients were not finite."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{label} {error.what}", error.tasks) from error


def describe(info: CombinerInfo, label: str, *, saw_gradients: bool) -> dict[str, Tensor]:
    """What a combiner did, as metrics (docs/metrics.md)."""
    metrics = {
        f"fairness/weight/{{task}}/{label}": info.weights,
        f"fairness/direction_norm/{label}": info.direction_norm,
    }
    if not saw_gradients:
        return metrics
    metrics |= {
        f"fairness/gradient_norm/{{task}}/{label}": info.gradient_norms,
        f"fairness/residual/{label}": info.residual,
    }
    pairs = len(info.weights) * (len(info.weights) - 1)
    if not pairs:
        return metrics
    return metrics | {
        f"fairness/mean_cosine/{label}": (info.cosines.triu(1).sum() * 2) / pairs,
        f"fairness/min_cosine/{label}": info.cosines.min(),
        f"fairness/conflicts/{label}": info.conflicts,
    }


def make_adam(parameters: list[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Adam in one pass over the parameters, whose step can be captured in a CUDA graph."""
    capturable = parameters[0].is_cuda
    adam = torch.optim.Adam(parameters, lr=learning_rate, fused=True, capturable=capturable)
    # No warning that the steps before the capture are not captured.
    adam._warned_capturable_if_run_uncaptured = True
    return adam


def guarded_step(adam: torch.optim.Adam, found_inf: Tensor) -> None:
    """A step that changes nothing where `found_inf`, [] float32, is 1 and not 0."""
    adam.found_inf = found_inf  # type: ignore[attr-defined]
    adam.step()


def _norms_per_task(gradients: dict[str, Tensor], losses: Tensor) -> Tensor:
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
    return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(losses)
