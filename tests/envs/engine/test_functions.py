"""The fast functions against the libraries' own, bit for bit."""

import math

import numpy as np
import pytest
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

from envs.engine import functions

SIGMOIDS = ("long_tail", "gaussian", "linear", "quadratic", "hyperbolic", "reciprocal")


def spread(count: int, seed: int = 0) -> np.ndarray:
    """Numbers of both signs over twelve decades."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=count) * 10.0 ** generator.integers(-9, 4, count)


def assert_same(fast, original):
    assert np.array_equal(np.asarray(fast), np.asarray(original), equal_nan=True)
    assert np.signbit(fast).tolist() == np.signbit(original).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_norm_of_vectors(size):
    for vector in spread(2000 * size).reshape(-1, size):
        result = functions.norm(vector)
        assert_same(result, np.linalg.norm(vector))
        assert type(result) is np.float64
        assert_same(functions.norm(vector[::-1], ord=2), np.linalg.norm(vector[::-1], ord=2))


def test_norm_of_scalars():
    for x in spread(2000):
        assert_same(functions.norm(x), np.linalg.norm(x))
    with np.errstate(over="ignore"):
        assert functions.norm(np.float64(1e200)) == np.linalg.norm(np.float64(1e200)) == math.inf
    assert math.isnan(functions.norm(np.float64("nan")))


@pytest.mark.parametrize(
    ("x", "kwargs"),
    [
        (np.arange(6.0).reshape(2, 3), {}),
        (np.arange(6.0).reshape(2, 3), {"axis": 1}),
        (np.arange(3, dtype=np.float32), {}),
        (np.arange(3), {}),
        (np.arange(3.0), {"ord": 1}),
        (np.arange(3.0), {"keepdims": True}),
        ([1.0, 2.0], {}),
        (np.zeros(0), {}),
    ],
)
def test_norm_of_anything_else_is_numpy_s(x, kwargs):
    fast, original = functions.norm(x, **kwargs), np.linalg.norm(x, **kwargs)
    assert_same(fast, original)
    assert fast.dtype == original.dtype


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_clip_of_scalars(kind):
    for x in map(kind, [*spread(500), -1.0, 1.0, 0.1, -0.0, math.inf, -math.inf]):
        for bounds in ((-1, 1), (0.0, 1.0), (0.1, 0.1)):
            fast = functions.clip(x, *bounds)
            assert_same(fast, np.clip(x, *bounds))
            assert type(fast) is kind
    assert math.isnan(functions.clip(kind("nan"), 0, 1))


def test_clip_of_anything_else_is_numpy_s():
    x = np.linspace(-2, 2, 5)
    assert_same(functions.clip(x, -1, 1), np.clip(x, -1, 1))
    assert_same(functions.clip(np.float64(3), None, 1), 1)
    assert_same(functions.clip(x[0], np.float64(-1), np.float64(1)), -1)
    assert_same(functions.clip(np.float64(0), 2, 1), np.clip(np.float64(0), 2, 1))


@pytest.mark.parametrize(
    "arrays",
    [
        (np.arange(3.0), np.arange(4.0)),
        (np.float64(1), np.float64(2)),
        (np.arange(3.0), np.float64(2), [1.0, 2.0]),
        [np.arange(3), np.arange(2.0)],
        (np.ones((2, 1)), np.ones((2, 2))),
        (1.0, 2.0),
    ],
)
def test_hstack(arrays):
    fast, original = functions.hstack(arrays), np.hstack(arrays)
    assert np.array_equal(fast, original)
    assert fast.dtype == original.dtype


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
@pytest.mark.parametrize("kind", [float, np.float64])
def test_tolerance(sigmoid, kind):
    generator = np.random.default_rng(0)
    for x in map(kind, spread(1500)):
        lower = generator.choice([0.0, 0.02, -0.3])
        upper = lower + generator.choice([0.0, 0.05, math.inf])
        margin = kind(generator.choice([0.0, 0.01, abs(spread(1, int(abs(x) * 1e6) % 97)[0])]))
        options = {"bounds": (lower, upper), "margin": margin, "sigmoid": sigmoid}
        with np.errstate(all="ignore"):
            fast, original = functions.tolerance(x, **options), reward_utils.tolerance(x, **options)
        assert_same(fast, original)
        assert type(fast) is type(original) is float


def test_tolerance_far_beyond_the_margin_and_with_nan():
    for x, margin in [(1e200, 1e-3), (1e99, 1.0), (math.nan, 0.1), (-math.inf, 1.0), (0.5, 1e300)]:
        for sigmoid in ("long_tail", "gaussian"):
            options = {"bounds": (0.0, 0.1), "margin": margin, "sigmoid": sigmoid}
            with np.errstate(all="ignore"):
                assert_same(functions.tolerance(x, **options), reward_utils.tolerance(x, **options))


def test_tolerance_at_the_bounds():
    for x in (0.01, 0.05):
        for margin in (0.0, 0.1):
            options = {"bounds": (0.01, 0.05), "margin": margin, "sigmoid": "long_tail"}
            assert functions.tolerance(x, **options) == reward_utils.tolerance(x, **options) == 1


def test_tolerance_of_arrays_and_other_values_at_the_margin():
    x = np.linspace(-1, 1, 9)
    assert_same(functions.tolerance(x, margin=0.5), reward_utils.tolerance(x, margin=0.5))
    options = {"margin": 0.5, "value_at_margin": 0.3, "sigmoid": "long_tail"}
    assert_same(functions.tolerance(0.7, **options), reward_utils.tolerance(0.7, **options))


@pytest.mark.parametrize(
    "options", [{"bounds": (1.0, 0.0)}, {"margin": -0.1}, {"margin": 0.1, "sigmoid": "none"}]
)
def test_tolerance_refuses_what_the_package_refuses(options):
    for function in (functions.tolerance, reward_utils.tolerance):
        with pytest.raises(ValueError):  # noqa: PT011 - the same function raises both
            function(3.0, **options)


def rotations() -> list[Rotation]:
    generator = np.random.default_rng(0)
    quaternions = generator.normal(size=(3000, 4))
    # Near and at the half turns and the identity, where the largest of four numbers decides.
    quaternions[:1000] *= generator.choice([0.0, 1e-9, 1e-3, 1.0], size=(1000, 4))
    quaternions[:1000, 0] += 1e-3
    return [Rotation.from_quat(quaternion) for quaternion in quaternions]


def test_quaternions():
    for rotation in rotations():
        matrix = rotation.as_matrix()
        fast = functions.quaternion_from_matrix(matrix)
        assert not isinstance(fast, Rotation)  # or the fast path was not tested
        assert_same(fast.as_quat(), Rotation.from_matrix(matrix).as_quat())


def test_quaternions_of_equal_diagonal_entries():
    permutation = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    for matrix in (permutation, permutation.T, np.eye(3), np.diag([1.0, -1, -1])):
        fast = functions.quaternion_from_matrix(matrix).as_quat()
        assert_same(fast, Rotation.from_matrix(matrix).as_quat())


@pytest.mark.parametrize("error", [1e-13, 1e-12, 1e-11, 1e-3])
def test_matrices_that_are_hardly_rotations_are_scipy_s(error):
    for rotation in rotations()[:200]:
        matrix = rotation.as_matrix() + error
        assert_same(
            functions.quaternion_from_matrix(matrix).as_quat(),
            Rotation.from_matrix(matrix).as_quat(),
        )


@pytest.mark.parametrize(("row", "column"), [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)])
def test_matrices_with_one_wrong_angle_are_scipy_s(row, column):
    matrix = np.eye(3)
    matrix[row, column] = 1e-7  # too little to change a row's length
    assert isinstance(functions.quaternion_from_matrix(matrix), Rotation)


def test_matrices_that_scipy_refuses_are_refused():
    with pytest.raises(ValueError, match="Non-positive determinant"):
        functions.quaternion_from_matrix(-np.eye(3))


def test_several_matrices_are_scipy_s():
    matrices = np.stack([rotation.as_matrix() for rotation in rotations()[:3]])
    assert_same(
        functions.quaternion_from_matrix(matrices).as_quat(),
        Rotation.from_matrix(matrices).as_quat(),
    )


@pytest.fixture
def fresh_namespaces():
    functions.namespaces.cache_clear()
    yield functions.namespaces
    functions.namespaces.cache_clear()


def test_all_fast_functions_are_in_use_here(fresh_namespaces):
    names, different = fresh_namespaces()
    assert different == ()
    assert names["np"].linalg.norm is functions.norm
    assert names["np"].clip is functions.clip
    assert names["np"].hstack is functions.hstack
    assert names["reward_utils"].tolerance is functions.tolerance
    assert names["Rotation"].from_matrix is functions.quaternion_from_matrix
    assert names["np"].array is np.array
    assert np.linalg.norm is not functions.norm


@pytest.mark.parametrize(
    ("name", "library_name"),
    [
        ("norm", "numpy.linalg.norm"),
        ("clip", "numpy.clip"),
        ("hstack", "numpy.hstack"),
        ("tolerance", "reward_utils.tolerance"),
        ("quaternion_from_matrix", "Rotation.from_matrix"),
    ],
)
def test_a_function_that_differs_in_one_bit_is_left_out(
    fresh_namespaces, monkeypatch, name, library_name
):
    original = getattr(functions, name)

    def off_by_a_bit(*args, **kwargs):
        result = original(*args, **kwargs)
        if name == "quaternion_from_matrix":
            return functions._Quaternion(np.nextafter(result.as_quat(), 2))
        if name == "clip":
            return np.nextafter(result, result.dtype.type(2))
        return result * (1 + 2e-16)

    monkeypatch.setattr(functions, name, off_by_a_bit)
    with pytest.warns(RuntimeWarning, match=f"the fast {library_name} differ"):
        names, different = fresh_namespaces()
    assert different == (library_name,)
    used = {
        "norm": names["np"].linalg.norm,
        "clip": names["np"].clip,
        "hstack": names["np"].hstack,
        "tolerance": names["reward_utils"].tolerance,
        "quaternion_from_matrix": names["Rotation"].from_matrix,
    }
    libraries = {
        "norm": np.linalg.norm,
        "clip": np.clip,
        "hstack": np.hstack,
        "tolerance": reward_utils.tolerance,
        "quaternion_from_matrix": Rotation.from_matrix,
    }
    assert used[name] == libraries[name]
