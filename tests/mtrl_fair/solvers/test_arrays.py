"""The operations of numpy and of torch give the same."""

import numpy as np
import pytest
import torch

from mtrl_fair.solvers.arrays import NUMPY, TORCH, zero_row

GENERATOR = np.random.default_rng(0)
COUNTS = [(), (3,), (2, 3)]


def in_torch(value: object) -> object:
    if isinstance(value, list):
        return [in_torch(entry) for entry in value]
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def both(operation: str, *arguments: object) -> np.ndarray:
    """What an operation gives in numpy, once torch has given the same."""
    expected = getattr(NUMPY, operation)(*arguments)
    found = getattr(TORCH, operation)(*map(in_torch, arguments))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), np.broadcast_to(expected, found.shape), rtol=1e-12)
    return np.asarray(expected)


@pytest.mark.parametrize("count", COUNTS)
def test_reductions_agree(count):
    matrix = GENERATOR.normal(size=(*count, 4, 4))
    assert both("diagonal", matrix).shape == (*count, 4)
    assert both("column_maximum", matrix).shape == (*count, 4)
    largest = both("largest", matrix)
    assert largest.shape == (*count, 4, 1)
    assert (largest[..., 0] == abs(matrix).max(-1)).all()
    assert (both("identity", matrix) == np.eye(4)).all()


def test_halvings_are_a_column():
    halvings = both("halvings", np.ones(3))
    assert halvings.shape == (12, 1)
    assert halvings[:, 0].tolist() == [2.0**-i for i in range(12)]


@pytest.mark.parametrize("count", COUNTS)
def test_linear_systems_agree(count):
    root = GENERATOR.normal(size=(*count, 5, 7))
    matrix = root @ root.swapaxes(-1, -2)
    row = GENERATOR.normal(size=zero_row(NUMPY, matrix).shape)
    found = both("solve", matrix, row)
    np.testing.assert_allclose(found @ matrix, row, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("count", COUNTS)
def test_an_indefinite_system_is_solved_all_the_same(count):
    """Rounding makes some so, and Cholesky's factorisation refuses them."""
    matrix = np.broadcast_to(np.array([[1.0, 2.0], [2.0, 1.0]]), (*count, 2, 2))
    row = np.ones(zero_row(NUMPY, matrix).shape)
    np.testing.assert_allclose(both("solve", matrix, row), 1 / 3)


@pytest.mark.parametrize("count", COUNTS)
def test_a_singular_system_leaves_numpy_s_step_finite(count):
    matrix = np.ones((*count, 2, 2))
    row = np.broadcast_to([1.0, 2.0], zero_row(NUMPY, matrix).shape)
    assert (NUMPY.solve(matrix, row) == row).all()


@pytest.mark.parametrize("count", COUNTS)
def test_indefinite_matrices_are_told(count):
    matrix = np.broadcast_to(np.array([[1.0, 0.0], [0.0, 1e-3]]), (*count, 2, 2)).copy()
    assert not both("is_indefinite", matrix).any()
    flat = matrix.reshape(-1, 2, 2)
    flat[-1, 1, 1] = -1e-3
    found = both("is_indefinite", matrix)
    assert found.shape == count
    assert found.reshape(-1).tolist() == [False] * (len(flat) - 1) + [True]


@pytest.mark.parametrize("count", COUNTS)
def test_norms_are_clipped_from_below(count):
    """What `clip_grad_norm_` divides by."""
    shape = (*count, 1, 3) if count else (3,)
    long, short = np.full(shape, 2.0), np.full(shape, 0.1)
    np.testing.assert_allclose(both("clipped_norm", long, 1.0), 12**0.5 + 1e-6)
    assert (both("clipped_norm", short, 1.0) == 1.0).all()
    assert (both("clipped_norm", short, 0.1) > 0.17).all()


@pytest.mark.parametrize("count", COUNTS)
def test_each_row_gets_the_candidate_of_its_smallest_companion(count):
    shape = (*count, 1, 2) if count else (2,)
    candidates = [np.full(shape, float(step)) for step in range(4)]
    sizes = GENERATOR.permuted(np.arange(4.0)[:, None].repeat(max(np.prod(count), 1), 1), axis=0)
    sizes = sizes.astype(float).reshape(4, *shape[:-1], 1)
    companions = [size * np.ones(shape) * (-1) ** step for step, size in enumerate(sizes)]
    found = both("at_smallest", candidates, companions)
    expected = np.broadcast_to(sizes.argmin(0), shape)
    assert (found == expected).all()


@pytest.mark.parametrize("xp", [NUMPY, TORCH], ids=["numpy", "torch"])
def test_of_equal_companions_the_first_counts(xp):
    rows = [np.full(2, float(step)) for step in range(3)]
    companions = [np.array([2.0, 0.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    if xp is TORCH:
        rows, companions = in_torch(rows), in_torch(companions)
    assert xp.at_smallest(rows, companions).tolist() == [1.0, 1.0]


def test_only_numpy_s_values_are_looked_at():
    assert NUMPY.surely(np.array([True, True]))
    assert not NUMPY.surely(np.array([True, False]))
    assert not TORCH.surely(torch.tensor([True, True]))
