"""Equation 4 in the form that the solvers solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from mtrl_fair.solvers.arrays import Array, Arrays, squared_norm


@dataclass(slots=True)
class Problem(Generic[Array]):
    """Holds the equation C v = t v^(-p), v > 0, which a solver solves for v [..., K]."""

    xp: Arrays[Array]
    """The operations on its arrays."""
    matrix: Array
    """C, [..., K, K] in float64, symmetric."""
    target: Array
    """t, [..., K], positive."""
    start: Array
    """[..., K], a first guess of v."""
    p: float
    """1 / alpha."""
    rounding: float
    """The largest relative error of an eigenvalue of C that comes from the Gramian's own dtype."""


def raw_problem(
    xp: Arrays[Array], gramian: Array, diagonal: Array, p: float, rounding: float
) -> tuple[Array, Problem[Array]]:
    """Returns the equation as it stands, from the start 1 / K of the paper.

    Returns:
        the scale [..., K] that makes weights = scale * v, here 1, and the problem.
    """
    one = xp.ones_like(diagonal)
    return one, Problem(xp, gramian, one, one / gramian.shape[-1], p, rounding)


def preconditioned_problem(
    xp: Arrays[Array], gramian: Array, diagonal: Array, p: float, rounding: float
) -> tuple[Array, Problem[Array]]:
    """Returns the equation on the cosines of the gradients, with its scale as in `raw_problem`.

    With gradient norms n, the substitution v = n w turns equation 4 into

        C v = t v^(-p),    C the cosines,    t = n^(p-1),

    which v = t^(1/(1+p)) solves exactly when the gradients are orthogonal, whatever their norms.
    Solvers start there. The equation is well conditioned, because near the solution its derivative
    is about C + p I. It is also divided by the root mean square of the start, so that v is of size
    1 whatever the scale of the losses: SGD's step length is absolute.
    """
    inverse_norms = diagonal**-0.5
    matrix = inverse_norms[..., :, None] * gramian * inverse_norms[..., None, :]
    start = diagonal ** (0.5 * (p - 1.0) / (p + 1.0))
    size = (squared_norm(start) / start.shape[-1]) ** 0.5
    scale, start = size * inverse_norms, start / size
    return scale, Problem(xp, matrix, start ** (1.0 + p), start, p, rounding)


def with_stand_ins(
    xp: Arrays[Array], gramian: Array, diagonal: Array, active: Array
) -> tuple[Array, Array]:
    """Returns the Gramian and its diagonal with inactive tasks as orthogonal ones of unit norm.

    Their rows and columns are not removed: shapes would depend on values, which a device's host
    must not read, and entries of a batch would differ in size. A task that is orthogonal to all
    others has no part in their equations, and a unit norm keeps its own solvable, so whatever
    weight it gets can be dropped afterwards.

    Args:
        active: [..., K] (bool), whether a task has a gradient.
    """
    one = xp.ones_like(diagonal)
    both = active[..., :, None] & active[..., None, :]
    stand_in = (one * ~active)[..., None] * xp.identity(gramian)
    return xp.where(both, gramian, stand_in), xp.where(active, diagonal, one)
