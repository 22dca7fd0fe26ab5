"""Interquartile means and bootstrap intervals, against their definitions."""

import itertools

import numpy as np
import pytest

from mtrl_fair.results.statistics import bootstrap_interval, interquartile_mean, mean


def test_the_interquartile_mean_is_that_of_the_middle_half():
    scores = np.array([[0.0, 0.1, 0.5, 1.0], [0.2, 0.4, 0.9, 1.0]])
    assert interquartile_mean(scores) == pytest.approx((0.2 + 0.4 + 0.5 + 0.9) / 4)
    batch = np.stack([scores, 1 - scores])
    expected = [interquartile_mean(scores), interquartile_mean(1 - scores)]
    np.testing.assert_allclose(interquartile_mean(batch), expected)
    np.testing.assert_allclose(mean(batch), [scores.mean(), 1 - scores.mean()])


def test_the_interval_is_that_of_all_possible_draws():
    scores = np.array([[0.0, 0.3], [0.2, 0.9], [0.7, 1.0]])
    # Every task draws its three runs by itself: 27 x 27 equally likely draws.
    draws = list(itertools.product(range(3), repeat=3))
    exact = [
        (scores[list(first), 0].mean() + scores[list(second), 1].mean()) / 2
        for first, second in itertools.product(draws, draws)
    ]
    low, high = bootstrap_interval(scores)
    expected = np.quantile(exact, (0.025, 0.975))
    np.testing.assert_allclose((low, high), expected, atol=0.02)
    # Drawing whole runs, not each task's apart, would make the interval a third wider.
    whole = np.quantile([scores[list(draw)].mean() for draw in draws], (0.025, 0.975))
    assert high - low < 0.9 * (whole[1] - whole[0])


def test_the_interval_is_the_same_every_time_and_no_wider_than_the_runs():
    scores = np.random.default_rng(1).uniform(size=(4, 10))
    interval = bootstrap_interval(scores, interquartile_mean)
    assert interval == bootstrap_interval(scores, interquartile_mean)
    assert interval[0] < interquartile_mean(scores) < interval[1]
    assert bootstrap_interval(np.ones((3, 2))) == (1, 1)
    narrow = bootstrap_interval(scores, mean, level=0.5)
    wide = bootstrap_interval(scores, mean)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_two_runs_are_too_few():
    with pytest.raises(ValueError, match="2 runs were given, expected at least 3"):
        bootstrap_interval(np.ones((2, 10)))
