"""Checks that stop a training whose numbers are no longer finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mtrl_fair.errors import NonFiniteError
from mtrl_fair.supervised.evaluation import Values


def check_training(losses: Tensor, parameters: Iterable[Tensor]) -> None:
    """Raises NonFiniteError if a task loss [K], or any parameter, is not finite.

    On the CPU the combiner has checked losses and gradients at every step. With CUDA it has not,
    because it would have to wait for the device; this waits, once per epoch.

    Args:
        losses: sums over the epoch's steps, which one bad step makes non-finite.
    """
    wrong = (~losses.isfinite()).nonzero().flatten().tolist()
    if wrong:
        raise NonFiniteError("loss", wrong)
    sums = [parameter.detach().sum() for parameter in parameters]
    if not torch.stack(sums).isfinite().all():
        raise NonFiniteError("gradient", [])


def check_metrics(values: Values, tasks: Sequence[str]) -> None:
    """Raises NonFiniteError if a validation metric is not finite, with the indices of its tasks."""
    wrong = {name.split("/")[0] for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        raise NonFiniteError(
            "validation metric", [k for k, name in enumerate(tasks) if name in wrong]
        )
