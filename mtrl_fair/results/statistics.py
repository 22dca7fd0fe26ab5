"""Aggregates of success rates over seeds and tasks, and how uncertain they are.

The interquartile mean and the stratified bootstrap are those of Agarwal et al. (2021), "Deep
reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000
MIN_RUNS = 3
"""With fewer runs, resampling says nothing about seeds."""


def mean(scores: Float[np.ndarray, "*batch run task"]) -> Float[np.ndarray, "*batch"]:
    """Averages all scores of all runs and tasks."""
    result: np.ndarray = scores.mean((-2, -1))
    return result


def interquartile_mean(scores: Float[np.ndarray, "*batch run task"]) -> Float[np.ndarray, "*batch"]:
    """Averages the middle half of all scores of all runs and tasks."""
    # Here, because it takes half a second, and every training imports `results.levels.reaches`.
    from scipy.stats import trim_mean

    result: np.ndarray = trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1)
    return result


def bootstrap_interval(
    scores: Float[np.ndarray, "run task"],
    aggregate: Callable[[np.ndarray], np.ndarray] = mean,
    level: float = 0.95,
) -> tuple[float, float]:
    """Returns the percentile interval of an aggregate under resampling of runs.

    Runs are drawn with replacement for each task separately (stratified). The draws are the same at
    every call.

    The interval is too narrow for two reasons. It treats the tasks of one run as independent, but
    they share a network. And with few runs a percentile interval covers less than its level. Read
    it as a lower bound of the uncertainty.

    Raises:
        ValueError: there are fewer than three runs.
    """
    runs, tasks = scores.shape
    if runs < MIN_RUNS:
        raise ValueError(f"{runs} runs were given, expected at least {MIN_RUNS} to draw from")
    drawn = np.random.default_rng(0).integers(0, runs, (RESAMPLES, runs, tasks))
    values = aggregate(np.take_along_axis(scores[None], drawn, 1))
    tail = (1 - level) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
