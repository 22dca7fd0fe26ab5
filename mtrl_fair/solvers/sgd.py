"""The paper's solver for reinforcement learning: 20 steps of SGD (section 5.4)."""

from __future__ import annotations

from mtrl_fair.solvers.arrays import Array, zero_row
from mtrl_fair.solvers.problem import Problem

STEPS = 20
LEARNING_RATE = 0.1
MOMENTUM = 0.5
MAX_NORM = 1.0
EPSILON = 1e-8


def solve_by_sgd(problem: Problem[Array]) -> Array:
    """Minimises ||C v - t (v + eps)^(-p)||^2 by SGD with momentum, its gradient written out.

    Returns the best iterate and not the last, as the published solver does: a fixed number of steps
    with momentum can overshoot, and then the last iterate is worse than one before it.
    """
    xp, matrix, p = problem.xp, problem.matrix, problem.p
    zero = zero_row(xp, matrix)
    doubled, bend = 2.0 * matrix, 2.0 * p
    target, v = problem.target.reshape(zero.shape), problem.start.reshape(zero.shape)
    velocity, least = zero, zero + EPSILON
    iterates: list[Array] = []
    gaps: list[Array] = []
    for step in range(STEPS + 1):
        shifted = v + EPSILON
        power = target * shifted ** (-p)
        gap = v @ matrix - power
        iterates.append(v)
        gaps.append(gap)
        if step < STEPS:
            gradient = gap @ doubled + bend * (power * gap / shifted)
            rate = LEARNING_RATE * MAX_NORM / xp.clipped_norm(gradient, MAX_NORM)
            velocity = MOMENTUM * velocity + rate * gradient
            v = xp.maximum(v - velocity, least)
    return xp.at_smallest(iterates, gaps).reshape(matrix.shape[:-1])
