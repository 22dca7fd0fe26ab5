"""Random gradients and losses of five tasks, and combiners for them."""

import functools

import torch
from torch import Tensor

from tests.mtrl_fair.combiners.combiner_kinds import make_alike
from tests.mtrl_fair.solvers import gramians

K = 5


def losses_of(seed: int = 0, tasks: int = K) -> Tensor:
    return torch.rand(tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1


def direction(combiner, rows: Tensor, losses: Tensor | None = None) -> Tensor:
    return combiner.combine(rows, losses_of(tasks=len(rows)) if losses is None else losses)[0]


def parallel(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=-1).min())


jacobian = functools.partial(gramians.jacobian, tasks=K, size=30, decades=1.0)
make = functools.partial(make_alike, tasks=K)
