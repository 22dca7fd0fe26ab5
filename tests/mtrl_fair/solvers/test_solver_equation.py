"""The solution of FairGrad's equation 4, and its residual."""

import numpy as np
import pytest
import torch

from mtrl_fair import SOLVERS, fairgrad_residual, fairgrad_weights
from mtrl_fair.solvers.equation import solve
from tests.mtrl_fair.solvers.gramians import ALPHAS, gramian, jacobian, residuals


@pytest.mark.parametrize("alpha", [*ALPHAS, 10.0])
@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50, 100])
@pytest.mark.parametrize("conflict", ["mild", "strong"])
def test_newton_solves_equation_4(alpha, tasks, conflict):
    """Norms over four orders of magnitude; strong: hardly more dimensions than tasks."""
    size = 1000 if conflict == "mild" else tasks + 2
    count = (20,) if tasks <= 10 else (2,)
    rows = jacobian(0, tasks=tasks, size=size, decades=4, count=count)
    matrix = rows @ rows.mT
    weights, residual = solve(matrix, alpha, "newton")
    gains = (matrix @ weights.unsqueeze(-1)).squeeze(-1)
    tolerance = 1e-6 if alpha <= 5 else 1e-4
    torch.testing.assert_close(gains, weights ** (-1 / alpha), rtol=tolerance, atol=0)
    assert residual.dtype == torch.float64
    assert residual.max() < tolerance
    assert residuals(rows.float(), alpha).max() < tolerance


@pytest.mark.parametrize("alpha", [*ALPHAS, 10.0])
@pytest.mark.parametrize("cosine", [-0.9, -0.99, -0.9999])
def test_newton_is_exact_for_nearly_opposite_gradients(alpha, cosine):
    rows = jacobian(22, tasks=10, size=50, count=(20,))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    for one, other in ((0, 1), (2, 3)):
        along, across = rows[:, one], rows[:, other]
        across = across - (along * across).sum(-1, keepdim=True) * along
        across = across / across.norm(dim=-1, keepdim=True)
        rows[:, other] = cosine * along + (1 - cosine**2) ** 0.5 * across
    rows = rows * 10 ** torch.linspace(-2, 2, 10, dtype=torch.float64)[:, None]
    assert residuals(rows, alpha).max() < (1e-6 if alpha <= 5 else 1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_newton_solves_rank_deficient_gramians(alpha):
    """Ten gradients in five dimensions that share a direction, so that a solution exists."""
    rows = jacobian(23, tasks=10, size=5, count=(20,)) + 3.0
    assert torch.linalg.matrix_rank(rows @ rows.mT).max() == 5
    assert residuals(rows, alpha).max() < 1e-6


@pytest.mark.parametrize("alpha", [0.1, 100.0])
def test_newton_is_exact_at_extreme_alphas_for_equal_norms_and_mild_conflict(alpha):
    assert residuals(jacobian(25, tasks=10, size=1000, count=(20,)), alpha).max() < 1e-6


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_orthogonal_gradients_have_closed_form_weights(alpha, solver):
    diagonal = torch.tensor([1e-4, 1.0, 25.0], dtype=torch.float64)
    expected = diagonal ** (-alpha / (alpha + 1))
    # The paper's 20 SGD steps stop a little short of the solution.
    rtol = 0.1 if solver == "sgd" else 1e-6
    weights = fairgrad_weights(diagonal.diag(), alpha, solver)
    torch.testing.assert_close(weights, expected, rtol=rtol, atol=0)


def test_reference_values():
    rows = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
    weights = fairgrad_weights(rows @ rows.mT, alpha=1.0)
    expected = torch.tensor([0.5915, 0.4071], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=0, atol=5e-5)
    direction = torch.tensor([0.0766, 0.9985, 0.9985], dtype=torch.float64)
    torch.testing.assert_close(weights @ rows, direction, rtol=0, atol=5e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_products_that_round_apart_do_not_spoil_the_solution(alpha):
    """As `rows @ rows.mT` comes out in float32 on some processors."""
    rows = jacobian(0, tasks=10, size=12, decades=4, count=(20,)).float()
    matrix = rows @ rows.mT
    noise = torch.rand(matrix.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    lengths = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    apart = matrix + 2e-7 * noise.triu(1) * lengths.unsqueeze(-1) * lengths.unsqueeze(-2)
    assert not torch.equal(apart, apart.mT)
    assert solve(apart, alpha, "newton").residual.max() < 1e-6


def test_residual_is_that_of_equation_4():
    matrix, alpha = gramian(17), 2.0
    weights = fairgrad_weights(matrix, alpha)
    assert fairgrad_residual(matrix, weights, alpha) < 1e-9
    # w -> 2w changes A w by log 2 and w^(-1/alpha) by -log(2)/alpha.
    expected = np.log(2) * (1 + 1 / alpha)
    assert float(fairgrad_residual(matrix, 2 * weights, alpha)) == pytest.approx(expected)
    conflicting = torch.tensor([[1.0, -2.0], [-2.0, 8.0]])
    assert fairgrad_residual(conflicting, torch.ones(2), alpha) == float("inf")


def test_the_residual_is_that_before_the_cast():
    """Under strong conflict, rounding the weights to float32 alone costs digits of A w."""
    rows = jacobian(21, tasks=2, size=5)
    rows[1] = -rows[0] + 1e-2 * rows[1]
    matrix = (rows @ rows.mT).float()
    solution = solve(matrix, 2.0, "newton")
    assert solution.weights.dtype == torch.float32
    assert solution.residual < 1e-6 < fairgrad_residual(matrix, solution.weights, 2.0)


@pytest.mark.parametrize("weights", [[float("nan")] * 2, [-1.0, 1.0], [float("inf"), 1.0]])
def test_weights_that_are_none_have_an_infinite_residual(weights):
    assert fairgrad_residual(torch.eye(2), torch.tensor(weights), 2.0) == float("inf")
