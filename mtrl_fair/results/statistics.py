"""Aggregates of success rates over seeds and tasks, and how uncertain they are.

The interquartile mean is that of Agarwal et al. (2021), "Deep reinforcement learning at the edge of
the statistical precipice". The interval is not: see `run_interval`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MIN_RUNS = 3
"""Of two runs, an interval is so wide that it says nothing."""


def interquartile_mean(scores: Float[np.ndarray, "run task"]) -> float:
    """Averages the middle half of all scores of all runs and tasks."""
    # Here, because it takes half a second, and every training imports `results.levels.reaches`.
    from scipy.stats import trim_mean

    return float(trim_mean(scores.reshape(-1), 0.25))


def run_interval(scores: Float[np.ndarray, "run task"], level: float = 0.95) -> tuple[float, float]:
    """Returns the t interval of the mean success over whole runs, cut to [0, 1].

    The tasks of one run share a network, so only runs are independent: an interval that draws each
    task's runs apart (the stratified bootstrap of Agarwal et al.) is too narrow. There is none for
    the interquartile mean: with a few runs, neither runs redrawn as wholes nor a jackknife contains
    the true value as often as its level says.

    Raises:
        ValueError: there are fewer than three runs.
    """
    from scipy.stats import t as student  # here, as in `interquartile_mean`

    runs = scores.mean(1)
    if len(runs) < MIN_RUNS:
        raise ValueError(f"{len(runs)} runs were given, expected at least {MIN_RUNS}")
    standard_error = runs.std(ddof=1) / np.sqrt(len(runs))
    half = float(student.ppf((1 + level) / 2, len(runs) - 1) * standard_error)
    return max(float(runs.mean()) - half, 0.0), min(float(runs.mean()) + half, 1.0)
