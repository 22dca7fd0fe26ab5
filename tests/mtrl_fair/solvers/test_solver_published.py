"""The published solvers, SGD and least squares, as published and preconditioned."""

import warnings

import pytest
import torch
from torch import Tensor

from mtrl_fair import fairgrad_weights
from tests.mtrl_fair.solvers.gramians import ALPHAS, gramian, jacobian, residuals


def test_preconditioned_sgd_obeys_the_scale_law_and_the_published_one_does_not():
    matrix, factor = gramian(2), 37.0

    def deviation(**options) -> float:
        expected = factor ** (-4 / 3) * fairgrad_weights(matrix, 2.0, "sgd", **options)
        scaled = fairgrad_weights(factor**2 * matrix, 2.0, "sgd", **options)
        return float((scaled / expected - 1).abs().max())

    assert deviation() < 1e-9
    assert deviation(precondition=False) > 0.1


def published_sgd(
    matrix: Tensor, alpha: float, target: Tensor | float = 1.0, start: Tensor | None = None
) -> Tensor:
    """The paper's RL solver through autograd and torch.optim.SGD."""
    epsilon = 1e-8
    start = torch.full_like(matrix[0], 1 / len(matrix)) if start is None else start
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.5)
    best, best_objective = weights.detach().clone(), float("inf")
    for step in range(21):
        optimizer.zero_grad()
        wanted = target * (weights + epsilon) ** (-1 / alpha)
        objective = (matrix @ weights - wanted).square().sum()
        objective.backward()
        if objective.item() < best_objective:
            best, best_objective = weights.detach().clone(), objective.item()
        if step < 20:
            torch.nn.utils.clip_grad_norm_([weights], 1.0)
            optimizer.step()
            weights.data.clamp_(min=epsilon)
    return best


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [0.01, 0.3, 3.0])
def test_published_sgd_agrees_with_torch(alpha, scale):
    matrix = gramian(7, tasks=6, size=20) * scale**2
    weights = fairgrad_weights(matrix, alpha, "sgd", precondition=False)
    torch.testing.assert_close(weights, published_sgd(matrix, alpha), rtol=1e-5, atol=1e-9)


def test_preconditioned_sgd_is_the_published_solver_on_the_cosines():
    """C v = t v^(-p), t = n^(p-1), from the solution for orthogonal gradients, of unit size."""
    matrix, alpha = gramian(8, tasks=6, decades=3), 2.0
    p = 1 / alpha
    norms = matrix.diagonal().sqrt()
    cosines = matrix / norms[:, None] / norms
    start = norms ** ((p - 1) / (p + 1))
    size = start.square().mean().sqrt()
    start = start / size
    expected = size * published_sgd(cosines, alpha, start ** (1 + p), start) / norms
    weights = fairgrad_weights(matrix, alpha, "sgd")
    torch.testing.assert_close(weights, expected, rtol=1e-8, atol=0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b, dim=-1)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("tasks", [2, 5, 10])
@pytest.mark.parametrize("decades", [0, 2, 4])
def test_preconditioned_sgd_is_accurate_under_mild_conflict(alpha, tasks, decades):
    rows = jacobian(9, tasks=tasks, size=60, decades=decades, count=(600,))
    norms = rows.norm(dim=-1, keepdim=True)
    cosines = (rows / norms) @ (rows / norms).mT
    rows = rows[cosines.amin((-1, -2)) >= -0.3]
    assert len(rows) > 50

    def direction(solver: str) -> Tensor:
        weights = fairgrad_weights(rows @ rows.mT, alpha, solver)
        return (weights.unsqueeze(-2) @ rows).squeeze(-2)

    cosines = cosine(direction("sgd"), direction("newton"))
    assert cosines.min() >= 0.98
    assert cosines.median() >= 0.999


@pytest.mark.parametrize("alpha", ALPHAS)
def test_least_squares_equals_newton(alpha):
    matrix = gramian(10, tasks=6, decades=2)
    expected = fairgrad_weights(matrix, alpha, "newton")
    weights = fairgrad_weights(matrix, alpha, "least_squares")
    torch.testing.assert_close(weights, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [*ALPHAS, 10.0])
def test_least_squares_is_exact_or_says_so(alpha):
    rows = jacobian(24, tasks=10, size=12, decades=4, count=(10,))
    silent = 0
    for entry in rows:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            residual = float(residuals(entry, alpha, "least_squares"))
        assert bool(caught) == (residual > 1e-6)
        silent += not caught
    assert silent >= (7 if alpha <= 2 else 1)


def test_least_squares_warns_where_it_fails():
    rows = jacobian(11, tasks=10, size=12) * 1e-6
    with pytest.warns(RuntimeWarning, match="least_squares left a relative residual") as caught:
        fairgrad_weights(rows @ rows.mT, 0.5, "least_squares", precondition=False)
    assert caught[0].filename == __file__  # the caller's line, not the library's
