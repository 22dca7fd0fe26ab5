"""The array operations that differ between numpy and torch, so that every formula stands once.

A solve on the CPU runs in numpy, whose calls cost less than torch's on matrices this small. On
another device it runs in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)

MAX_HALVINGS = 11
HALVINGS = 0.5 ** np.arange(MAX_HALVINGS + 1.0)[:, None]


@dataclass(frozen=True)
class Arrays(Generic[Array]):
    """Holds one library's form of each operation. Rows are [..., K], matrices [..., K, K].

    A single Gramian has rows [K] and not [1, K], which is faster in numpy.
    """

    reads_values: bool
    """Whether the host may look at values while it solves: the one policy that differs.

    numpy: yes. Solves stop where they have converged, and skip work that values show to be
    needless. torch: no. To look would make the host wait for the device, and could not be captured
    in a CUDA graph. Solves take a fixed number of iterations, do all of the work and select.
    """

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    maximum: Callable[[Array, Array], Array]
    minimum: Callable[[Array, Array], Array]
    where: Callable[[Array, Array, Array], Array]
    ones_like: Callable[[Array], Array]
    zeros_like: Callable[[Array], Array]

    diagonal: Callable[[Array], Array]
    """The diagonals [..., K] of matrices."""
    identity: Callable[[Array], Array]
    """The identity [K, K] that fits matrices."""
    largest: Callable[[Array], Array]
    """The largest absolute value [..., 1] of each row."""
    column_maximum: Callable[[Array], Array]
    """The largest value [..., K] of each column of matrices [..., N, K]."""
    halvings: Callable[[Array], Array]
    """1, 1/2, 1/4, … as a column [N, 1], on the device of the argument."""
    clipped_norm: Callable[[Array, float], Array | float]
    """The norm of each row, plus 1e-6 as in torch's `clip_grad_norm_`, and at least a bound.

    [..., 1]; for a single row in numpy a number, which is faster than an array of one.
    """
    solve: Callable[[Array, Array], Array]
    """The rows x with x matrix = row, for symmetric matrices.

    Where rounding made a matrix singular, x is what leaves the caller's iteration finite: numpy
    returns the row itself, torch whatever its solver found.
    """
    is_indefinite: Callable[[Array], Array]
    """Whether matrices have an eigenvalue below 0: [...], bool."""
    at_smallest: Callable[[list[Array], list[Array]], Array]
    """For each row, the candidate whose companion has the smallest norm, the first of equals."""

    def surely(self, conditions: Array) -> bool:
        """Returns whether the host knows that all conditions hold; in torch it never does."""
        return self.reads_values and bool(conditions.all())


def zero_row(xp: Arrays[Array], matrix: Array) -> Array:
    """Returns a row of zeros: [..., 1, K], but [K] for a single matrix."""
    return xp.zeros_like(matrix[0] if matrix.ndim == 2 else matrix[..., :1, :])


def squared_norm(rows: Array) -> Array:
    """Returns the squared norm [..., 1] of each row."""
    return (rows * rows).sum(-1)[..., None]


def _numpy_clipped_norm(rows: np.ndarray, least: float) -> np.ndarray | float:
    if rows.ndim == 1:
        return max((rows @ rows) ** 0.5 + 1e-6, least)
    return np.clip(squared_norm(rows) ** 0.5 + 1e-6, least, None)


def _numpy_solve(matrix: np.ndarray, row: np.ndarray) -> np.ndarray:
    if matrix.ndim == 2:  # np.linalg.solve takes five times as long to call
        _, found, failure = scipy.linalg.lapack.dposv(matrix, row)
        if not failure:
            return found
    try:
        return np.linalg.solve(matrix, row.reshape((*matrix.shape[:-1], 1))).reshape(row.shape)
    except np.linalg.LinAlgError:
        return row


def _numpy_at_smallest(candidates: list[np.ndarray], companions: list[np.ndarray]) -> np.ndarray:
    best = squared_norm(np.array(companions)).argmin(0)
    if candidates[0].ndim == 1:
        return candidates[best.item()]
    return np.take_along_axis(np.stack(candidates), best[None], 0)[0]


def _torch_solve(matrix: Tensor, row: Tensor) -> Tensor:
    # torch.linalg.solve would make the host wait for the device, to raise on a singular matrix.
    column = row.reshape((*matrix.shape[:-1], 1))
    return torch.linalg.solve_ex(matrix, column)[0].reshape(row.shape)


def _torch_at_smallest(candidates: list[Tensor], companions: list[Tensor]) -> Tensor:
    best = squared_norm(torch.stack(companions)).argmin(0)
    return torch.take_along_dim(torch.stack(candidates), best[None], 0)[0]


NUMPY: Arrays[np.ndarray] = Arrays(
    reads_values=True,
    exp=np.exp,
    log=np.log,
    maximum=np.maximum,
    minimum=np.minimum,
    where=np.where,
    ones_like=np.ones_like,
    zeros_like=np.zeros_like,
    diagonal=lambda matrix: np.einsum("...ii->...i", matrix),
    identity=lambda matrix: np.eye(matrix.shape[-1]),
    largest=lambda rows: abs(rows).max(-1)[..., None],
    column_maximum=lambda matrix: matrix.max(-2),
    halvings=lambda like: HALVINGS,
    clipped_norm=_numpy_clipped_norm,
    solve=_numpy_solve,
    is_indefinite=lambda matrix: np.linalg.eigvalsh(matrix)[..., 0] < 0,
    at_smallest=_numpy_at_smallest,
)

TORCH: Arrays[Tensor] = Arrays(
    reads_values=False,
    exp=torch.exp,
    log=torch.log,
    maximum=torch.maximum,
    minimum=torch.minimum,
    where=torch.where,
    ones_like=torch.ones_like,
    zeros_like=torch.zeros_like,
    diagonal=lambda matrix: torch.einsum("...ii->...i", matrix),
    identity=lambda matrix: torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device),
    largest=lambda rows: abs(rows).amax(-1)[..., None],
    column_maximum=lambda matrix: matrix.amax(-2),
    halvings=lambda like: (
        0.5 ** torch.arange(MAX_HALVINGS + 1, dtype=like.dtype, device=like.device)[:, None]
    ),
    clipped_norm=lambda rows, least: torch.clip(squared_norm(rows) ** 0.5 + 1e-6, least, None),
    solve=_torch_solve,
    # eigvalsh would make the host wait for the device.
    is_indefinite=lambda matrix: torch.linalg.cholesky_ex(matrix).info != 0,
    at_smallest=_torch_at_smallest,
)
