"""Meta-World's small numerical functions on scalars and 3-vectors, bit for bit, many times faster.

The package calls general ones of numpy and scipy dozens of times per step on a few numbers, where
the call costs more than the arithmetic. Each function here repeats the same floating-point
operations in the same order for the arguments that occur, and hands anything else to the original.
Because libraries may change, `namespaces` compares each with the original on probes when it is
called, and leaves out those that differ in any bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

_ndarray, _float64 = np.ndarray, np.float64
_FLOAT64 = np.dtype(_float64)
_sqrt = math.sqrt
_scalars = (float, np.float64)
_numbers = (int, float)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """`numpy.linalg.norm`; fast for the 2-norm of a float64 vector or scalar."""
    kind = type(x)
    if (
        kind is _ndarray
        and x.ndim == 1
        and x.dtype is _FLOAT64
        and (ord is None or ord == 2)
        and axis is None
        and not keepdims
    ):
        return _float64(_sqrt(x.dot(x)))
    if kind is _float64 and ord is None:
        return _float64(_sqrt(x * x))
    return np.linalg.norm(x, ord, axis, keepdims)


def clip(a: Any, a_min: Any = None, a_max: Any = None, **kwargs: Any) -> Any:
    """`numpy.clip`; fast for a floating scalar between two numbers."""
    kind = type(a)
    if (
        kind in (_float64, np.float32)
        and type(a_min) in _numbers
        and type(a_max) in _numbers
        and a_min <= a_max
        and not kwargs
    ):
        return kind(a_min) if a < a_min else kind(a_max) if a > a_max else a
    return np.clip(a, a_min, a_max, **kwargs)


def hstack(arrays: Any, **kwargs: Any) -> Any:
    """`numpy.hstack`; fast for vectors, and for float64 scalars."""
    kinds = {type(array) for array in arrays}
    if not kwargs and kinds == {_float64}:
        return np.array(arrays)
    if not kwargs and kinds == {np.ndarray} and all(array.ndim == 1 for array in arrays):
        return np.concatenate(arrays)
    return np.hstack(arrays, **kwargs)


_exp = np.exp
_VALUE_AT_MARGIN = reward_utils._DEFAULT_VALUE_AT_MARGIN
_LONG_TAIL_SCALE = float(np.sqrt(1 / _VALUE_AT_MARGIN - 1))
_GAUSSIAN_SCALE = float(np.sqrt(-2 * np.log(_VALUE_AT_MARGIN)))


def tolerance(
    x: Any,
    bounds: tuple[Any, Any] = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: Any = "gaussian",
    value_at_margin: float = _VALUE_AT_MARGIN,
) -> Any:
    """`metaworld.utils.reward_utils.tolerance`; fast for scalars within the bounds, with no
    margin, or with one of the two sigmoids that the rewards use."""
    if type(x) in _scalars:
        lower, upper = bounds
        if lower <= upper and margin >= 0:
            if lower <= x <= upper:
                return 1.0
            if margin == 0:
                return 0.0
            if value_at_margin == _VALUE_AT_MARGIN:
                distance = float((lower - x if x < lower else x - upper) / margin)
                if distance < 1e100:  # or the square would overflow, which a float refuses
                    if sigmoid == "long_tail":
                        return 1 / ((distance * _LONG_TAIL_SCALE) ** 2 + 1)
                    if sigmoid == "gaussian":
                        return float(_exp(-0.5 * (distance * _GAUSSIAN_SCALE) ** 2))
    return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)


class _Quaternion:
    """What `Rotation.from_matrix` returns, for its only use here."""

    __slots__ = ("_quaternion",)

    def __init__(self, quaternion: np.ndarray):
        self._quaternion = quaternion

    def as_quat(self) -> np.ndarray:
        return self._quaternion


_ORTHOGONAL = 1e-13
"""Rotation.from_matrix orthogonalises where a Gramian entry is off by more than 1e-12."""


def quaternion_from_matrix(matrix: np.ndarray) -> _Quaternion | Rotation:
    """`Rotation.from_matrix` for `.as_quat()`; fast for one matrix that is a rotation to 1e-13."""
    if matrix.shape != (3, 3) or matrix.dtype != _float64:
        return Rotation.from_matrix(matrix)
    row_0, row_1, row_2 = matrix.tolist()
    a, b, c = row_0
    d, e, f = row_1
    g, h, i = row_2
    if not (
        abs(a * a + b * b + c * c - 1) < _ORTHOGONAL
        and abs(d * d + e * e + f * f - 1) < _ORTHOGONAL
        and abs(g * g + h * h + i * i - 1) < _ORTHOGONAL
        and abs(a * d + b * e + c * f) < _ORTHOGONAL
        and abs(a * g + b * h + c * i) < _ORTHOGONAL
        and abs(d * g + e * h + f * i) < _ORTHOGONAL
        and a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) > 0.5
    ):
        return Rotation.from_matrix(matrix)
    trace = a + e + i
    largest = a if a >= e else e
    if i > largest:
        largest = i
    if trace > largest:
        x, y, z, w = h - f, c - g, d - b, 1 + trace
    elif largest == a:
        x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
    elif largest == e:
        x, y, z, w = b + d, 1 - trace + 2 * e, h + f, c - g
    else:
        x, y, z, w = c + g, f + h, 1 - trace + 2 * i, d - b
    length = _sqrt(x * x + y * y + z * z + w * w)
    return _Quaternion(np.array((x / length, y / length, z / length, w / length)))


def _same(fast: Callable[..., Any], original: Callable[..., Any], probes: list[Any]) -> bool:
    with np.errstate(all="ignore"):
        for probe in probes:
            expected = np.asarray(original(*probe))
            try:
                result = np.asarray(fast(*probe))
            except Exception:
                return False
            if result.dtype != expected.dtype or not np.array_equal(result, expected, True):
                return False
    return True


@cache
def namespaces() -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns what stands in for `np`, `reward_utils` and `Rotation` in Meta-World's modules, and
    which functions are the original ones because the fast ones differ from them here."""
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=2 + n % 3) * 10.0 ** rng.integers(-6, 3) for n in range(300)]
    scalars = [float(vector[0]) for vector in vectors]
    matrices = [
        Rotation.from_quat(rng.normal(size=4) * ([1, 1, 1, 1] if n % 2 else [0.01, 1, 0.01, 1]))
        for n in range(100)
    ]
    checks: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[Any]]] = {
        "numpy.linalg.norm": (norm, np.linalg.norm, [(x,) for x in (*vectors, *vectors[0])]),
        "numpy.clip": (
            clip,
            np.clip,
            [(kind(x), -0.1, 1) for x in scalars for kind in (_float64, np.float32)],
        ),
        "numpy.hstack": (hstack, np.hstack, [((vector, vector),) for vector in vectors[:9]]),
        "reward_utils.tolerance": (
            tolerance,
            reward_utils.tolerance,
            [
                (x, (0.01, 0.05), abs(x) * 7 % 0.6, sigmoid)
                for x in scalars
                for sigmoid in ("long_tail", "gaussian")
            ],
        ),
        "Rotation.from_matrix": (
            lambda matrix: quaternion_from_matrix(matrix).as_quat(),
            lambda matrix: Rotation.from_matrix(matrix).as_quat(),
            [(rotation.as_matrix(),) for rotation in matrices],
        ),
    }
    different = tuple(name for name, check in checks.items() if not _same(*check))
    if different:
        warnings.warn(
            f"the fast {', '.join(different)} differ from the installed libraries' on this machine,"
            " so Meta-World's environments use the libraries' own, which are slower",
            RuntimeWarning,
            stacklevel=2,
        )
    linalg = SimpleNamespace(**vars(np.linalg))
    numpy = SimpleNamespace(**vars(np))
    numpy.linalg = linalg
    rewards = SimpleNamespace(**vars(reward_utils))
    if "numpy.linalg.norm" not in different:
        linalg.norm = norm
    if "numpy.clip" not in different:
        numpy.clip = clip
    if "numpy.hstack" not in different:
        numpy.hstack = hstack
    if "reward_utils.tolerance" not in different:
        rewards.tolerance = tolerance
    rotation = Rotation
    if "Rotation.from_matrix" not in different:
        rotation = SimpleNamespace(from_matrix=quaternion_from_matrix)
    return {"np": numpy, "reward_utils": rewards, "Rotation": rotation}, different
