"""What the solver takes, what type it returns and what it refuses."""

import numpy as np
import pytest
import torch

from mtrl_fair import SOLVERS, NonFiniteError, fairgrad_weights
from mtrl_fair.solvers.equation import Solver
from tests.mtrl_fair.solvers.gramians import gramian, jacobian


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_result_has_the_type_of_the_gramian(dtype, solver):
    matrix = torch.diag(torch.tensor([1.0, 4.0], dtype=dtype))
    assert fairgrad_weights(matrix, 2.0, solver).dtype == dtype


@pytest.mark.parametrize("kind", [np.float32, np.int64, int])
def test_alpha_may_be_any_number(kind):
    matrix = gramian(26)
    assert torch.equal(fairgrad_weights(matrix, kind(2)), fairgrad_weights(matrix, 2.0))


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


@pytest.mark.parametrize("alpha", [-1.0, 1e-3, float("nan"), float("inf"), "2", None])
def test_an_impossible_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        fairgrad_weights(torch.eye(2), alpha)


def test_a_solver_that_joins_the_table_is_found_by_its_name(monkeypatch):
    """One that returns its start, which solves the equation for orthogonal gradients."""
    start_only = Solver(lambda problem: problem.start, lambda problem: problem.start)
    monkeypatch.setitem(SOLVERS, "start", start_only)
    weights = fairgrad_weights(torch.diag(torch.tensor([1.0, 64.0])), 2.0, "start")
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0625]))
    raw = fairgrad_weights(torch.eye(4), 2.0, "start", precondition=False)
    assert raw.tolist() == [0.25] * 4  # the paper's start


def test_newton_runs_on_the_preconditioned_gramian_in_any_case():
    matrix = gramian(26, decades=4)
    raw = fairgrad_weights(matrix, 2.0, precondition=False)
    assert torch.equal(raw, fairgrad_weights(matrix, 2.0))


def test_an_unknown_solver_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown solver 'newtn': did you mean newton"):
        fairgrad_weights(torch.eye(2), solver="newtn")
