"""`scalarize`, for every combiner that is a weighted sum."""

import pytest
import torch

from mtrl_fair import COMBINERS
from tests.mtrl_fair.combiners.combiner_kinds import WEIGHTED
from tests.mtrl_fair.combiners.trunk_and_heads import flat_grad, make, problem
from tests.task_rows import rows_of


@pytest.mark.parametrize("name", WEIGHTED)
def test_scalarize_gives_the_direction_through_an_ordinary_backward(name):
    trunk, heads, losses = problem()
    rows = rows_of(losses, trunk.parameters())
    own = torch.autograd.grad(losses[2], list(heads[2].parameters()), retain_graph=True)
    expected, info = make(name).combine(rows, losses.detach())
    loss = make(name).scalarize(losses, trunk.parameters())
    assert loss.ndim == 0
    loss.backward()
    torch.testing.assert_close(flat_grad(trunk), expected, rtol=1e-4, atol=1e-6)
    weighted = info.weights[2] * own[0]
    torch.testing.assert_close(heads[2].weight.grad, weighted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(COMBINERS) - set(WEIGHTED)))
def test_methods_that_are_no_weighted_sum_refuse_to_scalarize(name):
    trunk, _, losses = problem()
    with pytest.raises(TypeError, match="use backward or combine"):
        make(name).scalarize(losses, trunk.parameters())


def test_uw_learns_through_scalarize_as_through_backward():
    for way in ("backward", "scalarize"):
        trunk, _, losses = problem()
        combiner = make("uw")
        if way == "backward":
            combiner.backward(losses, trunk.parameters())
            expected = combiner.log_variances.grad
        else:
            loss = combiner.scalarize(losses, trunk.parameters())
            torch.testing.assert_close(loss, 0.5 * losses.sum())
            loss.backward()
    torch.testing.assert_close(combiner.log_variances.grad, expected)
    torch.testing.assert_close(expected, 0.5 * (1 - losses.detach()))
