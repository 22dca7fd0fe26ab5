"""The paper's solver for supervised learning: scipy's constrained least squares (section 4)."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from mtrl_fair.solvers.problem import Problem

TOLERANCE = 1e-15
"""Of the objective and of its gradient; the published defaults (1e-8) stop too early."""


def solve_by_least_squares(problem: Problem[np.ndarray]) -> np.ndarray:
    """Minimises ||C v - t v^(-p)||^2 over v >= 0, with an exact Jacobian, one problem at a time."""
    matrix, target, start, p = problem.matrix, problem.target, problem.start, problem.p
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
                ftol=TOLERANCE,
                gtol=TOLERANCE,
            ).x
    return solutions
