"""Checks of what users pass: names, tensors and parameters."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtrl_fair.errors import NonFiniteError

SYMMETRY_TOLERANCE = 1e-3
"""How much A_ij and A_ji may differ, relative to the norms of both gradients; float32 products stay
far below."""


def check_at_least(name: str, value: float | None, least: float) -> None:
    """Raises ValueError unless a number is at least `least`; None stands for an unused option.

    >>> check_at_least("--threads", 0, 1)
    Traceback (most recent call last):
    ValueError: --threads is 0, expected at least 1
    """
    if value is not None and not value >= least:
        raise ValueError(f"{name} is {value}, expected at least {least}")


def check_integer(name: str, value: int | None, least: int) -> None:
    """Raises ValueError unless a number is whole and at least `least`; None passes, as above."""
    if value is not None and not (isinstance(value, int) and value >= least):
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")


def check_positive(name: str, value: float | None) -> None:
    """Raises ValueError unless a number is above 0; None stands for an unused option."""
    if value is not None and not value > 0:
        raise ValueError(f"{name} is {value}, expected a positive number")


def check_present(present: Tensor, task_losses: Tensor) -> None:
    """Raises ValueError unless `present` is a tensor [K] (bool)."""
    if (
        not isinstance(present, Tensor)
        or present.shape != task_losses.shape
        or present.dtype != torch.bool
    ):
        raise ValueError(
            f"present must be a boolean torch tensor {list(task_losses.shape)}, as task_mean"
            f" returns it, got {_describe(present)}"
        )


def check_head_gradients(gradients: Sequence[Sequence[Tensor | None]]) -> None:
    """Raises NonFiniteError, on CPU, if a head's gradient is not finite."""
    wrong = [
        k
        for k, parts in enumerate(gradients)
        if not all(part is None or part.is_cuda or part.isfinite().all() for part in parts)
    ]
    if wrong:
        raise NonFiniteError("gradient of the head", wrong)


def check_task_losses(task_losses: Tensor, num_tasks: int | None) -> None:
    """Raises ValueError unless the losses are one tensor [K]; K must be `num_tasks` if given.

    Raises NonFiniteError, on CPU, with the tasks whose loss is NaN or infinite.
    """
    if not isinstance(task_losses, Tensor) or task_losses.ndim != 1:
        found = list(task_losses.shape) if isinstance(task_losses, Tensor) else type(task_losses)
        raise ValueError(f"task losses must be one tensor [K], got {found}: stack them")
    check_num_tasks(len(task_losses), num_tasks)
    if not task_losses.is_cuda and not task_losses.isfinite().all():
        raise NonFiniteError("loss", (~task_losses.isfinite()).nonzero().flatten().tolist())


def check_num_tasks(number: int, expected: int | None) -> None:
    """Raises ValueError unless as many tasks arrive as a combiner was made for (None: any)."""
    if expected is not None and number != expected:
        raise ValueError(f"{number} tasks arrived, but this combiner was made for {expected}")


def check_gradient_rows(task_gradients: Tensor | dict[str, Tensor], task_losses: Tensor) -> None:
    """Raises ValueError unless they are floating-point tensors [K, …] with a row for every loss."""
    named = isinstance(task_gradients, dict)
    gradients = list(task_gradients.values()) if named else [task_gradients]
    least_rank = 1 if named else 2
    if not gradients or not all(
        isinstance(value, Tensor) and value.ndim >= least_rank and value.is_floating_point()
        for value in gradients
    ):
        raise ValueError(
            "task gradients must be a floating-point tensor [K, P], or a dict of [K, *shape],"
            f" got {[_describe(value) for value in gradients]}"
        )
    numbers = {len(gradient) for gradient in gradients}
    if numbers != {len(task_losses)}:
        raise ValueError(
            f"{len(task_losses)} task losses do not fit task gradients with {sorted(numbers)} rows:"
            " one of each per task"
        )


def check_gramian(gramian: Tensor) -> np.ndarray | None:
    """Raises ValueError on a wrong shape and, on CPU, on values that no Gramian has.

    Returns the values in float64 on CPU, and None elsewhere.
    """
    if not isinstance(gramian, Tensor):
        raise ValueError(f"a Gramian is a torch tensor, got {type(gramian).__name__}")
    if gramian.ndim < 2 or gramian.shape[-1] != gramian.shape[-2] or gramian.shape[-1] == 0:
        raise ValueError(f"a Gramian has shape [..., K, K], got {list(gramian.shape)}")
    if not gramian.is_floating_point():
        raise ValueError(f"a Gramian is a floating-point tensor, got {gramian.dtype}")
    if gramian.is_cuda:  # looking at the values would make the host wait for the device
        return None
    values: np.ndarray = gramian.detach().to("cpu", torch.float64).numpy()
    transposed = np.swapaxes(values, -1, -2)
    diagonal = np.einsum("...ii->...i", values)
    if diagonal.min() >= 0 and (values == transposed).all() and math.isfinite(values.sum()):
        return values
    # A NaN gradient spoils its row and its column; only its diagonal entry tells whose it is.
    if not np.isfinite(values).all():
        spoilt = ~np.isfinite(diagonal)
        raise NonFiniteError("gradient", _tasks(spoilt) or _tasks(~np.isfinite(values).all(-1)))
    if (diagonal < 0).any():
        raise ValueError(
            f"the Gramian's diagonal is negative for tasks {_tasks(diagonal < 0)}: pass J @ J.T"
        )
    norms = np.sqrt(diagonal)
    allowed = SYMMETRY_TOLERANCE * norms[..., :, None] * norms[..., None, :]
    if (abs(values - transposed) > allowed).any():
        raise ValueError("the Gramian is not symmetric: pass J @ J.T, one task gradient per row")
    return values


def _tasks(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask.reshape(-1, mask.shape[-1]).any(0)).tolist()


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {value.dtype}"
    return type(value).__name__


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise ValueError(
            f"parameters must be a collection of tensors such as module.parameters(), got"
            f" {type(parameters).__name__}"
        )
    found = list(parameters)
    for parameter in found:
        if not isinstance(parameter, Tensor):
            raise ValueError(
                f"parameters must be tensors, got {type(parameter).__name__}: use"
                " module.parameters()"
            )
    if len({id(parameter) for parameter in found}) < len(found):
        raise ValueError("a parameter is given twice: give each once")
    return [parameter for parameter in found if parameter.requires_grad]


def trainable_parameters(
    task_losses: Tensor,
    shared_parameters: Iterable[Tensor],
    task_parameters: Sequence[Iterable[Tensor]] | None,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Returns the trainable shared parameters, and those of each task.

    Raises:
        ValueError: losses without a graph, no such parameters, or one that has two places.
    """
    if not task_losses.requires_grad:
        raise ValueError("the task losses have no graph: compute them with gradients enabled")
    shared = _trainable(shared_parameters)
    if not shared:
        raise ValueError(
            "no shared parameters that require a gradient: give the common trunk's, as a list,"
            " because a generator such as module.parameters() can be used once only"
        )
    if task_parameters is None:
        return shared, [[] for _ in task_losses]
    heads = [_trainable(parameters) for parameters in task_parameters]
    if len(heads) != len(task_losses):
        raise ValueError(
            f"task_parameters has {len(heads)} collections for {len(task_losses)} task losses:"
            " give one per task, empty ones included"
        )
    if not any(heads):
        raise ValueError(
            "task_parameters holds no parameter that requires a gradient: give lists, because a"
            " generator such as module.parameters() can be used once only, or leave it out"
        )
    of_heads = [id(parameter) for head in heads for parameter in head]
    if len({*of_heads, *map(id, shared)}) < len(of_heads) + len(shared):
        raise ValueError("a parameter belongs to several tasks: give it to shared_parameters only")
    return shared, heads


def check_name(kind: str, name: str, valid: Collection[str], listing: str | None = None) -> None:
    """Raises ValueError, with the nearest valid names, unless `name` is one of `valid`.

    `listing` describes the valid names where they are too many to print.
    """
    if name in valid:
        return
    nearest = difflib.get_close_matches(str(name), valid, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise ValueError(f"unknown {kind} {name!r}: {hint}valid: {listing or ', '.join(valid)}")
