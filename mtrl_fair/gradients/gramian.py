"""Inner products and weighted sums of task gradients [K, P], whose P is large.

Half precision is computed in float32: its products would overflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

PIECE = 1024
"""Columns in one product of a Gramian."""
MOST_UPCAST = 2**23 - 2**12
"""Numbers that are upcast at a time: below 32 MiB of float32, which allocators reuse."""


def gramian_of(parts: Iterable[Tensor]) -> Tensor:
    """Returns the inner products [K, K] of task gradients in parts [K, P], at least in float32.

    A product over long rows is cut into short ones, which add up less rounding, and which CPUs
    compute at least three times as fast for up to ten tasks, and as fast for more.
    """
    return torch.stack([_gramian_of(block) for part in parts for block in _blocks(part)]).sum(0)


def weighted_sum(weights: Tensor, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns Σ w_i g_i of task gradients [K, P] by name: [P], at least in float32."""
    return {
        name: torch.cat([weights.to(block.dtype) @ block for block in _blocks(part)])
        for name, part in parts.items()
    }


def upcast_if_small(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the parts, in float32 at least, but large ones as they are.

    A copy of a large part would cost fresh memory at every step. `gramian_of` and `weighted_sum`
    upcast it in blocks.
    """
    return {
        name: part if part.numel() > MOST_UPCAST else at_least_float32(part)
        for name, part in parts.items()
    }


def concatenated(parts: dict[str, Tensor]) -> Tensor:
    """Returns all parts [K, P] side by side, at least in float32."""
    values = list(parts.values())
    return at_least_float32(values[0] if len(values) == 1 else torch.cat(values, 1))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Returns the tensor, in float32 if its precision is lower."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def total_norm(parts: Iterable[Tensor]) -> Tensor:
    """Returns the norm [] of all parts together."""
    return torch.stack([torch.linalg.vector_norm(part) for part in parts]).norm()


def per_row(values: Tensor, rows: Tensor) -> Tensor:
    """Returns values [K] in the form that multiplies rows [K, *shape], in their dtype."""
    return values.to(rows.dtype).view(-1, *[1] * (rows.ndim - 1))


def _gramian_of(rows: Tensor) -> Tensor:
    pieces = rows.shape[1] // PIECE
    if pieces < 2:
        return rows @ rows.mT
    even, rest = rows.split([pieces * PIECE, rows.shape[1] - pieces * PIECE], 1)
    cut = even.unflatten(1, (pieces, PIECE)).transpose(0, 1)
    return (cut @ cut.mT).sum(0) + rest @ rest.mT


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    """Yields columns of the rows, at least in float32; all at once if nothing is to be upcast."""
    size = max(rows.shape[1], 1)
    if torch.promote_types(rows.dtype, torch.float32) != rows.dtype:
        size = min(size, max(MOST_UPCAST // len(rows) // PIECE, 1) * PIECE)
    for block in rows.split(size, 1):
        yield at_least_float32(block)
