"""FairGrad's equation 4 and the laws that follow from it."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_fair import SOLVERS, NonFiniteError, fairgrad_residual, fairgrad_weights
from mtrl_fair.solver import _residual, _solve, solve

ALPHAS = (0.5, 1.0, 2.0, 5.0)


def jacobian(
    seed: int, tasks: int = 4, size: int = 40, decades: float = 0.0, count: tuple[int, ...] = ()
) -> Tensor:
    """Task gradients whose norms differ by up to the given decades."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(*count, tasks, size, dtype=torch.float64, generator=generator)
    scale = torch.rand(*count, tasks, 1, dtype=torch.float64, generator=generator) - 0.5
    return rows * 10 ** (decades * scale)


def gramian(*args, **kwargs) -> Tensor:
    rows = jacobian(*args, **kwargs)
    return rows @ rows.mT


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b, dim=-1)


def residuals(rows: Tensor, alpha: float, solver: str = "newton") -> Tensor:
    return solve(rows @ rows.mT, alpha, solver).residual


@pytest.mark.parametrize("alpha", [*ALPHAS, 10.0])
@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50, 100])
@pytest.mark.parametrize("conflict", ["mild", "strong"])
def test_newton_solves_equation_4(alpha, tasks, conflict):
    """Norms over four orders of magnitude; strong: hardly more dimensions than tasks."""
    size = 1000 if conflict == "mild" else tasks + 2
    count = (20,) if tasks <= 10 else (4,)
    rows = jacobian(0, tasks=tasks, size=size, decades=4, count=count)
    matrix = rows @ rows.mT
    weights = fairgrad_weights(matrix, alpha)
    gains = (matrix @ weights.unsqueeze(-1)).squeeze(-1)
    tolerance = 1e-6 if alpha <= 5 else 1e-4
    torch.testing.assert_close(gains, weights ** (-1 / alpha), rtol=tolerance, atol=0)
    assert residuals(rows.float(), alpha).max() < tolerance
    assert residuals(rows, alpha).dtype == torch.float64


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


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_orthogonal_gradients_have_closed_form_weights(alpha, solver):
    diagonal = torch.tensor([1e-4, 1.0, 25.0], dtype=torch.float64)
    expected = diagonal ** (-alpha / (alpha + 1))
    # The paper's 20 SGD steps stop a little short of the solution.
    rtol = 0.1 if solver == "sgd" else 1e-6
    weights = fairgrad_weights(diagonal.diag(), alpha, solver)
    torch.testing.assert_close(weights, expected, rtol=rtol, atol=0)


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


def test_preconditioned_sgd_obeys_the_scale_law_and_the_published_one_does_not():
    matrix, factor = gramian(2), 37.0

    def deviation(**options) -> float:
        expected = factor ** (-4 / 3) * fairgrad_weights(matrix, 2.0, "sgd", **options)
        scaled = fairgrad_weights(factor**2 * matrix, 2.0, "sgd", **options)
        return float((scaled / expected - 1).abs().max())

    assert deviation() < 1e-9
    assert deviation(precondition=False) > 0.1


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


def test_reference_values():
    rows = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
    weights = fairgrad_weights(rows @ rows.mT, alpha=1.0)
    expected = torch.tensor([0.5915, 0.4071], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=0, atol=5e-5)
    direction = torch.tensor([0.0766, 0.9985, 0.9985], dtype=torch.float64)
    torch.testing.assert_close(weights @ rows, direction, rtol=0, atol=5e-5)


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
    rows = jacobian(24, tasks=10, size=12, decades=4, count=(30,))
    silent = 0
    for entry in rows:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            residual = float(residuals(entry, alpha, "least_squares"))
        assert bool(caught) == (residual > 1e-6)
        silent += not caught
    assert silent >= (20 if alpha <= 2 else 1)


def test_least_squares_warns_where_it_fails():
    rows = jacobian(11, tasks=10, size=12) * 1e-6
    with pytest.warns(RuntimeWarning, match="least_squares left a relative residual"):
        fairgrad_weights(rows @ rows.mT, 0.5, "least_squares", precondition=False)


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


def test_a_gramian_that_rounding_made_indefinite_is_solved():
    """From two float32 gradients that oppose each other; Newton's system is singular on the way."""
    off = -524.519775390625
    matrix = torch.tensor([[524.5195922851562, off], [off, 524.5199584960938]])
    assert fairgrad_weights(matrix, 1.0).isfinite().all()


@pytest.mark.parametrize("weights", [[float("nan")] * 2, [-1.0, 1.0], [float("inf"), 1.0]])
def test_weights_that_are_none_have_an_infinite_residual(weights):
    assert fairgrad_residual(torch.eye(2), torch.tensor(weights), 2.0) == float("inf")


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_result_has_the_type_of_the_gramian(dtype, solver):
    matrix = torch.diag(torch.tensor([1.0, 4.0], dtype=dtype))
    assert fairgrad_weights(matrix, 2.0, solver).dtype == dtype


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", ["newton", "sgd"])
@pytest.mark.parametrize("count", [(), (5,), (2, 3)])
def test_the_device_path_gives_the_cpu_path_s_numbers(alpha, solver, count):
    """The formulas run on torch where a GPU would run them, with a fixed number of iterations."""
    matrix = gramian(16, tasks=10, size=12, decades=4, count=count)
    weights = _solve(torch, matrix, alpha, solver, True)
    expected = solve(matrix, alpha, solver)
    torch.testing.assert_close(weights, expected.weights, rtol=1e-7, atol=0)
    residual = _residual(torch, matrix, weights, alpha)
    torch.testing.assert_close(residual, expected.residual, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("tasks", [50, 100])
def test_the_device_s_iterations_suffice_for_many_tasks_in_strong_conflict(alpha, tasks):
    rows = jacobian(27, tasks=tasks, size=tasks + 1, count=(6,))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    rows[:, 1] = -0.9999 * rows[:, 0] + 0.014 * rows[:, 1]
    matrix = (rows @ rows.mT) * 10 ** torch.linspace(-1, 1, tasks).double()[:, None]
    matrix = matrix * 10 ** torch.linspace(-1, 1, tasks).double()
    weights = _solve(torch, matrix, alpha, "newton", True)
    assert _residual(torch, matrix, weights, alpha).max() < 1e-6


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


@pytest.mark.parametrize("alpha", [0.1, 100.0])
def test_newton_is_exact_at_extreme_alphas_for_equal_norms_and_mild_conflict(alpha):
    assert residuals(jacobian(25, tasks=10, size=1000, count=(20,)), alpha).max() < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_non_finite_gradients_name_their_tasks(solver):
    rows = jacobian(19)
    rows[2, 5] = float("nan")
    with pytest.raises(NonFiniteError, match="gradient of task 2 is not finite") as caught:
        fairgrad_weights(rows @ rows.mT, 2.0, solver)
    assert caught.value.tasks == [2]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), "torch tensor, got ndarray"),
        (torch.ones(2, 3), "shape"),
        (torch.ones(3), "shape"),
        (torch.ones(0, 0), "shape"),
        (torch.ones(2, 2, dtype=torch.int64), "floating-point"),
        (torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), "not symmetric"),
        (torch.tensor([[1.0, 0.0], [0.0, -1.0]]), "negative for tasks \\[1\\]"),
    ],
)
def test_what_is_no_gramian_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        fairgrad_weights(matrix)


@pytest.mark.parametrize("kind", [np.float32, np.int64, int])
def test_alpha_may_be_any_number(kind):
    matrix = gramian(26)
    assert torch.equal(fairgrad_weights(matrix, kind(2)), fairgrad_weights(matrix, 2.0))


@pytest.mark.parametrize("alpha", [-1.0, 1e-3, float("nan"), float("inf"), "2", None])
def test_an_impossible_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        fairgrad_weights(torch.eye(2), alpha)


def test_an_unknown_solver_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown solver 'newtn': did you mean newton"):
        fairgrad_weights(torch.eye(2), solver="newtn")


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["newton", "sgd"])
def test_on_a_gpu_nothing_waits_for_the_host(solver):
    matrix = gramian(20, tasks=10, decades=2)
    on_device = matrix.cuda()
    fairgrad_weights(on_device, 2.0, solver)
    torch.cuda.set_sync_debug_mode("error")
    try:
        weights = fairgrad_weights(on_device, 2.0, solver)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = fairgrad_weights(matrix, 2.0, solver)
    torch.testing.assert_close(weights.cpu(), expected, rtol=1e-6, atol=0)
