"""A trunk with three heads and task losses, and combiners for them."""

import functools

import torch
from torch import Tensor, nn

from tests.mtrl_fair.combiners.combiner_kinds import make_alike
from tests.task_rows import flat

K = 3


make = functools.partial(make_alike, tasks=K)


def problem(seed: int = 0) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    """A shared trunk, one head per task and K task losses of different scale."""
    torch.manual_seed(seed)
    trunk, heads = nn.Linear(4, 5), nn.ModuleList(nn.Linear(5, 1) for _ in range(K))
    features = trunk(torch.randn(16, 4)).tanh()
    losses = torch.stack([10**k * head(features).square().mean() for k, head in enumerate(heads)])
    return trunk, heads, losses


def flat_grad(module: nn.Module) -> Tensor:
    return flat(parameter.grad for parameter in module.parameters())
