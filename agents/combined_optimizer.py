"""Optimisers whose gradient a combiner makes of the task losses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.finite_guard import NonFiniteGuard
from agents.flat_parameters import FlatParameters
from agents.networks import TaskNetwork
from mtrl_fair import Combiner, CombinerInfo, Differentiated, LossCombiner, NonFiniteError
from mtrl_fair.gradients.gramian import per_row
from mtrl_fair.runs.adam_states import check_adam_state

Metrics = dict[str, Tensor]
"""Detached scalars [], or [K] under keys with the placeholder {task} (docs/metrics.md)."""

LossFunction = Callable[[dict[str, Tensor], Any], tuple[Tensor, Any]]
"""Maps (parameters by name, data) to task losses [K] and whatever else the caller wants back."""


class CombinedOptimizer:
    """Steps one network with Adam: shared parameters follow the combiner, each head its own task.

    Args:
        label: the network's name in metrics and errors.
        network: its parameters become views of one vector.
        combiner: makes one direction of the task gradients.
        learning_rate: of Adam, for the network and for what the combiner itself learns.
        max_grad_norm: the clip of the direction and, separately, of each task's head. None: off.
        guard: is told of numbers that are not finite.
    """

    def __init__(
        self,
        label: str,
        network: TaskNetwork,
        combiner: Combiner,
        learning_rate: float,
        max_grad_norm: float | None,
        guard: NonFiniteGuard,
    ):
        self.label = label
        self.combiner = combiner
        self.max_grad_norm = max_grad_norm
        self.guard = guard
        self.parameters = FlatParameters(network)
        # A combiner may learn something itself, such as the log-variances of "uw".
        self.adam = make_adam([self.parameters.vector, *combiner.parameters()], learning_rate)

    def step(
        self, task_loss_fn: LossFunction, data: tuple[Tensor, ...], buffer: Tensor
    ) -> tuple[Metrics, Any]:
        """Takes one step: task gradients, combined direction, clip, Adam.

        Args:
            task_loss_fn: the task losses, and what else it returns.
            data: tensors [K, B, …].
            buffer: vector whose first `buffer_size(K)` entries are overwritten.

        Returns:
            metrics, and what `task_loss_fn` returned besides the losses, detached.

        Raises:
            NonFiniteError: on the CPU; elsewhere only the guard's `check` raises, because looking
                would make the host wait for the device.
        """
        (losses, aux), direction, head_gradients, info = self._differentiate(
            task_loss_fn, data, buffer
        )
        head_norms = _norms_per_task(head_gradients, losses)
        found_inf = self._record(losses, head_norms, info)
        self._write_direction(direction, info.direction_norm)
        self._write_head_gradients(head_gradients, head_norms)
        guarded_step(self.adam, found_inf)
        if not losses.is_cuda:
            self.guard.check()
        if self.combiner.uses_after_step:
            with torch.no_grad():
                parameters = {**self.parameters.shared, **self.parameters.heads}
                self.combiner.after_step(task_loss_fn(parameters, data)[0])
        metrics = {
            f"losses/{self.label}": losses.mean(),
            f"losses/{self.label}/{{task}}": losses,
            f"fairness/head_gradient_norm/{{task}}/{self.label}": head_norms,
            **combiner_metrics(info, self.label, has_task_gradients=not self.is_loss_based),
        }
        return metrics, aux

    @property
    def is_loss_based(self) -> bool:
        """Whether steps take one ordinary backward, without task gradients."""
        return isinstance(self.combiner, LossCombiner)

    def buffer_size(self, num_tasks: int) -> int:
        """Returns how many numbers the task gradients of a step are."""
        return 0 if self.is_loss_based else num_tasks * self.parameters.num_shared

    def _differentiate(
        self, task_loss_fn: LossFunction, data: tuple[Tensor, ...], buffer: Tensor
    ) -> Differentiated:
        num_tasks = len(data[0])
        jacobian = None
        if not self.is_loss_based:
            jacobian = buffer[: self.buffer_size(num_tasks)].view(num_tasks, -1)
        for parameter in self.combiner.parameters():
            parameter.grad = None  # the combiner adds to it
        with errors_name(self.label):
            return self.combiner.differentiate(
                task_loss_fn,
                self.parameters.shared,
                data,
                self.parameters.heads,
                has_aux=True,
                out=jacobian,
            )

    def _record(
        self, losses: Float[Tensor, " task"], head_norms: Float[Tensor, " task"], info: CombinerInfo
    ) -> Float[Tensor, ""]:
        # Numbers of different units are added for one reason: a sum is finite only if every term
        # is, and one look at it costs less than one look at each.
        per_task = losses + head_norms
        if not self.is_loss_based:
            per_task = per_task + info.gradient_norms
        combined = info.direction_norm + info.weights.sum()
        return self.guard.record(self.label, per_task, combined)

    # The direction and each head are clipped on their own. Under one norm, a task with a large head
    # gradient would shorten the direction that all tasks share. (The JAX Meta-World+ baselines clip
    # one norm of everything.)

    def _write_direction(self, direction: dict[str, Tensor], norm: Float[Tensor, ""]) -> None:
        factor = self._clip_factor(norm)
        for name, part in direction.items():
            torch.mul(part, factor, out=self.parameters.gradients[name])

    def _write_head_gradients(
        self, gradients: dict[str, Tensor], norms: Float[Tensor, " task"]
    ) -> None:
        factors = self._clip_factor(norms)
        for name, rows in gradients.items():
            torch.mul(rows, per_row(factors, rows), out=self.parameters.gradients[name])

    def _clip_factor(self, norm: Tensor) -> Tensor:
        if self.max_grad_norm is None:
            return torch.ones_like(norm)
        return (self.max_grad_norm / norm.clamp(min=1e-12)).clamp(max=1)


@contextlib.contextmanager
def errors_name(label: str) -> Iterator[None]:
    """Makes a combiner's errors say whose losses or gradients were not finite."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{label} {error.what}", error.tasks) from error


def combiner_metrics(info: CombinerInfo, label: str, *, has_task_gradients: bool) -> Metrics:
    """Returns what a combiner did, as metrics (docs/metrics.md)."""
    metrics = {
        f"fairness/weight/{{task}}/{label}": info.weights,
        f"fairness/direction_norm/{label}": info.direction_norm,
    }
    if not has_task_gradients:
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
    """Makes an Adam that takes one pass over the parameters and fits into a CUDA graph."""
    capturable = parameters[0].is_cuda
    adam = torch.optim.Adam(parameters, lr=learning_rate, fused=True, capturable=capturable)
    # No warning that the steps before the capture are not captured.
    adam._warned_capturable_if_run_uncaptured = True
    return adam


def guarded_step(adam: torch.optim.Adam, found_inf: Float[Tensor, ""]) -> None:
    """Takes a step, which changes nothing where `found_inf` is 1 and not 0."""
    adam.found_inf = found_inf  # type: ignore[attr-defined]
    adam.step()


def check_learner_state(
    name: str, adam: torch.optim.Adam, combiner: Combiner | None, state: dict[str, Any]
) -> None:
    """Raises ValueError unless a saved state has the parameters of the optimiser and of the
    combiner that it is to be loaded into."""
    if "optimizer" not in state:
        raise ValueError(
            f"the saved {name} has no optimiser: the state is from another version of the program"
            " (a run's metadata.json names its commit)"
        )
    saved, present = (
        sum(len(group["params"]) for group in groups)
        for groups in (state["optimizer"]["param_groups"], adam.param_groups)
    )
    if saved != present:
        raise ValueError(
            f"the saved optimiser of the {name} holds {saved} parameters, this one {present}: the"
            " state is from another version of the program (a run's metadata.json names its"
            " commit) or from other combiners"
        )
    check_adam_state(adam, state["optimizer"])
    kept = sorted(combiner.state_dict() if combiner is not None else ())
    found = sorted(state.get("combiner", ()))
    if found != kept:
        raise ValueError(
            f"the saved combiner of the {name} holds {', '.join(found) or 'nothing'}, this one"
            f" {', '.join(kept) or 'nothing'}: the state is from another combiner"
        )


def load_adam_state(adam: torch.optim.Adam, state: dict[str, Any]) -> None:
    """Loads a state, which may come from another device."""
    adam.load_state_dict(state)
    for group in adam.param_groups:
        group["capturable"] = group["params"][0].is_cuda


def _norms_per_task(
    gradients: dict[str, Tensor], losses: Float[Tensor, " task"]
) -> Float[Tensor, " task"]:
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
    return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(losses)
