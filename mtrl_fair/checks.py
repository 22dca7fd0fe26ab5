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

MAX_THREADS = 1024
"""Threads that a setting may ask for: torch ends the process, without a word, at a number such as
100,000."""


def check_threads(value: int | None) -> None:
    """Raises ValueError unless torch can compute with this many threads; None passes.

    >>> check_threads(0)
    Traceback (most recent call last):
    ValueError: --threads is 0, expected at least 1
    """
    check_at_least("--threads", value, 1)
    if value is not None and value > MAX_THREADS:
        raise ValueError(f"--threads is {value}, expected at most {MAX_THREADS}")


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
            f" returns it, got {describe(present)}"
        )


def check_head_gradients(gradients: Sequence[Sequence[Tensor | None]]) -> None:
    """Raises NonFiniteError, on CPU, if a head's gradient is not finite."""
    wrong = [
        k
        for k, parts in enumerate(gradients)
        if not all(part is None or part.is_cuda or _is_finite(part) for part in parts)
    ]
    if wrong:
        raise NonFiniteError("gradient of the head", wrong)


def _is_finite(gradient: Tensor) -> bool:
    # A sparse gradient, as of an embedding, holds only values that are not 0.
    values = gradient if gradient.layout == torch.strided else gradient.coalesce().values()
    return bool(values.isfinite().all())


def check_task_losses(task_losses: Tensor, num_tasks: int | None) -> None:
    """Raises ValueError unless the losses are one tensor [K]; K must be `num_tasks` if given.

    Raises NonFiniteError, on CPU, with the tasks whose loss is NaN or infinite.
    """
    if not isinstance(task_losses, Tensor) or task_losses.ndim != 1:
        found = list(task_losses.shape) if isinstance(task_losses, Tensor) else type(task_losses)
        raise ValueError(f"task losses must be one tensor [K], got {found}: stack them")
    if task_losses.is_complex():
        raise ValueError(f"task losses must be real, got {task_losses.dtype}: take .abs() or .real")
    check_num_tasks(len(task_losses), num_tasks)
    if not task_losses.is_cuda and not task_losses.isfinite().all():
        raise NonFiniteError("loss", (~task_losses.isfinite()).nonzero().flatten().tolist())


def check_num_tasks(number: int, expected: int | None) -> None:
    """Raises ValueError unless as many tasks arrive as a combiner was made for (None: any)."""
    if expected is not None and number != expected:
        raise ValueError(f"{number} tasks arrived, but this combiner was made for {expected}")


def check_gradient_rows(task_gradients: Tensor | dict[str, Tensor], task_losses: Tensor) -> None:
    """Raises ValueError unless they are tensors [K, …] with a row for every loss.

    Their numbers are floating-point or complex.
    """
    named = isinstance(task_gradients, dict)
    gradients = list(task_gradients.values()) if named else [task_gradients]
    least_rank = 1 if named else 2
    if not gradients or not all(
        isinstance(value, Tensor)
        and value.ndim >= least_rank
        and (value.is_floating_point() or value.is_complex())
        and value.layout == torch.strided
        for value in gradients
    ):
        raise ValueError(
            "task gradients must be a dense floating-point tensor [K, P], or a dict of"
            f" [K, *shape], got {[describe(value) for value in gradients]}"
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


def describe(value: Any) -> str:
    """Returns shape and dtype of a tensor, and its layout if it is not dense; else the type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout == torch.strided else f" {value.layout}"
    return f"{list(value.shape)} {value.dtype}{layout}"


def _given(parameters: Iterable[Tensor], whose: str, get_grad: bool) -> list[Tensor]:
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise ValueError(
            f"parameters must be a collection of tensors such as module.parameters(), got"
            f" {type(parameters).__name__}"
        )
    found = list(parameters)
    for position, parameter in enumerate(found):
        if not isinstance(parameter, Tensor):
            raise ValueError(
                f"parameters must be tensors, got {type(parameter).__name__}: use"
                " module.parameters()"
            )
        if get_grad and not parameter.is_leaf:
            raise ValueError(
                f"parameter {position} of {whose}, {list(parameter.shape)}, was computed from"
                " others, so it has no .grad: give those, such as module.parameters(), or use"
                " scalarize"
            )
    places = {id(parameter): position for position, parameter in enumerate(found)}
    if len(places) < len(found):
        first, second = next(
            (i, places[id(parameter)])
            for i, parameter in enumerate(found)
            if places[id(parameter)] != i
        )
        raise ValueError(
            f"parameters {first} and {second} of {whose}, {list(found[first].shape)}, are one"
            " parameter given twice: give each once"
        )
    return found


def _trainable(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def trainable_parameters(
    task_losses: Tensor,
    shared_parameters: Iterable[Tensor],
    task_parameters: Sequence[Iterable[Tensor]] | None,
    *,
    get_grad: bool,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Returns the trainable shared parameters, and those of each task.

    Args:
        get_grad: whether their `.grad` will be written, which a computed tensor lacks.

    Raises:
        ValueError: losses without a graph, no such parameters, or one that has two places.
    """
    if not task_losses.requires_grad:
        raise ValueError("the task losses have no graph: compute them with gradients enabled")
    given = _given(shared_parameters, "the shared ones", get_grad)
    shared = _trainable(given)
    if given and not shared:
        raise ValueError(
            f"all {len(given)} shared parameters are frozen, so there is nothing to combine: thaw"
            " some, or call task_losses.sum().backward() for the heads"
        )
    if not shared:
        raise ValueError(
            "no shared parameters that require a gradient: give the common trunk's, as a list,"
            " because a generator such as module.parameters() can be used once only"
        )
    if task_parameters is None:
        return shared, [[] for _ in task_losses]
    heads = [
        _trainable(_given(parameters, f"task {k}", get_grad))
        for k, parameters in enumerate(task_parameters)
    ]
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
    _check_one_place_each(shared, heads)
    return shared, heads


def _check_one_place_each(shared: list[Tensor], heads: list[list[Tensor]]) -> None:
    of_heads = [id(parameter) for head in heads for parameter in head]
    if len({*of_heads, *map(id, shared)}) == len(of_heads) + len(shared):
        return
    places = dict.fromkeys(map(id, shared), "the shared parameters")
    for k, head in enumerate(heads):
        for parameter in head:
            if id(parameter) in places:
                raise ValueError(
                    f"a parameter {list(parameter.shape)} of task {k} is also one of"
                    f" {places[id(parameter)]}, so it belongs to several tasks: give it to"
                    " shared_parameters only"
                )
            places[id(parameter)] = f"task {k}"


def check_name(kind: str, name: str, valid: Collection[str], listing: str | None = None) -> None:
    """Raises ValueError, with the nearest valid names, unless `name` is one of `valid`.

    `listing` describes the valid names where they are too many to print.
    """
    if name in valid:
        return
    nearest = difflib.get_close_matches(str(name), valid, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise ValueError(f"unknown {kind} {name!r}: {hint}valid: {listing or ', '.join(valid)}")
