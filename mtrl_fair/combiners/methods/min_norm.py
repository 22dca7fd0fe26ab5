"""The point of least norm in a convex hull."""

from __future__ import annotations

import numpy as np
import scipy.optimize


def min_norm_weights(gramian: np.ndarray) -> np.ndarray:
    """Returns the w ≥ 0 with Σ w = 1 that minimises wᵀA w, exactly, for a Gramian [K, K].

    >>> min_norm_weights(np.diag([4.0, 1.0])).round(3).tolist()
    [0.2, 0.8]

    With v = n w for the gradient norms n, some positive multiple of v minimises
    vᵀC v + (Σ v_i / n_i - 1)² over v ≥ 0, C being the cosines: non-negative least squares, which
    an active-set method solves whatever the norms are.
    """
    squares = np.diagonal(gramian)
    if squares.min() <= 0.0:
        return np.eye(len(gramian))[squares.argmin()]
    norms = np.sqrt(squares)
    cosines = gramian / norms / norms[:, None]
    values, vectors = np.linalg.eigh(cosines)
    inverse_norms = norms.min() / norms
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    system = np.vstack([root, inverse_norms])
    target = np.zeros(len(system))
    target[-1] = 1.0
    multiple, _ = scipy.optimize.nnls(system, target, maxiter=100 * len(gramian))
    weights = multiple * inverse_norms
    return weights / weights.sum()
