"""Where no exact solution exists or can be computed, weights stay finite."""

import dataclasses

import pytest
import torch

from mtrl_fair import fairgrad_residual, fairgrad_weights
from mtrl_fair.solvers import equation
from mtrl_fair.solvers.arrays import NUMPY
from mtrl_fair.solvers.equation import solve
from tests.mtrl_fair.solvers.gramians import ALPHAS, gramian, jacobian


@pytest.mark.parametrize("alpha", ALPHAS)
def test_pareto_stationary_gradients_get_finite_weights(alpha):
    weights = fairgrad_weights(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), alpha)
    assert weights.isfinite().all()
    assert (weights > 30).all()  # the solution diverges there


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("tasks", [2, 3, 10])
@pytest.mark.parametrize("noise", [1e-3, 1e-4, 1e-5, 0.0])
def test_float32_directions_next_to_pareto_stationarity_do_not_run_wild(alpha, tasks, noise):
    """Where the rounding of the Gramian is all that is left of it."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(tasks, 1000, generator=generator)
        rows = rows - rows.mean(0) + noise * torch.randn(1000, generator=generator)
        direction = fairgrad_weights(rows @ rows.mT, alpha) @ rows
        assert direction.norm() < 20 * rows.norm(dim=1).max()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_opposite_float32_gradients_are_solved_with_the_raised_diagonal(alpha):
    """Steps that take a raised diagonal for 1 do not converge, from alpha = 1 on."""
    weights = fairgrad_weights(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), alpha)
    raised = 4 * 16 * torch.finfo(torch.float32).eps
    eigenvalue = raised / (1 + raised)  # of (1, 1); the diagonal is made 1 again
    expected = torch.full((2,), eigenvalue ** (-alpha / (1 + alpha)))
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=0)


def test_a_gramian_that_rounding_made_indefinite_is_solved():
    """From two float32 gradients that oppose each other; Newton's system is singular on the way."""
    off = -524.519775390625
    matrix = torch.tensor([[524.5195922851562, off], [off, 524.5199584960938]])
    assert fairgrad_weights(matrix, 1.0).isfinite().all()


@pytest.mark.parametrize("solver", ["newton", "sgd"])
@pytest.mark.parametrize("alpha", [0.1, 100.0])
@pytest.mark.parametrize("size", [12, 1000])
def test_extreme_alphas_stay_finite_and_report_their_residual(alpha, size, solver):
    """Not exact: at alpha = 100 a weight would be 1e-400, at 0.1 gains would cancel to 1e-40."""
    matrix = gramian(18, tasks=10, size=size, decades=4, count=(20,))
    solution = solve(matrix, alpha, solver)
    assert solution.weights.isfinite().all()
    assert not solution.residual.isnan().any()
    if size == 1000:
        expected = fairgrad_residual(matrix, solution.weights, alpha)
        torch.testing.assert_close(solution.residual, expected, rtol=1e-2, atol=1e-3)
    else:
        assert solution.residual.max() > 1e-6


@pytest.mark.parametrize("count", [(), (4,)])
def test_a_task_without_gradient_costs_no_iterations(monkeypatch, count):
    """With a stand-in that cannot be solved, Newton goes on to its last iteration."""
    systems = []

    def counted(matrix, row):
        systems.append(row)
        return NUMPY.solve(matrix, row)

    monkeypatch.setattr(equation, "NUMPY", dataclasses.replace(NUMPY, solve=counted))
    rows = jacobian(28, tasks=5, count=count)
    solve(rows @ rows.mT, 2.0, "newton")
    with_all = len(systems)
    rows[..., 2, :] = 0
    solve(rows @ rows.mT, 2.0, "newton")
    assert 0 < len(systems) - with_all <= with_all + 1
