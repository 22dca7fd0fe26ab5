"""The task losses of a batch, and their α-fair transformation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from mtrl_fair.errors import LossBoundError
from mtrl_fair.losses import alpha_fair_loss
from mtrl_fair.runs.settings import flag_name
from mtrl_fair.supervised.benchmark import Benchmark
from mtrl_fair.supervised.model import MultiTaskModel
from mtrl_fair.supervised.torch_random import random_state, set_random_state


def task_losses(
    model: Callable[[Any], list[Tensor]],
    benchmark: Benchmark,
    tasks: Sequence[int],
    inputs: Any,
    targets: Any,
) -> tuple[Tensor, Tensor | None]:
    """Computes the losses of a batch for the tasks that the model has heads for.

    Args:
        tasks: K indices of the benchmark's tasks, one for each head.

    Returns:
        Task losses [K], and which tasks the batch says anything about [K] (bool; None: all).
    """
    outputs = model(inputs)
    losses = torch.stack(
        [benchmark.loss(task, output, targets) for task, output in zip(tasks, outputs, strict=True)]
    )
    flags = [benchmark.present(task, targets) for task in tasks]
    present = [flag for flag in flags if flag is not None]
    if not present:
        return losses, None
    always = torch.ones_like(present[0])
    return losses, torch.stack([always if flag is None else flag for flag in flags])


@torch.no_grad()
def task_losses_again(
    model: MultiTaskModel,
    benchmark: Benchmark,
    tasks: Sequence[int],
    inputs: Any,
    targets: Any,
    start: dict[str, Tensor],
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    """Computes the losses of a batch once more, and leaves everything as it was.

    Dropout draws what it drew the first time: else FAMO would take its noise for an effect of the
    step. The running statistics of batch normalisation do not count the batch again.

    Args:
        start: the random state to draw from, as before the first time.

    Returns:
        as `task_losses`.
    """
    end = random_state(device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    set_random_state(start, device)
    try:
        return task_losses(
            lambda inputs: functional_call(model, buffers, (inputs,)),
            benchmark,
            tasks,
            inputs,
            targets,
        )
    finally:
        set_random_state(end, device)


def transform_losses(
    losses: Tensor, present: Tensor | None, exponent: float | None, names: Sequence[str]
) -> Tensor:
    """Applies the α-fair transformation (paper section 6, `alpha_fair_loss`) to task losses [K].

    Args:
        present: [K] (bool), the tasks whose losses must be positive; None: all.
        exponent: α of the transformation; None: the losses stay as they are.
        names: of the K tasks, for messages.

    Raises:
        LossBoundError: a loss of a present task is not positive.
    """
    if exponent is None:
        return losses
    try:
        return alpha_fair_loss(losses, exponent, present)
    except ValueError as error:
        counted = losses if present is None else losses.where(present, 1)
        found = zip(names, counted.tolist(), strict=True)
        wrong = ", ".join(f"{name} has {loss:.4g}" for name, loss in found if not loss > 0)
        raise LossBoundError(
            f"the α-fair transformation needs positive losses, but {wrong}: train without"
            f" {flag_name('alpha_fair')}"
        ) from error
