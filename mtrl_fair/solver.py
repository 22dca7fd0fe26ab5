"""Solvers of FairGrad's equation A w = w^(-1/alpha) (paper eq. 4).

They work in preconditioned coordinates. With p = 1/alpha, w = D u and D_i = a_ii^(-1/(1+p)),
equation 4 becomes

    M u = c u^(-p),    M = D A D,    c = diag(M) = D^(1-p),

which u = 1 solves exactly when the gradients are orthogonal, whatever their norms. Dividing row i
by c_i gives B u = u^(-p) with diag(B) = 1, whose squared error "sgd" and "least_squares" minimise.

The formulas stand once, for numpy and for torch: `xp` is the module whose arrays are in use.
Solves run in float64.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from mtrl_fair.names import check_name

SOLVERS = ("newton", "sgd", "least_squares")

RIDGE = 1e-14  # relative, on the diagonal: keeps the weights finite at a Pareto-stationary point
NEWTON_ITERATIONS = 60  # a CPU stops at convergence; measured: at most 20 for alpha in [0.5, 5]
NEWTON_TOLERANCE = 1e-10
NEWTON_LARGEST_STEP = 4.0  # in log u
NEWTON_LARGEST_LOG = 230.0  # u stays within 1e-100 and 1e100
SGD_STEPS = 20
SGD_LEARNING_RATE = 0.1
SGD_MOMENTUM = 0.5
SGD_MAX_NORM = 1.0
SGD_EPSILON = 1e-8
LEAST_SQUARES_WARNING = 1e-6
SYMMETRY_TOLERANCE = (
    1e-3  # relative to the norms of both gradients; float32 products stay far below
)


class Solution(NamedTuple):
    """Task weights and how well they satisfied equation 4 before they were cast."""

    weights: Tensor
    """[..., K]"""
    residual: Tensor
    """[...], max_i |log (A w)_i + log(w_i) / alpha| over the tasks that have a gradient."""


class NonFiniteError(ValueError):
    """A loss or gradient is NaN or infinite; `tasks` holds the indices of the tasks concerned."""

    def __init__(self, what: str, tasks: list[int]):
        self.what = what
        self.tasks = tasks
        super().__init__(f"the {what} of task {', '.join(map(str, tasks))} is not finite")


def fairgrad_weights(
    gramian: Tensor, alpha: float = 2.0, solver: str = "newton", *, precondition: bool = True
) -> Tensor:
    """Task weights w > 0 with A w = w^(-1/alpha) (paper eq. 4).

    A task whose gradient is zero has no finite weight: it is left out and gets weight 0. At
    alpha = 0 every other weight is 1. Where no solution exists (a Pareto-stationary point: some
    convex combination of the gradients vanishes) the weights are large but finite.

    "newton" solves to a relative residual below 1e-6 for alpha in [0.5, 5]; beyond, look at
    `fairgrad_residual`. "sgd" takes the paper's 20 steps (section 5.4); with preconditioning its
    direction has a cosine of at least 0.98 to the exact one for up to 10 tasks, alpha 1 and 2,
    gradient cosines above -0.3 and norms within two orders of magnitude, and less beyond.
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
    return solve(gramian, alpha, solver, precondition=precondition).weights


def fairgrad_residual(gramian: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Relative residual of equation 4, max_i |log (A w)_i + log(w_i) / alpha|.

    Args:
        gramian: [..., K, K].
        weights: [..., K]; entries of 0 are left out.
        alpha: the fairness exponent. At alpha = 0 the residual is max_i |log w_i|.

    Returns:
        [...] in float64, infinite where some (A w)_i <= 0, that is, where a task's loss would rise.
    """
    check_alpha(alpha)
    return _residual(torch, gramian.double(), weights.double(), alpha)


def solve(gramian: Tensor, alpha: float, solver: str, *, precondition: bool = True) -> Solution:
    """`fairgrad_weights` together with the residual of its result."""
    check_alpha(alpha)
    check_name("solver", solver, SOLVERS)
    check_gramian(gramian)
    device, dtype = gramian.device, gramian.dtype
    if gramian.is_cuda and solver != "least_squares":
        parts = _solve(torch, gramian.detach().double(), alpha, solver, precondition)
    else:
        array = gramian.detach().to("cpu", torch.float64).numpy()
        parts = _solve(np, array, alpha, solver, precondition)
    return Solution(*(torch.as_tensor(part).to(dtype).to(device) for part in parts))


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless alpha is finite and at least 0."""
    if not isinstance(alpha, (int, float)) or not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha is {alpha}, but a fairness exponent is finite and at least 0")


def check_gramian(gramian: Tensor) -> None:
    """Raises ValueError on a wrong shape and, on CPU, on values no Gramian has."""
    if not isinstance(gramian, Tensor):
        raise ValueError(f"a Gramian is a torch tensor, got {type(gramian).__name__}")
    if gramian.ndim < 2 or gramian.shape[-1] != gramian.shape[-2] or gramian.shape[-1] == 0:
        raise ValueError(f"a Gramian has shape [..., K, K], got {list(gramian.shape)}")
    if not gramian.is_floating_point():
        raise ValueError(f"a Gramian is a floating-point tensor, got {gramian.dtype}")
    if gramian.is_cuda:  # looking at the values would make the host wait for the device
        return
    values = gramian.detach().to("cpu", torch.float64).numpy()
    diagonal = np.einsum("...ii->...i", values)
    # A NaN gradient spoils its row and its column; only its diagonal entry tells whose it is.
    if not np.isfinite(values).all():
        spoilt = ~np.isfinite(diagonal)
        raise NonFiniteError("gradient", _tasks(spoilt) or _tasks(~np.isfinite(values).all(-1)))
    if (diagonal < 0).any():
        raise ValueError(
            f"the Gramian's diagonal is negative for tasks {_tasks(diagonal < 0)}: pass J @ J.T"
        )
    norms = np.sqrt(diagonal)
    allowed = SYMMETRY_TOLERANCE * norms[..., :, None] * norms[..., None, :]
    if (abs(values - np.swapaxes(values, -1, -2)) > allowed).any():
        raise ValueError("the Gramian is not symmetric: pass J @ J.T, one task gradient per row")


def _tasks(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask.reshape(-1, mask.shape[-1]).any(0)).tolist()


def _solve(xp: Any, gramian: Any, alpha: float, solver: str, precondition: bool) -> tuple[Any, Any]:
    diagonal = xp.einsum("...ii->...i", gramian)
    zero, one = xp.zeros_like(diagonal), xp.ones_like(diagonal)
    active = diagonal > 0
    if alpha == 0:
        weights = xp.where(active, one, zero)
        return weights, _residual(xp, gramian, weights, alpha)
    p = 1.0 / alpha
    # An inactive task stands in as an orthogonal one of unit norm, so that shapes stay static.
    both = active[..., :, None] & active[..., None, :]
    eye = _identity(xp, gramian)
    matrix = xp.where(both, gramian, xp.where(active, zero, one)[..., None] * eye)
    scale = curvature = one
    if precondition or solver == "newton":
        diagonal = xp.where(active, diagonal, one)
        scale = diagonal ** (-1.0 / (1.0 + p))
        curvature = diagonal ** ((p - 1.0) / (1.0 + p))
        matrix = scale[..., :, None] * matrix * scale[..., None, :]
    if solver == "newton":
        u = _newton(xp, matrix + RIDGE * curvature[..., None] * eye, curvature, p)
    elif solver == "sgd":
        u = _sgd(xp, matrix / curvature[..., None], p)
    else:
        u = _least_squares(matrix / curvature[..., None], p)
    weights = xp.where(active, scale * u, zero)
    residual = _residual(xp, gramian, weights, alpha)
    if solver == "least_squares" and (residual > LEAST_SQUARES_WARNING).any():
        warnings.warn(
            f"least_squares left a relative residual of {np.max(residual):.1e} in equation 4;"
            ' solver="newton" is exact',
            RuntimeWarning,
            stacklevel=4,
        )
    return weights, residual


def _newton(xp: Any, matrix: Any, curvature: Any, p: float) -> Any:
    """Solves M u = c u^(-p) by damped Newton steps in z = log u.

    Far from the solution the steps minimise the strictly convex f(u) = u'Mu/2 - sum_i c_i phi(u_i),
    phi' = u^(-p), whose gradient is the equation. Near it they solve log(Mu/c) + p z = 0, which is
    nearly linear and free of the rounding of f.
    """
    fractions: Any = 0.5 ** np.arange(10.0)
    if xp is torch:
        fractions = 0.5 ** torch.arange(10, dtype=matrix.dtype, device=matrix.device)
    limit = float("inf")
    eye = _identity(xp, matrix)
    z = xp.zeros_like(curvature)
    for _ in range(NEWTON_ITERATIONS):
        u = xp.exp(z)
        slope = u * _product(matrix, u)
        pull = curvature * u ** (1.0 - p)
        feasible = slope > 0
        mismatch = xp.where(feasible, xp.log(xp.where(feasible, slope, pull) / pull), limit + pull)
        error = xp.amax(abs(mismatch), -1)
        if xp is np and (error < NEWTON_TOLERANCE).all():
            break
        near = (error < 1.0)[..., None]
        # Both step systems share the matrix UMU; near the solution p*pull and p*slope agree.
        diagonal = p * xp.where(near, slope, pull)
        target = xp.where(near, -slope * xp.where(near, mismatch, slope), pull - slope)
        floor = 1e-30 * xp.amax(diagonal, -1)[..., None]
        step = _solve_linear(
            xp,
            u[..., :, None] * matrix * u[..., None, :] + (diagonal + floor)[..., None] * eye,
            target,
        )
        largest = xp.amax(abs(step), -1)[..., None]
        step = step * (NEWTON_LARGEST_STEP / xp.maximum(largest, NEWTON_LARGEST_STEP + 0 * largest))

        trial = z[..., None, :] + fractions[:, None] * step[..., None, :]
        trial = xp.clip(trial, -NEWTON_LARGEST_LOG, NEWTON_LARGEST_LOG)
        trial_u = xp.exp(trial)
        product = trial_u @ matrix
        positive = product > 0
        distance = xp.log(xp.where(positive, product, 1.0 + 0 * product) / curvature[..., None, :])
        distance = xp.where(positive, (distance + p * trial) ** 2, limit + 0 * trial).sum(-1)
        utility = trial if p == 1 else trial_u ** (1.0 - p) / (1.0 - p)
        objective = (0.5 * trial_u * product - curvature[..., None, :] * utility).sum(-1)
        best = xp.argmin(xp.where(near, distance, objective), -1)
        z = xp.clip(z + fractions[best][..., None] * step, -NEWTON_LARGEST_LOG, NEWTON_LARGEST_LOG)
    return xp.exp(z)


def _sgd(xp: Any, matrix: Any, p: float) -> Any:
    """The paper's RL solver on ||B u - (u + eps)^(-p)||^2, its gradient written out."""
    u = xp.ones_like(matrix[..., 0]) / matrix.shape[-1]
    velocity = xp.zeros_like(u)
    best, best_objective = u, None
    for step in range(SGD_STEPS + 1):
        power = (u + SGD_EPSILON) ** (-p)
        gap = _product(matrix, u) - power
        objective = (gap**2).sum(-1)[..., None]
        if best_objective is None:
            best_objective = objective
        best = xp.where(objective < best_objective, u, best)
        best_objective = xp.minimum(objective, best_objective)
        if step == SGD_STEPS:
            break
        gradient = 2.0 * (
            (gap[..., None, :] @ matrix)[..., 0, :] + p * power / (u + SGD_EPSILON) * gap
        )
        norm = xp.sqrt((gradient**2).sum(-1))[..., None]
        gradient = gradient * xp.clip(SGD_MAX_NORM / (norm + 1e-6), 0.0, 1.0)
        velocity = SGD_MOMENTUM * velocity + gradient
        u = xp.clip(u - SGD_LEARNING_RATE * velocity, SGD_EPSILON, None)
    return best


def _least_squares(matrix: np.ndarray, p: float) -> np.ndarray:
    size = matrix.shape[-1]
    solutions = np.empty(matrix.shape[:-1])
    for index in np.ndindex(matrix.shape[:-2]):
        with np.errstate(divide="ignore", invalid="ignore"):  # scipy's last steps have length 0
            solutions[index] = scipy.optimize.least_squares(
                lambda u, system: system @ u - u ** (-p),
                np.full(size, 1.0 / size),
                jac=lambda u, system: system + np.diag(p * u ** (-p - 1.0)),
                args=(matrix[index],),
                bounds=(0.0, np.inf),
                xtol=None,
                ftol=1e-15,
                gtol=1e-15,
            ).x
    return solutions


def _residual(xp: Any, gramian: Any, weights: Any, alpha: float) -> Any:
    counted = weights > 0
    one = xp.ones_like(weights)
    logarithm = xp.log(xp.where(counted, weights, one))
    if alpha == 0:
        return xp.amax(abs(logarithm), -1)
    decrease = _product(gramian, weights)
    falls = decrease > 0
    mismatch = abs(xp.log(xp.where(falls, decrease, one)) + logarithm / alpha)
    mismatch = xp.where(falls, mismatch, float("inf") * one)
    return xp.amax(xp.where(counted, mismatch, 0 * one), -1)


def _product(matrix: Any, vector: Any) -> Any:
    return (matrix @ vector[..., None])[..., 0]


def _identity(xp: Any, like: Any) -> Any:
    if xp is np:
        return np.eye(like.shape[-1])
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _solve_linear(xp: Any, matrix: Any, vector: Any) -> Any:
    if xp is np:
        return np.linalg.solve(matrix, vector[..., None])[..., 0]
    return torch.linalg.solve_ex(matrix, vector[..., None])[0][..., 0]  # solve would synchronise
