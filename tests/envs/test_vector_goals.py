"""Which goals the rows visit, and how the seed decides it."""

import contextlib

import numpy as np
import pytest

from tests.envs.package_environment import Package
from tests.envs.small_vector import PAIR, ZERO, make_here


@pytest.fixture(scope="module")
def first_observations(pair):
    """[goal, row, 39]; a sequential order visits the goals in turn, from 0 again after 49."""
    with contextlib.closing(make_here(pair, max_episode_steps=1, goal_order="sequential")) as venv:
        observations = [venv.reset()[0], *(venv.step(ZERO)[0] for _ in range(50))]
        assert venv.state_dict()["goal"].tolist() == [0, 0]
        assert (observations[50] == observations[0]).all()
        venv.step(ZERO)
        assert (venv.reset()[0] == observations[0]).all()
        return np.array(observations[:50])


@pytest.fixture(scope="module")
def random_order(pair):
    """Episodes of one step."""
    with contextlib.closing(make_here(pair, seed=1, max_episode_steps=1)) as venv:
        yield venv


def draw_goals(venv, first_observations, episodes: int = 40, **reset_options) -> np.ndarray:
    """[episode, row], each checked to be what the observation shows."""
    observation, _ = venv.reset(**reset_options)
    goals = []
    for _ in range(episodes):
        goals.append(venv.state_dict()["goal"])
        assert (observation == first_observations[goals[-1], [0, 1]]).all()
        observation = venv.step(ZERO)[0]
    return np.array(goals)


def test_a_sequential_order_is_the_task_set_s(first_observations, pair):
    for row, (name, goals) in enumerate(zip(*pair, strict=True)):
        package = Package(name, goals[7:8])
        assert (first_observations[7, row] == package.observation.astype(np.float32)).all()
    assert len(np.unique(first_observations, axis=0)) == 50


def test_a_random_order_follows_from_the_seed(random_order, first_observations):
    unseeded = draw_goals(random_order, first_observations)
    first = draw_goals(random_order, first_observations, seed=1)
    assert (unseeded == first).all()  # the constructor's seed
    assert (draw_goals(random_order, first_observations) != first).any()  # it goes on
    assert (draw_goals(random_order, first_observations, seed=1) == first).all()
    assert (draw_goals(random_order, first_observations, seed=2) != first).any()
    # Each row has a generator of its own; 40 draws of 50 goals miss some and repeat some.
    assert (first[:, 0] != first[:, 1]).any()
    assert 15 < len(set(first[:, 0])) < 40


def test_each_row_can_have_its_own_seed(random_order, first_observations):
    one, two = (draw_goals(random_order, first_observations, seed=seed) for seed in (1, 2))
    mixed = draw_goals(random_order, first_observations, seed=[1, 2])
    assert (mixed == np.stack([one[:, 0], two[:, 1]], 1)).all()
    same = draw_goals(random_order, first_observations, seed=np.array([2, 2]))
    assert (same == two).all()


def test_goals_are_the_task_set_s_whatever_the_seed(make, pair, first_observations):
    venv = make(pair, seed=9, max_episode_steps=1)
    draw_goals(venv, first_observations, 10)


def test_envs_per_task_have_goal_orders_of_their_own(make, pair, first_observations):
    venv = make(pair, envs_per_task=3, max_episode_steps=1)
    assert venv.task_names == (PAIR[0],) * 3 + (PAIR[1],) * 3
    observation, _ = venv.reset()
    goals = []
    for _ in range(10):
        goals.append(venv.state_dict()["goal"].tolist())
        assert (observation == first_observations[goals[-1], [0, 0, 0, 1, 1, 1]]).all()
        observation = venv.step(np.zeros((6, 4)))[0]
    assert len(set(zip(*goals, strict=True))) == 6
