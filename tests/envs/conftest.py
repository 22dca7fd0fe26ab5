"""Environments that the tests of this folder share."""

import contextlib

import pytest

from envs import TaskSet, make_vec
from tests.envs.small_vector import PAIR


@pytest.fixture(scope="module")
def pair() -> TaskSet:
    return TaskSet.make(PAIR, seed=3)


@pytest.fixture(scope="module")
def short(pair):
    """An environment of two workers and episodes of 20 steps, for tests that begin with a reset."""
    with contextlib.closing(
        make_vec(pair, num_workers=2, max_episode_steps=20, all_infos=True)
    ) as venv:
        yield venv


@pytest.fixture
def make(request):
    """make_vec whose environments are closed at the end of the test."""

    def make(*args, **kwargs):
        venv = make_vec(*args, **kwargs)
        request.addfinalizer(venv.close)
        return venv

    return make
