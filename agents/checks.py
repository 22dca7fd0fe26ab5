"""Checks of the losses' arguments."""

from __future__ import annotations

from torch import Tensor


def check_ranks(**tensors: tuple[Tensor, int]) -> None:
    """Asserts the number of dimensions of tensors by name.

    With as many samples as tasks, a tensor of another rank would broadcast along the wrong axis
    and give a wrong loss without an error.
    """
    for name, (tensor, rank) in tensors.items():
        assert tensor.ndim == rank, f"{name} has shape {list(tensor.shape)}, expected rank {rank}"
