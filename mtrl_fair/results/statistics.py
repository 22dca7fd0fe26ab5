"""Aggregates of success rates over seeds and tasks, with their uncertainty.

The interquartile mean and the stratified bootstrap are those of Agarwal et al. (2021), "Deep
reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.stats import trim_mean

RESAMPLES = 10_000
MIN_RUNS = 3
"""Below, resampling seeds says nothing about them."""


def mean(scores: Float[np.ndarray, "*batch run task"]) -> Float[np.ndarray, "*batch"]:
    """Over runs and tasks."""
    result: np.ndarray = scores.mean((-2, -1))
    return result


def interquartile_mean(scores: Float[np.ndarray, "*batch run task"]) -> Float[np.ndarray, "*batch"]:
    """The mean of the middle half of all scores of all runs and tasks."""
    result: np.ndarray = trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1)
    return result


def bootstrap_interval(
    scores: Float[np.ndarray, "run task"],
    aggregate: Callable[[np.ndarray], np.ndarray] = mean,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of an aggregate when the runs of every task are drawn anew, each
    task's apart from the others'. The draws are the same at every call.

    It takes the tasks of one run for independent, which those of one network are not, and with few
    runs percentiles cover less than their level: read it as a lower bound of the uncertainty.

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
