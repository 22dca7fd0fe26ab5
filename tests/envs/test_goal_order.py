"""Which goal comes next: in turn, or at random by each row's own generator."""

import numpy as np
import pytest

from envs.goal_order import NextGoals

NUM_GOALS = np.array([3, 50])


def test_goals_come_in_turn_and_begin_anew():
    goals = NextGoals("sequential", NUM_GOALS)
    assert goals.seed(5) == [0, 0]
    assert [goals.after(0, goal) for goal in (0, 1, 2)] == [1, 2, 0]
    assert goals.after(1, 48) == 49


def test_random_goals_are_numpy_s_of_seed_and_row():
    """As they always were: saved runs depend on it."""
    goals = NextGoals("random", NUM_GOALS)
    first = goals.seed(7)
    drawn = [[goals.after(row, 0) for _ in range(20)] for row in (0, 1)]
    for row in (0, 1):
        generator = np.random.default_rng([7, row])
        expected = [int(generator.integers(NUM_GOALS[row])) for _ in range(21)]
        assert [first[row], *drawn[row]] == expected
    assert set(drawn[0]) == {0, 1, 2}
    assert len(set(drawn[1])) > 10


def test_the_goal_before_does_not_matter_at_random():
    one, other = NextGoals("random", NUM_GOALS), NextGoals("random", NUM_GOALS)
    assert one.seed([1, 2]) == other.seed(np.array([1, 2]))
    assert [one.after(1, goal) for goal in range(9)] == [other.after(1, 0) for _ in range(9)]


def test_a_state_continues_the_order():
    one, other = NextGoals("random", NUM_GOALS), NextGoals("random", NUM_GOALS)
    one.seed(3)
    other.seed(4)
    one.after(1, 0)
    other.load_state_dict(one.state_dict())
    assert [one.after(1, 0) for _ in range(9)] == [other.after(1, 0) for _ in range(9)]


def test_bad_seeds_change_nothing():
    goals = NextGoals("random", NUM_GOALS)
    goals.seed(3)
    before = goals.state_dict()
    with pytest.raises(ValueError, match="3 seeds were given, expected one or 2"):
        goals.seed([1, 2, 3])
    with pytest.raises(ValueError, match="non-negative"):
        goals.seed(-1)
    assert goals.state_dict() == before


def test_another_order_is_refused():
    message = "goal_order is 'shuffled', expected 'random' or 'sequential'"
    with pytest.raises(ValueError, match=message):
        NextGoals("shuffled", NUM_GOALS)
