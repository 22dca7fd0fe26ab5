"""Interquartile means and intervals, against their definitions."""

import numpy as np
import pytest
from scipy import stats

from mtrl_fair.results.statistics import interquartile_mean, run_interval


def test_the_interquartile_mean_is_that_of_the_middle_half():
    scores = np.array([[0.0, 0.1, 0.5, 1.0], [0.2, 0.4, 0.9, 1.0]])
    assert interquartile_mean(scores) == pytest.approx((0.2 + 0.4 + 0.5 + 0.9) / 4)


def test_the_interval_of_the_mean_is_the_t_interval_of_the_runs_means():
    scores = np.array([[0.4, 0.5], [0.5, 0.5], [0.7, 0.6], [0.5, 0.3]])
    runs = scores.mean(1)
    for level in (0.5, 0.95):
        expected = stats.t.interval(level, 3, runs.mean(), stats.sem(runs))
        np.testing.assert_allclose(run_interval(scores, level=level), expected)
    assert run_interval(np.array([[0.1], [0.9], [0.9]])) == (0, 1)  # a success rate is no more
    assert run_interval(np.full((3, 2), 0.5)) == (0.5, 0.5)


def test_the_interval_contains_what_it_should_as_often_as_it_says():
    """Though the tasks of a run go together; an interval over tasks and runs apart does not."""
    generator = np.random.default_rng(0)
    runs = generator.normal(0.5, 0.05, (2000, 3, 1)) + generator.normal(0, 0.01, (2000, 3, 10))
    bounds = np.array([run_interval(scores) for scores in runs])
    covered = ((bounds[:, 0] < 0.5) & (bounds[:, 1] > 0.5)).mean()
    assert 0.935 < covered < 0.965


def test_two_runs_are_too_few():
    with pytest.raises(ValueError, match="2 runs were given, expected at least 3"):
        run_interval(np.ones((2, 10)))
