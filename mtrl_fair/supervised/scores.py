"""Scores that compare multi-task methods: Δm% and mean rank (paper section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def delta_m(
    metrics: ArrayLike, baseline: ArrayLike, higher_is_better: Sequence[bool] | ArrayLike
) -> float:
    """Computes Δm%, the mean relative performance drop against single-task training, in percent.

    Δm% = 100/M Σ_k s_k (m_k - b_k) / b_k with s_k = -1 if higher is better, else 1. It is a flat
    mean over all M metrics of all tasks, and negative if the method is better than the baseline.

    >>> accuracy_and_error, single_task = [0.81, 0.30], [0.90, 0.25]
    >>> round(delta_m(accuracy_and_error, single_task, higher_is_better=[True, False]), 6)
    15.0

    Args:
        metrics: [M], the metrics of the method.
        baseline: [M], the metrics of networks that were trained on one task each; positive.
        higher_is_better: [M] (bool).

    Raises:
        ValueError: lengths differ, a number is not finite, or the baseline is not positive.
    """
    found, base = np.asarray(metrics, float), np.asarray(baseline, float)
    higher = _directions(higher_is_better)
    if not (found.ndim == 1 and found.shape == base.shape == higher.shape and found.size):
        raise ValueError(
            f"metrics {found.shape}, baseline {base.shape} and higher_is_better {higher.shape}"
            " must be three lists of one length, at least 1"
        )
    if not np.isfinite(found).all():
        wrong = int(np.flatnonzero(~np.isfinite(found))[0])
        raise ValueError(f"metric {wrong} is {found[wrong]}: Δm% needs finite metrics")
    if not (np.isfinite(base) & (base > 0)).all():
        wrong = int(np.flatnonzero(~(np.isfinite(base) & (base > 0)))[0])
        raise ValueError(
            f"the baseline of metric {wrong} is {base[wrong]}: a relative change needs a positive"
            " one"
        )
    return float(100 * np.mean(np.where(higher, -1.0, 1.0) * (found - base) / base))


def mean_rank(table: ArrayLike, higher_is_better: Sequence[bool] | ArrayLike) -> np.ndarray:
    """Computes MR, the mean over metrics of each method's rank among the compared methods.

    The best rank is 1. Methods that are equal in a metric share the mean of their ranks (1, 2.5,
    2.5, 4). Ranks depend on which methods are compared; papers leave single-task training out.

    >>> accuracy_and_error = [[0.9, 0.3], [0.8, 0.2], [0.7, 0.4]]  # of three methods
    >>> mean_rank(accuracy_and_error, higher_is_better=[True, False]).tolist()
    [1.5, 1.5, 3.0]

    Args:
        table: [methods, M].
        higher_is_better: [M] (bool).

    Returns:
        [methods], between 1 and the number of methods.

    Raises:
        ValueError: the shapes do not fit, or a number is not finite.
    """
    from scipy.stats import rankdata  # half a second that trainings can do without

    values = np.asarray(table, float)
    higher = _directions(higher_is_better)
    if not (values.ndim == 2 and values.size and higher.shape == values.shape[1:]):
        raise ValueError(
            f"the table {values.shape} must be [methods, metrics] and higher_is_better"
            f" {higher.shape} [metrics]"
        )
    if not np.isfinite(values).all():
        method, metric = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"metric {metric} of method {method} is {values[method, metric]}: ranks need finite"
            " metrics"
        )
    ranks: np.ndarray = rankdata(np.where(higher, -values, values), axis=0)
    return ranks.mean(1)


def _directions(higher_is_better: Sequence[bool] | ArrayLike) -> np.ndarray:
    """Returns the directions as bool; 0 and 1 are accepted, other numbers are a mistake."""
    values = np.asarray(higher_is_better)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"higher_is_better is {values.tolist()}, expected True or False each")
    return values.astype(bool)
