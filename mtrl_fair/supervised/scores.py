"""How multi-task methods are compared: Δm% and mean rank (paper section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def delta_m(
    metrics: ArrayLike, baseline: ArrayLike, higher_is_better: Sequence[bool] | ArrayLike
) -> float:
    """Δm%, the mean relative performance drop against single-task training, in percent.

    100/M Σ_k s_k (m_k - b_k) / b_k with s_k = -1 where higher is better, else 1: a flat mean over
    all M metrics of all tasks, negative where the method is better than the baseline.

    Args:
        metrics: [M], the method's.
        baseline: [M], those of networks trained on one task each; positive.
        higher_is_better: [M] (bool).

    Raises:
        ValueError: lengths that differ, a baseline that is not positive, what is not finite.
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
    """MR, the mean over metrics of a method's rank among the compared methods, 1 the best.

    Methods that are equal in a metric share the mean of their ranks (1, 2.5, 2.5, 4). Ranks depend
    on which methods are compared; papers leave single-task training out.

    Args:
        table: [methods, M].
        higher_is_better: [M] (bool).

    Returns:
        [methods], between 1 and their number.

    Raises:
        ValueError: shapes that do not fit, what is not finite.
    """
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
    """As bool; 0 and 1 will do, other numbers are a mistake."""
    values = np.asarray(higher_is_better)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"higher_is_better is {values.tolist()}, expected True or False each")
    return values.astype(bool)
