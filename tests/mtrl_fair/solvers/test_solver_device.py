"""The solver as a GPU runs it."""

import pytest
import torch
from torch import Tensor

from mtrl_fair import fairgrad_weights
from mtrl_fair.solvers.arrays import TORCH
from mtrl_fair.solvers.equation import SOLVERS, _weights_and_residual, solve
from tests.mtrl_fair.solvers.gramians import ALPHAS, gramian, jacobian

DEVICE_SOLVERS = [name for name, method in SOLVERS.items() if method.on_device is not None]


def solve_in_torch(
    matrix: Tensor, alpha: float, solver: str, precondition: bool = True, rounding: float = 0.0
) -> list[Tensor]:
    run = SOLVERS[solver].on_device
    return _weights_and_residual(TORCH, run, matrix, alpha, precondition, rounding, True)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("solver", DEVICE_SOLVERS)
@pytest.mark.parametrize("count", [(), (5,), (2, 3)])
def test_the_device_path_gives_the_cpu_path_s_numbers(alpha, solver, count):
    """The formulas run on torch where a GPU would run them, with a fixed number of iterations."""
    matrix = gramian(16, tasks=10, size=12, decades=4, count=count)
    weights, residual = solve_in_torch(matrix, alpha, solver)
    expected = solve(matrix, alpha, solver)
    torch.testing.assert_close(weights, expected.weights, rtol=1e-7, atol=0)
    torch.testing.assert_close(residual, expected.residual, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("tasks", [50, 100])
def test_the_device_s_iterations_suffice_for_many_tasks_in_strong_conflict(alpha, tasks):
    rows = jacobian(27, tasks=tasks, size=tasks + 1, count=(6,))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    rows[:, 1] = -0.9999 * rows[:, 0] + 0.014 * rows[:, 1]
    matrix = (rows @ rows.mT) * 10 ** torch.linspace(-1, 1, tasks).double()[:, None]
    matrix = matrix * 10 ** torch.linspace(-1, 1, tasks).double()
    _, residual = solve_in_torch(matrix, alpha, "newton")
    assert residual.max() < 1e-6


def test_the_device_s_iterations_and_shortened_steps_suffice_for_unlike_norms():
    """Twenty-five iterations leave a dozen of these unsolved, and full steps leave one."""
    matrix = gramian(11, tasks=3, size=4, decades=6, count=(50,))
    _, residual = solve_in_torch(matrix, 20.0, "newton")
    assert residual.max() < 1e-6


@pytest.mark.parametrize("count", [(), (4,)])
@pytest.mark.parametrize("solver", DEVICE_SOLVERS)
@pytest.mark.parametrize("precondition", [True, False])
def test_a_task_without_gradient_gets_weight_0_on_a_device(solver, count, precondition):
    """There the host may not look whether all tasks have a gradient."""
    rows = jacobian(28, tasks=5, count=count)
    rows[..., 2, :] = 0
    precondition = precondition or not SOLVERS[solver].solves_raw
    weights, residual = solve_in_torch(rows @ rows.mT, 2.0, solver, precondition)
    expected = solve(rows @ rows.mT, 2.0, solver, precondition=precondition)
    torch.testing.assert_close(weights, expected.weights, rtol=1e-7, atol=0)
    torch.testing.assert_close(residual, expected.residual, rtol=1e-3, atol=1e-8)
    assert (weights[..., 2] == 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("count", [(), (4,)])
def test_opposite_gradients_get_the_cpu_path_s_weights_on_a_device(alpha, count):
    """Rounding is all that is left of the smallest eigenvalue, so the diagonal is raised."""
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(*count, 2, 2)
    rounding = 16 * torch.finfo(torch.float32).eps
    weights, _ = solve_in_torch(matrix.double(), alpha, "newton", rounding=rounding)
    torch.testing.assert_close(weights.float(), fairgrad_weights(matrix, alpha), rtol=1e-5, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("solver", DEVICE_SOLVERS)
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
