"""CAGrad: conflict-averse gradient descent (Liu et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize
from torch import Tensor

from mtrl_fair.checks import check_at_least
from mtrl_fair.combiners.by_gramian import GramianCombiner, solve_on_host
from mtrl_fair.combiners.methods.min_norm import min_norm_weights

VANISHING = 1e-7
"""The share of its parts w_i g_i at which the shortest g_w counts as 0.

Not a share of the longest gradient: one task's gradient may be 1e-8 of another's, and g_w as short,
though every task can be helped."""


class CAGrad(GramianCombiner):
    """Finds the direction within c ‖g₀‖ of the mean gradient g₀ that helps the worst-off task most.

    d = (g₀ + c ‖g₀‖ g_w / ‖g_w‖) / (1 + c²), where the convex weights w minimise
    g_wᵀg₀ + c ‖g₀‖ ‖g_w‖ (the paper's equation 4), solved on the Gramian, exactly.

    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021.
    Convention: divided by 1 + c², as the authors' code does by default; the paper's algorithm is
    not, and the authors' supervised code then multiplies by K (scale="tasks").
    Departs: where g_w vanishes, so that no direction within the radius helps every task, all
    weights are 0.
    Needs: the Gramian.
    State: none.

    >>> import torch
    >>> CAGrad()(torch.tensor([[4.0, -1.0], [-1.0, 1.0]]))  # weights
    tensor([0.4310, 0.7297])

    Args:
        c: radius of the search, relative to ‖g₀‖, at least 0; 0.4 in the paper.
        **options: see `Combiner`.
    """

    capturable = False  # solves on the host

    def __init__(self, c: float = 0.4, **options: Any):
        super().__init__(**options)
        check_at_least("c", c, 0)
        self.c = c

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        weights = solve_on_host(gramian, lambda matrix: cagrad_weights(matrix, self.c))
        return weights, gramian.new_zeros(gramian.shape[:-2])


def cagrad_weights(gramian: np.ndarray, c: float) -> np.ndarray:
    """Returns weights [K] for a Gramian [K, K] of positive diagonal.

    For s = ‖g_w‖ the minimiser is that of g_wᵀg₀ + c ‖g₀‖ ‖g_w‖² / 2s, which is the point of least
    norm in the hull of the shifted gradients g_i + t g₀, t = s / (c ‖g₀‖). What remains is to find
    the one t at which ‖g_w‖ = t c ‖g₀‖.
    """
    size = len(gramian)
    mean = np.full(size, 1.0 / size)
    toward_mean = gramian @ mean
    radius = c * np.sqrt(max(mean @ toward_mean, 0.0))
    if radius == 0.0:
        return mean

    def minimiser(shift: float) -> tuple[np.ndarray, float]:
        cross = shift * (toward_mean + toward_mean[:, None])
        weights = min_norm_weights(gramian + cross + shift**2 * (mean @ toward_mean))
        return weights, float(np.sqrt(max(weights @ gramian @ weights, 0.0)))

    def excess(shift: float) -> float:
        return minimiser(shift)[1] - shift * radius

    squares = np.diagonal(gramian)
    largest = np.sqrt(squares.max()) / radius  # g_w is no longer than any gradient
    weights, shortest = minimiser(0.0)
    if shortest > VANISHING * np.sqrt((squares * weights**2).sum()):
        smallest = 0.5 * shortest / radius  # no g_w is shorter, so the excess is positive here
    else:
        smallest = VANISHING * largest
        if excess(smallest) <= 0.0:
            return np.zeros(size)
    ends = np.log([smallest, 2.0 * largest])  # they may be many decades apart
    root = scipy.optimize.brentq(lambda x: excess(np.exp(x)), *ends, xtol=1e-13, rtol=1e-13)
    weights, norm = minimiser(np.exp(root))
    return (mean + radius / norm * weights) / (1 + c**2)
