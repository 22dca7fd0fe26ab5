"""Task gradients of an update, and the equation that its weights solve."""

from typing import NamedTuple

from torch import Tensor

from mtrl_fair import fairgrad_residual
from tests.scripts.integrations.short_runs import ALPHA, ARGUMENTS


class Update(NamedTuple):
    """What a call of `backward` was given and what it did."""

    losses: Tensor
    parameters: list[Tensor]
    values: Tensor
    rows: Tensor
    gradient: Tensor
    weights: Tensor


def assert_equation_4(gramian: Tensor, weights: Tensor) -> None:
    assert (weights > 0).all()
    assert fairgrad_residual(gramian, weights, ALPHA) < 1e-3


def assert_fair_learning(solved: list[tuple[Tensor, Tensor]], losses: tuple[float, float]) -> None:
    """Each of a run's updates had fair weights for its Gramian, and the last loss is lower."""
    assert len(solved) == ARGUMENTS.steps
    for gramian, weights in solved:
        assert_equation_4(gramian, weights)
        assert weights.max() > 1.05 * weights.min()
    first, last = losses
    assert last < first
