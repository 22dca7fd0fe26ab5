"""FairGrad's equation A w = w^(-1/alpha) (paper eq. 4): its solution and its residual.

Solves run in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtrl_fair.checks import check_gramian, check_name
from mtrl_fair.solvers.arrays import NUMPY, TORCH, Array, Arrays
from mtrl_fair.solvers.least_squares import solve_by_least_squares
from mtrl_fair.solvers.newton import solve_by_newton
from mtrl_fair.solvers.problem import (
    Problem,
    preconditioned_problem,
    raw_problem,
    with_stand_ins,
)
from mtrl_fair.solvers.sgd import solve_by_sgd

MIN_ALPHA = 0.1


class Solver(NamedTuple):
    """Holds what solves C v = t v^(-p) for v, on the host and on a device."""

    on_host: Callable[[Problem[np.ndarray]], np.ndarray]
    on_device: Callable[[Problem[Tensor]], Tensor] | None
    """None: a Gramian that lies on a device is copied to the host, which waits for it."""
    solves_raw: bool = True
    """Whether `precondition=False` runs it on the raw Gramian, as published."""
    silent_residual: float = float("inf")
    """It warns where the residual of its result is above this."""


SOLVERS: dict[str, Solver] = {
    "newton": Solver(solve_by_newton, solve_by_newton, solves_raw=False),
    "sgd": Solver(solve_by_sgd, solve_by_sgd),
    "least_squares": Solver(solve_by_least_squares, None, silent_residual=1e-6),
}


class Solution(NamedTuple):
    """Holds task weights and how well they satisfied equation 4 before they were cast."""

    weights: Tensor
    """[..., K]"""
    residual: Tensor
    """[...], max_i |log (A w)_i + log(w_i) / alpha| over the tasks that have a gradient."""


def fairgrad_weights(
    gramian: Tensor, alpha: float = 2.0, solver: str = "newton", *, precondition: bool = True
) -> Tensor:
    """Returns the task weights w > 0 with A w = w^(-1/alpha) (paper eq. 4).

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

    Two orthogonal gradients, of norm 1 and 8, get weights of norm^(-2 alpha / (1 + alpha)):

    >>> task_gradients = torch.tensor([[1.0, 0.0], [0.0, 8.0]])
    >>> fairgrad_weights(task_gradients @ task_gradients.mT, alpha=2.0)
    tensor([1.0000, 0.0625])
    """
    return _solved(gramian, alpha, solver, precondition, with_residual=False)[0]


def fairgrad_residual(gramian: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Returns the relative residual of equation 4, max_i |log (A w)_i + log(w_i) / alpha|.

    Args:
        gramian: [..., K, K], of which the symmetric part counts.
        weights: [..., K]; entries of 0 are left out.
        alpha: the fairness exponent. At alpha = 0 the residual is max_i |log w_i|.

    Returns:
        [...] in float64, infinite where some (A w)_i <= 0, that is, where a task's loss would rise.

    Raises:
        ValueError: an alpha that `check_alpha` refuses.

    >>> gramian = torch.diag(torch.tensor([1.0, 64.0]))
    >>> fairgrad_residual(gramian, torch.tensor([1.0, 0.0625]), alpha=2.0)
    tensor(0., dtype=torch.float64)
    >>> bool(fairgrad_residual(gramian, torch.ones(2), alpha=2.0) > 4)  # log 64
    True
    """
    check_alpha(alpha)
    return _residual(TORCH, _symmetric_part(gramian.double()), weights.double(), alpha)


def solve(gramian: Tensor, alpha: float, solver: str, *, precondition: bool = True) -> Solution:
    """Returns what `fairgrad_weights` does, together with the residual of its result."""
    return Solution(*_solved(gramian, alpha, solver, precondition, with_residual=True))


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless alpha is 0, or finite and at least 0.1.

    Between them w^(-1/alpha) leaves the range of floating-point numbers.
    """
    if not isinstance(alpha, Real) or not (alpha == 0 or MIN_ALPHA <= alpha < float("inf")):
        raise ValueError(
            f"alpha is {alpha!r}, but a fairness exponent is a number: 0 for the sum, or at least"
            f" {MIN_ALPHA}"
        )


def _solved(
    gramian: Tensor, alpha: float, solver: str, precondition: bool, with_residual: bool
) -> list[Tensor]:
    """Returns the weights and, at least where it is wanted, their residual."""
    check_alpha(alpha)
    check_name("solver", solver, SOLVERS)
    values = check_gramian(gramian)
    method = SOLVERS[solver]
    precondition = precondition or not method.solves_raw
    rounding = max(gramian.shape[-1], 16) * torch.finfo(gramian.dtype).eps
    parts: list[np.ndarray] | list[Tensor]
    if values is None and method.on_device is not None:
        on_device = gramian.detach().to(torch.float64)
        parts = _weights_and_residual(
            TORCH, method.on_device, on_device, alpha, precondition, rounding, with_residual
        )
    else:
        if values is None:
            values = gramian.detach().to("cpu", torch.float64).numpy()
        can_warn = method.silent_residual < float("inf")
        parts = _weights_and_residual(
            *(NUMPY, method.on_host, values, alpha, precondition, rounding),
            with_residual or can_warn,
        )
        if can_warn and (largest := parts[1].max()) > method.silent_residual:
            warnings.warn(
                f"{solver} left a relative residual of {largest:.1e} in equation 4;"
                ' solver="newton" is exact',
                RuntimeWarning,
                stacklevel=3,
            )
    return [torch.as_tensor(part, dtype=gramian.dtype, device=gramian.device) for part in parts]


def _weights_and_residual(
    xp: Arrays[Array],
    run: Callable[[Problem[Array]], Array],
    gramian: Array,
    alpha: float,
    precondition: bool,
    rounding: float,
    with_residual: bool,
) -> list[Array]:
    """Returns the weights and, if wanted, their residual, of a Gramian in float64."""
    gramian = _symmetric_part(gramian)
    weights = _weights(xp, run, gramian, alpha, precondition, rounding)
    return [weights, _residual(xp, gramian, weights, alpha)] if with_residual else [weights]


def _weights(
    xp: Arrays[Array],
    run: Callable[[Problem[Array]], Array],
    gramian: Array,
    alpha: float,
    precondition: bool,
    rounding: float,
) -> Array:
    diagonal = xp.diagonal(gramian)
    active = diagonal > 0
    if alpha == 0:
        return active * xp.ones_like(diagonal)
    all_active = xp.surely(active)
    matrix = gramian
    if not all_active:
        matrix, diagonal = with_stand_ins(xp, gramian, diagonal, active)
    state = preconditioned_problem if precondition else raw_problem
    scale, problem = state(xp, matrix, diagonal, 1.0 / float(alpha), rounding)
    weights = scale * run(problem)
    return weights if all_active else xp.where(active, weights, xp.zeros_like(weights))


def _residual(xp: Arrays[Array], gramian: Array, weights: Array, alpha: float) -> Array:
    counted = (weights > 0) & (weights < float("inf"))
    one, zero = xp.ones_like(weights), xp.zeros_like(weights[..., 0])
    logarithm = xp.log(xp.where(counted, weights, one))
    if alpha == 0:
        return xp.largest(logarithm)[..., 0]
    gain = (gramian @ weights[..., None])[..., 0]
    invalid = ~(weights >= 0) | (counted & ~(gain > 0)) | (weights == float("inf"))
    gain = xp.where(counted & (gain > 0), gain, one)
    mismatch = xp.largest(xp.log(gain) + logarithm / alpha)[..., 0]
    return xp.where(invalid.any(-1), float("inf") + 0 * zero, mismatch)


def _symmetric_part(gramian: Array) -> Array:
    """Returns (A + A') / 2.

    Some processors round A_ij and A_ji differently, and strong conflict amplifies the difference.
    """
    return 0.5 * (gramian + gramian.swapaxes(-1, -2))
