"""Which goal comes next: in turn, or at random by each row's own generator."""

import numpy as np
import pytest

from envs.goal_order import NextGoals, row_seeds

NUM_GOALS = np.array([3, 50])
TASKS = ("a", "b")


def test_goals_come_in_turn_and_begin_anew():
    goals = NextGoals("sequential", NUM_GOALS, TASKS)
    assert goals.seed({0: 5, 1: 5}) == {0: 0, 1: 0}
    assert [goals.after(0, goal) for goal in (0, 1, 2)] == [1, 2, 0]
    assert goals.after(1, 48) == 49


def test_rows_of_one_task_share_its_goals_in_turn():
    goals = NextGoals("sequential", np.array([5, 5, 2, 5]), ["a", "a", "b", "a"])
    first = goals.seed(dict.fromkeys(range(4), 0))
    assert first == {0: 0, 1: 1, 2: 0, 3: 2}
    assert [goals.after(row, goal) for row, goal in first.items()] == [3, 4, 1, 0]
    few = NextGoals("sequential", np.array([1, 1]), ["a", "a"])
    assert few.seed({0: 0, 1: 0}) == {0: 0, 1: 0}


def test_random_goals_are_numpy_s_of_seed_and_row():
    """As they always were: saved runs depend on it."""
    goals = NextGoals("random", NUM_GOALS, TASKS)
    first = goals.seed({0: 7, 1: 7})
    drawn = [[goals.after(row, 0) for _ in range(20)] for row in (0, 1)]
    for row in (0, 1):
        generator = np.random.default_rng([7, row])
        expected = [int(generator.integers(NUM_GOALS[row])) for _ in range(21)]
        assert [first[row], *drawn[row]] == expected
    assert set(drawn[0]) == {0, 1, 2}
    assert len(set(drawn[1])) > 10


def test_the_goal_before_does_not_matter_at_random():
    one, other = NextGoals("random", NUM_GOALS, TASKS), NextGoals("random", NUM_GOALS, TASKS)
    assert one.seed({0: 1, 1: 2}) == other.seed({0: 1, 1: 2})
    assert [one.after(1, goal) for goal in range(9)] == [other.after(1, 0) for _ in range(9)]


def test_a_state_continues_the_order():
    one, other = NextGoals("random", NUM_GOALS, TASKS), NextGoals("random", NUM_GOALS, TASKS)
    one.seed({0: 3, 1: 3})
    other.seed({0: 4, 1: 4})
    one.after(1, 0)
    other.load_state_dict(one.state_dict())
    assert [one.after(1, 0) for _ in range(9)] == [other.after(1, 0) for _ in range(9)]


def test_a_row_without_a_new_seed_goes_on():
    one, other = NextGoals("random", NUM_GOALS, TASKS), NextGoals("random", NUM_GOALS, TASKS)
    one.seed({0: 3, 1: 3})
    other.seed({0: 3, 1: 3})
    assert one.seed({0: 4}) == {0: other.seed({0: 4})[0]}
    assert [one.after(1, 0) for _ in range(9)] == [other.after(1, 0) for _ in range(9)]


ALL, SECOND = np.array([True, True]), np.array([False, True])


@pytest.mark.parametrize(
    ("seed", "mask", "seeds"),
    [
        (None, ALL, {}),
        (3, ALL, {0: 3, 1: 3}),
        (np.int64(3), SECOND, {1: 3}),
        ([1, 2], ALL, {0: 1, 1: 2}),
        ((1, 2), SECOND, {1: 2}),
        ([1, None], ALL, {0: 1}),
        ([1, None], SECOND, {}),
        (np.array([1, 2]), ALL, {0: 1, 1: 2}),
    ],
)
def test_every_form_of_a_seed(seed, mask, seeds):
    assert row_seeds(seed, mask) == seeds


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ([1, 2, 3], "3 seeds were given, expected one or 2"),
        (-1, "a seed is -1, expected a whole number of at least 0, or None"),
        ([1, -2], "a seed is -2"),
        (1.5, "a seed is 1.5"),
        ("12", "a seed is '12'"),
    ],
)
def test_bad_seeds_are_refused_in_rows_that_are_not_asked_for_too(seed, message):
    with pytest.raises(ValueError, match=message):
        row_seeds(seed, np.array([True, False]))


def test_another_order_is_refused():
    message = "goal_order is 'shuffled', expected 'random' or 'sequential'"
    with pytest.raises(ValueError, match=message):
        NextGoals("shuffled", NUM_GOALS, TASKS)
