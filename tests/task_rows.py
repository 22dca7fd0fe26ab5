"""Task gradients as rows, by the obvious way."""

from collections.abc import Iterable

import torch
from torch import Tensor


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def rows_of(losses: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """[K, P], by one autograd.grad per task."""
    shared = list(parameters)
    return torch.stack(
        [flat(torch.autograd.grad(loss, shared, retain_graph=True)) for loss in losses]
    )
