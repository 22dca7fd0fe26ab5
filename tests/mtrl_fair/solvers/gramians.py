"""Random task gradients and their Gramians, and the solver's residuals on them."""

import torch
from torch import Tensor

from mtrl_fair.solvers.equation import solve

ALPHAS = (0.5, 1.0, 2.0, 5.0)


def jacobian(
    seed: int = 0,
    tasks: int = 4,
    size: int = 40,
    decades: float = 0.0,
    count: tuple[int, ...] = (),
    shift: float = 0.0,
) -> Tensor:
    """Task gradients whose norms differ by up to the given decades; a shift lessens conflict."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(*count, tasks, size, dtype=torch.float64, generator=generator) + shift
    scale = torch.rand(*count, tasks, 1, dtype=torch.float64, generator=generator) - 0.5
    return rows * 10 ** (decades * scale)


def gramian(*args, **kwargs) -> Tensor:
    rows = jacobian(*args, **kwargs)
    return rows @ rows.mT


def residuals(rows: Tensor, alpha: float, solver: str = "newton") -> Tensor:
    return solve(rows @ rows.mT, alpha, solver).residual
