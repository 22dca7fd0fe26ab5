"""Solvers of FairGrad's equation A w = w^(-1/alpha) (paper eq. 4).

With p = 1/alpha and gradient norms n, the substitution v = n w turns equation 4 into

    C v = t v^(-p),    C the cosines,    t = n^(p-1),

which v = t^(1/(1+p)) solves exactly when the gradients are orthogonal, whatever their norms.
"sgd" and "least_squares" minimise its squared error from there; it is well conditioned, because
near the solution its derivative is about C + p I. "newton" solves it for v in logarithms.

The formulas stand once, for numpy and for torch: `xp` is the module whose arrays are in use.
Solves run in float64.
"""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from mtrl_fair.checks import check_gramian, check_name

SOLVERS = ("newton", "sgd", "least_squares")

RIDGE = 1e-14  # relative, on the diagonal: keeps the weights finite at a Pareto-stationary point
SYSTEM_RIDGE = 1e-14  # likewise, keeps Newton's equations solvable in spite of rounding
NEWTON_ITERATIONS = 64  # off the CPU; measured: at most 45 for alpha in [0.5, 5]
NEWTON_ITERATIONS_CPU = 200  # where convergence ends them
NEWTON_TOLERANCE = 1e-9
NEWTON_ROUNDING = 1e-7  # an error below this that stops halving is rounding
NEWTON_LARGEST_STEP = 4.0  # in log v
NEWTON_LARGEST_LOG = 230.0  # v stays within 1e-100 and 1e100
HALVINGS = 0.5 ** np.arange(12.0)[:, None]
MIN_ALPHA = 0.1
SGD_STEPS = 20
SGD_LEARNING_RATE = 0.1
SGD_MOMENTUM = 0.5
SGD_MAX_NORM = 1.0
SGD_EPSILON = 1e-8
LEAST_SQUARES_WARNING = 1e-6


class Solution(NamedTuple):
    """Task weights and how well they satisfied equation 4 before they were cast."""

    weights: Tensor
    """[..., K]"""
    residual: Tensor
    """[...], max_i |log (A w)_i + log(w_i) / alpha| over the tasks that have a gradient."""


def fairgrad_weights(
    gramian: Tensor, alpha: float = 2.0, solver: str = "newton", *, precondition: bool = True
) -> Tensor:
    """Task weights w > 0 with A w = w^(-1/alpha) (paper eq. 4).

    A task whose gradient is zero has no finite weight: it is left out and gets weight 0. At
    alpha = 0 every other weight is 1. Where no solution exists (a Pareto-stationary point: some
    convex combination of the gradients vanishes) the weights are large but finite.

    "newton" solves to a relative residual below 1e-6 for alpha in [0.5, 5] (1e-4 at 10); beyond,
    look at `fairgrad_residual`. Where float32 rounding is all that is left of the smallest
    eigenvalue, it solves for a slightly larger diagonal. "sgd" takes the paper's 20 steps (section
    5.4); with preconditioning its direction has a cosine of at least 0.98 to the exact one for up
    to 10 random gradients with pairwise cosines above -0.3, alpha 1 and 2 and norms within four
    orders of magnitude, and less next to a Pareto-stationary point.
    "least_squares" is scipy's (section 4), with an exact Jacobian and tolerances of 1e-15 in place
    of the published defaults, which stop early; it warns where it fails.

    Args:
        gramian: [..., K, K], the inner products of the task gradients.
        alpha: the fairness exponent, at least 0: 1 is proportional fairness, 2 minimum potential
            delay; large values approach max-min fairness.
        solver: "newton", "sgd" or "least_squares".
        precondition: False runs "sgd" and "least_squares" on the raw Gramian, as published; the
            result then depends on the scale of the losses. "newton" is exact either way.

    Returns:
        [..., K], in the Gramian's dtype and on its device.

    Raises:
        ValueError: a Gramian that is not square or, on CPU, not symmetric; a negative alpha; an
            unknown solver.
        NonFiniteError: a Gramian that is not finite (on CPU; elsewhere NaN comes back, because
            looking would make the host wait for the device).
    """
    (weights,) = _on_device(gramian, alpha, solver, precondition, with_residual=False)
    return weights


def fairgrad_residual(gramian: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Relative residual of equation 4, max_i |log (A w)_i + log(w_i) / alpha|.

    Args:
        gramian: [..., K, K], of which the symmetric part counts.
        weights: [..., K]; entries of 0 are left out.
        alpha: the fairness exponent. At alpha = 0 the residual is max_i |log w_i|.

    Returns:
        [...] in float64, infinite where some (A w)_i <= 0, that is, where a task's loss would rise.
    """
    check_alpha(alpha)
    return _residual(torch, _symmetric(gramian.double()), weights.double(), alpha)


def solve(gramian: Tensor, alpha: float, solver: str, *, precondition: bool = True) -> Solution:
    """`fairgrad_weights` together with the residual of its result."""
    return Solution(*_on_device(gramian, alpha, solver, precondition, with_residual=True))


def _on_device(
    gramian: Tensor, alpha: float, solver: str, precondition: bool, with_residual: bool
) -> list[Tensor]:
    """The weights, and their residual if wanted, computed where that does not make a host wait."""
    check_alpha(alpha)
    check_name("solver", solver, SOLVERS)
    values = check_gramian(gramian)
    device, dtype = gramian.device, gramian.dtype
    xp: Any = np if values is not None or solver == "least_squares" else torch
    matrix: Any = values
    if values is None:
        matrix = gramian.detach().to(device if xp is torch else "cpu", torch.float64)
        matrix = matrix if xp is torch else matrix.numpy()
    matrix = _symmetric(matrix)
    rounding = max(gramian.shape[-1], 16) * torch.finfo(dtype).eps
    weights = _solve(xp, matrix, alpha, solver, precondition, rounding)
    parts = [weights, _residual(xp, matrix, weights, alpha)] if with_residual else [weights]
    return [torch.as_tensor(part, dtype=dtype, device=device) for part in parts]


def _symmetric(gramian: Any) -> Any:
    """Its symmetric part: some processors round A_ij and A_ji differently, and strong conflict
    amplifies the difference."""
    return 0.5 * (gramian + gramian.swapaxes(-1, -2))


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless alpha is 0, or finite and at least 0.1.

    Between them w^(-1/alpha) leaves the range of floating-point numbers.
    """
    if not isinstance(alpha, Real) or not (alpha == 0 or MIN_ALPHA <= alpha < float("inf")):
        raise ValueError(
            f"alpha is {alpha!r}, but a fairness exponent is a number: 0 for the sum, or at least"
            f" {MIN_ALPHA}"
        )


def _solve(
    xp: Any, gramian: Any, alpha: float, solver: str, precondition: bool, rounding: float = 0.0
) -> Any:
    diagonal = xp.einsum("...ii->...i", gramian)
    active = diagonal > 0
    if alpha == 0:
        return active * xp.ones_like(diagonal)
    p = 1.0 / float(alpha)
    matrix = gramian
    all_active = xp is np and active.all()
    if not all_active:
        # An inactive task stands in as an orthogonal one of unit norm, so that shapes stay static.
        one = xp.ones_like(diagonal)
        both = active[..., :, None] & active[..., None, :]
        stand_in = (one * ~active)[..., None] * _identity(xp, gramian)
        matrix, diagonal = xp.where(both, gramian, stand_in), xp.where(active, diagonal, one)
    if precondition or solver == "newton":
        inverse_norms = diagonal**-0.5
        matrix = inverse_norms[..., :, None] * matrix * inverse_norms[..., None, :]
        start = diagonal ** (0.5 * (p - 1.0) / (p + 1.0))
        size = (_squared_norm(start) / start.shape[-1]) ** 0.5
        scale, start = size * inverse_norms, start / size
        target = start ** (1.0 + p)
    else:
        scale = target = xp.ones_like(diagonal)
        start = scale / gramian.shape[-1]
    if solver == "newton":
        if rounding > RIDGE:
            matrix = _without_noise(xp, matrix, rounding)
        with np.errstate(divide="ignore", invalid="ignore"):  # logarithms of losses that rise
            solution = _newton(xp, matrix, target, start, p)
    elif solver == "sgd":
        solution = _sgd(xp, matrix, target, start, p)
    else:
        solution = _least_squares(matrix, target, start, p)
    weights = scale * solution
    if not all_active:
        weights = xp.where(active, weights, xp.zeros_like(weights))
    if solver == "least_squares":
        residual = np.max(_residual(np, gramian, weights, alpha))
        if residual > LEAST_SQUARES_WARNING:
            warnings.warn(
                f"least_squares left a relative residual of {residual:.1e} in equation 4;"
                ' solver="newton" is exact',
                RuntimeWarning,
                stacklevel=4,
            )
    return weights


def _newton(xp: Any, matrix: Any, target: Any, start: Any, p: float) -> Any:
    """Solves C v = t v^(-p) by damped Newton steps in z = log v.

    Far from the solution the steps minimise the strictly convex f(v) = v'Cv/2 - sum_i t_i phi(v_i),
    phi' = v^(-p), whose gradient is the equation; a small ridge gives f a minimum everywhere. They
    are halved until they end before f rises again, told by its derivative: f itself drowns in
    rounding under conflict. Near the solution they solve log(Cv/t) + p z = 0, without the ridge.
    Points are rows: [..., point, K].
    """
    eye = _identity(xp, matrix)
    off_diagonal = matrix * (1.0 - eye)
    zero = _zero_row(xp, matrix)
    offset = xp.log(target).reshape(zero.shape)
    z = xp.log(start).reshape(zero.shape)
    limit = zero + NEWTON_LARGEST_LOG / max(1.0, 0.5 * p)
    longest, previous = NEWTON_LARGEST_STEP + zero[..., :1], float("inf") + zero[..., :1]

    def evaluate(z: Any) -> tuple[Any, ...]:
        v = xp.exp(z)
        gain = v @ matrix
        wanted = offset - p * z  # the logarithm of t v^(-p)
        slope, pull, square = v * gain, xp.exp(wanted + z), v * v
        return v, gain, wanted, slope, pull, square, pull - slope - RIDGE * square

    for _ in range(NEWTON_ITERATIONS_CPU if xp is np else NEWTON_ITERATIONS):
        v, gain, wanted, slope, pull, square, force = evaluate(z)
        mismatch = xp.log(gain) - wanted  # NaN where a loss would rise
        error = _largest(xp, mismatch)
        near = error < 1.0
        all_near = xp is np and near.all()
        if xp is np:
            imbalance = None if all_near else force / pull
            if _settled(error, previous, near, imbalance):
                break
            previous = error
        force = xp.where(near, -slope * mismatch, force)
        bend = p * xp.where(near, slope, pull)  # the two agree at the solution
        unit = (square + bend) ** -0.5  # gives the system a diagonal of 1
        scaled = unit * v
        column = scaled.reshape((*matrix.shape[:-1], 1))
        system = column * off_diagonal * scaled + (1.0 + SYSTEM_RIDGE) * eye
        step = unit * _solve_linear(xp, system, unit * force)
        step = step * (NEWTON_LARGEST_STEP / xp.maximum(_largest(xp, step), longest))
        if not all_near:
            fractions = _halvings(xp, z)
            *_, ahead = evaluate(xp.maximum(xp.minimum(z + fractions * step, limit), -limit))
            rises = -(ahead * step).sum(-1)[..., None] > 0.1 * (force * step).sum(-1)[..., None]
            good = near | ~rises
            fraction = xp.where(good, fractions, fractions[-1])
            step = step * (fraction.max(-2) if xp is np else fraction.amax(-2)).reshape(near.shape)
        z = xp.maximum(xp.minimum(z + step, limit), -limit)
    return xp.exp(z).reshape(matrix.shape[:-1])


def _without_noise(xp: Any, matrix: Any, rounding: float) -> Any:
    """C, with a larger diagonal where its smallest eigenvalue is below the rounding of its type.

    Weights would follow that noise, and directions would be millions of times the gradients.
    """
    eye = _identity(xp, matrix)
    lowered = matrix - rounding * eye
    if xp is np:
        is_noise = np.linalg.eigvalsh(lowered)[..., 0] < 0
    else:  # eigvalsh would make the host wait for the device
        is_noise = torch.linalg.cholesky_ex(lowered).info != 0
    return xp.where(is_noise[..., None, None], matrix + 4 * rounding * eye, matrix)


def _settled(
    error: np.ndarray, previous: Any, near: np.ndarray, imbalance: np.ndarray | None
) -> bool:
    """Whether no further step is needed; the imbalance is that of f's gradient, far away."""
    if imbalance is not None:
        # At a Pareto-stationary point only the ridge balances the equation.
        balanced = _largest(np, imbalance) < NEWTON_TOLERANCE
        return bool(((~near & balanced) | (near & (error < NEWTON_TOLERANCE))).all())
    if (error < NEWTON_TOLERANCE).all():
        return True
    return bool(((error < NEWTON_ROUNDING) & (error > 0.5 * previous)).all())


def _largest(xp: Any, rows: Any) -> Any:
    return (abs(rows).max(-1) if xp is np else abs(rows).amax(-1))[..., None]


def _squared_norm(rows: Any) -> Any:
    return (rows * rows).sum(-1)[..., None]


def _sgd(xp: Any, matrix: Any, target: Any, start: Any, p: float) -> Any:
    """The paper's RL solver on ||C v - t (v + eps)^(-p)||^2, its gradient written out."""
    zero = _zero_row(xp, matrix)
    doubled, bend = 2.0 * matrix, 2.0 * p
    target, v, velocity = target.reshape(zero.shape), start.reshape(zero.shape), zero
    least = zero + SGD_EPSILON
    single = xp is np and zero.ndim == 1
    iterates, gaps = [], []
    for step in range(SGD_STEPS + 1):
        shifted = v + SGD_EPSILON
        power = target * shifted ** (-p)
        gap = v @ matrix - power
        iterates.append(v)
        gaps.append(gap)
        if step < SGD_STEPS:
            gradient = gap @ doubled + bend * (power * gap / shifted)
            # clip_grad_norm_; for a single Gramian the norm is a number, faster than an array.
            squared_norm = gradient @ gradient if single else _squared_norm(gradient)
            norm = squared_norm**0.5 + 1e-6
            longest = max(norm, SGD_MAX_NORM) if single else xp.clip(norm, SGD_MAX_NORM, None)
            rate = SGD_LEARNING_RATE * SGD_MAX_NORM / longest
            velocity = SGD_MOMENTUM * velocity + rate * gradient
            v = xp.maximum(v - velocity, least)
    if single:
        return iterates[_squared_norm(np.array(gaps)).argmin()]
    best = xp.argmin(_squared_norm(xp.stack(gaps)), 0)[None]
    take = np.take_along_axis if xp is np else torch.take_along_dim
    return take(xp.stack(iterates), best, 0).reshape(matrix.shape[:-1])


def _least_squares(
    matrix: np.ndarray, target: np.ndarray, start: np.ndarray, p: float
) -> np.ndarray:
    solutions = np.empty(matrix.shape[:-1])
    for index in np.ndindex(matrix.shape[:-2]):
        with np.errstate(all="ignore"):  # scipy tries points next to 0, and steps of length 0
            solutions[index] = scipy.optimize.least_squares(
                lambda v, system, t: system @ v - t * v ** (-p),
                start[index],
                jac=lambda v, system, t: system + np.diag(p * t * v ** (-p - 1.0)),
                args=(matrix[index], target[index]),
                bounds=(0.0, np.inf),
                xtol=None,
                ftol=1e-15,
                gtol=1e-15,
            ).x
    return solutions


def _residual(xp: Any, gramian: Any, weights: Any, alpha: float) -> Any:
    counted = (weights > 0) & (weights < float("inf"))
    one, zero = xp.ones_like(weights), xp.zeros_like(weights[..., 0])
    logarithm = xp.log(xp.where(counted, weights, one))
    if alpha == 0:
        return _largest(xp, logarithm)[..., 0]
    gain = _product(gramian, weights)
    invalid = ~(weights >= 0) | (counted & ~(gain > 0)) | (weights == float("inf"))
    gain = xp.where(counted & (gain > 0), gain, one)
    mismatch = _largest(xp, xp.log(gain) + logarithm / alpha)[..., 0]
    return xp.where(invalid.any(-1), float("inf") + 0 * zero, mismatch)


def _product(matrix: Any, vector: Any) -> Any:
    return (matrix @ vector[..., None])[..., 0]


def _identity(xp: Any, like: Any) -> Any:
    if xp is np:
        return np.eye(like.shape[-1])
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _solve_linear(xp: Any, matrix: Any, row: Any) -> Any:
    """The row x with x matrix = row; the row itself where rounding made the matrix singular."""
    if matrix.ndim == 2 and xp is np:  # numpy's own takes five times as long to call
        _, found, failure = scipy.linalg.lapack.dposv(matrix, row)
        if not failure:
            return found
    column = row.reshape((*matrix.shape[:-1], 1))
    if xp is torch:  # torch.linalg.solve would make the host wait for the device
        return torch.linalg.solve_ex(matrix, column)[0].reshape(row.shape)
    try:
        return np.linalg.solve(matrix, column).reshape(row.shape)
    except np.linalg.LinAlgError:
        return row


def _zero_row(xp: Any, matrix: Any) -> Any:
    """[..., 1, K], but [K] for a single matrix, which is faster in numpy."""
    return xp.zeros_like(matrix[0] if matrix.ndim == 2 else matrix[..., :1, :])


def _halvings(xp: Any, like: Any) -> Any:
    """1, 1/2, 1/4, ... as a column."""
    if xp is np:
        return HALVINGS
    return 0.5 ** torch.arange(len(HALVINGS), dtype=like.dtype, device=like.device)[:, None]
