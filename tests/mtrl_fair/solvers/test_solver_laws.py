"""The laws that follow from FairGrad's equation 4."""

import itertools

import numpy as np
import pytest
import torch

from mtrl_fair import SOLVERS, fairgrad_weights
from mtrl_fair.solvers.equation import solve
from tests.mtrl_fair.solvers.gramians import ALPHAS, gramian, jacobian


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", ["newton", "least_squares"])
def test_scale_law(alpha, solver):
    rows, factor = jacobian(2), 37.0
    weights = fairgrad_weights(rows @ rows.mT, alpha, solver)
    scaled = fairgrad_weights(factor**2 * (rows @ rows.mT), alpha, solver)
    expected = factor ** (-2 * alpha / (alpha + 1)) * weights
    torch.testing.assert_close(scaled, expected, rtol=1e-7, atol=0)
    direction = scaled @ (factor * rows)
    expected = factor ** ((1 - alpha) / (1 + alpha)) * (weights @ rows)
    torch.testing.assert_close(direction, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_squared_norm_of_the_direction(alpha):
    matrix = gramian(3)
    weights = fairgrad_weights(matrix, alpha)
    squared_norm = weights @ matrix @ weights
    torch.testing.assert_close(squared_norm, (weights ** (1 - 1 / alpha)).sum())
    if alpha == 1:  # Nash-MTL: the squared norm is K
        assert float(squared_norm) == pytest.approx(4)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_loss_rises_to_first_order(alpha, solver):
    matrix = gramian(4, tasks=8, size=60, decades=2)
    assert (matrix @ fairgrad_weights(matrix, alpha, solver) > 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_permuting_tasks_permutes_weights(alpha, solver):
    matrix, order = gramian(5), torch.tensor([2, 0, 3, 1])
    weights = fairgrad_weights(matrix, alpha, solver)
    permuted = fairgrad_weights(matrix[order][:, order], alpha, solver)
    torch.testing.assert_close(permuted, weights[order], rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_step_size_of_theorem_1_decreases_the_mean_loss(alpha):
    generator = torch.Generator().manual_seed(6)
    centers = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    roots = torch.randn(3, 5, 5, dtype=torch.float64, generator=generator)
    hessians = roots @ roots.mT
    smoothness = torch.linalg.eigvalsh(hessians).max()
    theta = torch.full((5,), 3.0, dtype=torch.float64)

    def mean_loss() -> float:
        offset = theta - centers
        return float(0.5 * torch.einsum("ki,kij,kj->k", offset, hessians, offset).mean())

    losses = [mean_loss()]
    for _ in range(50):
        rows = torch.einsum("kij,kj->ki", hessians, theta - centers)
        weights = fairgrad_weights(rows @ rows.mT, alpha)
        p = 1 / alpha
        step = (weights**-p).sum() / (smoothness * 3 * (weights ** (1 - p)).sum())
        theta = theta - step * (weights @ rows)
        losses.append(mean_loss())
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


@pytest.mark.parametrize("solver", SOLVERS)
def test_alpha_0_is_the_sum(solver):
    assert fairgrad_weights(gramian(12), 0.0, solver).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_single_task(alpha):
    weights = fairgrad_weights(torch.tensor([[7.0]], dtype=torch.float64), alpha)
    assert float(weights) == pytest.approx(7 ** (-alpha / (1 + alpha)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_task_without_gradient_gets_weight_0_and_changes_nothing_else(solver):
    matrix = gramian(13, tasks=3)
    padded = torch.zeros(4, 4, dtype=torch.float64)
    kept = torch.tensor([0, 1, 3])
    padded[kept.unsqueeze(1), kept] = matrix
    weights = fairgrad_weights(padded, 2.0, solver)
    assert weights[2] == 0
    if solver != "sgd":  # which starts at 1/K
        expected = fairgrad_weights(matrix, 2.0, solver)
        torch.testing.assert_close(weights[kept], expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_all_tasks_without_gradient(solver):
    assert fairgrad_weights(torch.zeros(3, 3), 2.0, solver).tolist() == [0, 0, 0]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_duplicated_tasks_share_the_weight_of_one(alpha):
    rows = jacobian(14, tasks=3)
    doubled = rows[[0, 0, 1, 2]]
    weights = fairgrad_weights(doubled @ doubled.mT, alpha)
    assert float(weights[0]) == pytest.approx(float(weights[1]))
    assert solve(doubled @ doubled.mT, alpha, "newton").residual < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_is_solved_entry_by_entry(solver):
    batch = gramian(15, count=(2, 3))
    weights = fairgrad_weights(batch, 2.0, solver)
    for index in np.ndindex(2, 3):
        alone = fairgrad_weights(batch[index], 2.0, solver)
        torch.testing.assert_close(weights[index], alone, rtol=1e-8, atol=0)
