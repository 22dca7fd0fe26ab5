"""Random gradients and losses of five tasks, and combiners for them."""

import functools

import torch
from torch import Tensor

from tests.mtrl_fair.combiner_kinds import make_alike

K = 5


def jacobian(
    seed: int = 0, tasks: int = K, size: int = 30, decades: float = 1.0, shift: float = 0.0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, size, dtype=torch.float64, generator=generator) + shift
    scale = torch.rand(tasks, 1, dtype=torch.float64, generator=generator) - 0.5
    return rows * 10 ** (decades * scale)


def losses_of(seed: int = 0, tasks: int = K) -> Tensor:
    return torch.rand(tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1


def direction(combiner, rows: Tensor, losses: Tensor | None = None) -> Tensor:
    return combiner.combine(rows, losses_of(tasks=len(rows)) if losses is None else losses)[0]


def parallel(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=-1).min())


make = functools.partial(make_alike, tasks=K)
