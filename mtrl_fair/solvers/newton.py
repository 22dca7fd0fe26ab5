"""Newton's method: the exact solver of equation 4."""

from __future__ import annotations

import numpy as np

from mtrl_fair.solvers.arrays import Array, Arrays, zero_row
from mtrl_fair.solvers.problem import Problem

RIDGE = 1e-14
"""Relative, on the diagonal far from the solution: keeps weights finite where none solve."""
SYSTEM_RIDGE = 1e-14
"""Likewise on the diagonal of Newton's linear system: keeps it solvable in spite of rounding."""
MOST_ITERATIONS = 200
"""Where convergence ends them."""
FIXED_ITERATIONS = 64
"""Where nothing does; measured: at most 45 are needed for alpha in [0.5, 5]."""
TOLERANCE = 1e-9
NEAR = 1.0
"""The largest error, as a logarithm, at which steps solve the equation itself."""
ROUNDING_ERROR = 1e-7
"""An error below this that no longer halves is rounding."""
LONGEST_STEP = 4.0
"""In log v: a factor of 55."""
LARGEST_LOG = 230.0
"""v stays within 1e-100 and 1e100, and powers of v within the range of float64."""
UPHILL = 0.1
"""A step is halved while f rises at its end with more than this share of its slope at the start."""


def solve_by_newton(problem: Problem[Array]) -> Array:
    """Solves C v = t v^(-p) by damped Newton steps in z = log v.

    In logarithms because v must stay positive, and because v may span many orders of magnitude: a
    step is then relative to each v_i, and no step needs to be cut at a boundary.

    Far from the solution the steps minimise the strictly convex f(v) = v'Cv/2 - sum_i t_i phi(v_i),
    phi' = v^(-p), whose gradient is the equation. Near the solution they solve
    log(Cv / t) + p z = 0, whose every row is relative, so that a task with a small gain is solved
    to as many digits as the others. That form has no meaning far away, where some (Cv)_i <= 0.
    """
    xp = problem.xp
    matrix = _above_rounding(problem) if problem.rounding > RIDGE else problem.matrix
    # Logarithms of gains that are not positive are NaN, and comparisons with NaN say "not near".
    with np.errstate(divide="ignore", invalid="ignore"):
        z = _iterate(xp, matrix, problem.target, problem.start, problem.p)
    return xp.exp(z).reshape(matrix.shape[:-1])


def _iterate(xp: Arrays[Array], matrix: Array, target: Array, start: Array, p: float) -> Array:
    """Returns log v. Points are rows [..., point, K] with one point, or K of a single problem."""
    identity = xp.identity(matrix)
    off_diagonal = matrix * (1.0 - identity)
    zero = zero_row(xp, matrix)
    offset = xp.log(target).reshape(zero.shape)
    z = xp.log(start).reshape(zero.shape)
    limit = zero + LARGEST_LOG / max(1.0, 0.5 * p)
    longest, previous = LONGEST_STEP + zero[..., :1], float("inf") + zero[..., :1]

    def evaluate(z: Array) -> tuple[Array, ...]:
        v = xp.exp(z)
        gain = v @ matrix
        wanted = offset - p * z  # the logarithm of t v^(-p)
        # The parts of f's derivative in z. Its ridge gives f a minimum where C has none, that is at
        # a Pareto-stationary point. Near a solution it would only falsify, so it is left out there.
        slope, pull, square = v * gain, xp.exp(wanted + z), v * v
        return v, gain, wanted, slope, pull, square, pull - slope - RIDGE * square

    for _ in range(MOST_ITERATIONS if xp.reads_values else FIXED_ITERATIONS):
        v, gain, wanted, slope, pull, square, force = evaluate(z)
        mismatch = xp.log(gain) - wanted  # NaN where a loss would rise
        error = xp.largest(mismatch)
        near = error < NEAR
        all_near = xp.surely(near)
        if xp.reads_values:
            imbalance = None if all_near else force / pull
            if _is_converged(xp, error, previous, near, imbalance):
                break
            previous = error
        force = xp.where(near, -slope * mismatch, force)
        bend = p * xp.where(near, slope, pull)  # the two agree at the solution
        unit = (square + bend) ** -0.5  # gives the system a diagonal of 1, as that of C is 1
        scaled = unit * v
        column = scaled.reshape((*matrix.shape[:-1], 1))
        system = column * off_diagonal * scaled + (1.0 + SYSTEM_RIDGE) * identity
        step = unit * xp.solve(system, unit * force)
        step = step * (LONGEST_STEP / xp.maximum(xp.largest(step), longest))
        if not all_near:
            # All halvings at once, as further points. Whether f rises is told by its derivative at
            # the end of the step: f itself is a difference of large numbers under conflict, and its
            # decrease drowns in their rounding.
            fractions = xp.halvings(z)
            *_, ahead = evaluate(xp.maximum(xp.minimum(z + fractions * step, limit), -limit))
            rises = -(ahead * step).sum(-1)[..., None] > UPHILL * (force * step).sum(-1)[..., None]
            usable = xp.where(near | ~rises, fractions, fractions[-1])
            step = step * xp.column_maximum(usable).reshape(near.shape)
        z = xp.maximum(xp.minimum(z + step, limit), -limit)
    return z


def _is_converged(
    xp: Arrays[Array], error: Array, previous: Array, near: Array, imbalance: Array | None
) -> bool:
    """Returns whether no problem of the batch needs a further step.

    Args:
        imbalance: of f's derivative, relative; None where all are near.
    """
    if imbalance is not None:
        # At a Pareto-stationary point the ridge alone balances f, and the error never gets small.
        balanced = xp.largest(imbalance) < TOLERANCE
        return bool(((~near & balanced) | (near & (error < TOLERANCE))).all())
    if (error < TOLERANCE).all():
        return True
    return bool(((error < ROUNDING_ERROR) & (error > 0.5 * previous)).all())


def _above_rounding(problem: Problem[Array]) -> Array:
    """Returns C; where its smallest eigenvalue is below its rounding, with a larger diagonal.

    Weights would follow that noise, and directions would be millions of times the gradients. The
    sum is divided so that its diagonal is 1 again, which the system of `_iterate` takes for
    granted: an error there as large as the smallest eigenvalue makes steps 1 + alpha times as long
    as they should be, and Newton never converges.
    """
    xp, matrix, rounding = problem.xp, problem.matrix, problem.rounding
    identity = xp.identity(matrix)
    is_noise = xp.is_indefinite(matrix - rounding * identity)
    raised = (matrix + 4 * rounding * identity) / (1.0 + 4 * rounding)
    return xp.where(is_noise[..., None, None], raised, matrix)
