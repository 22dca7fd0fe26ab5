"""What the tests of failures bring about, and what must follow from it."""

from pathlib import Path

import metaworld
import pytest

from envs import TaskSet, WorkerError
from tests.envs.small_vector import calls_of_workers

ROOT = Path(__file__).parents[3]


class Interrupted(BaseException):
    """What a signal handler raises, as Python's own does for Ctrl-C."""


def broken(task_set: TaskSet, row: int, first: int, data: bytes) -> TaskSet:
    """The same with unreadable goals from the `first` on."""
    goals = list(task_set.goals)
    bad = metaworld.Task(task_set.names[row], data)
    goals[row] = goals[row][:first] + (bad,) * (50 - first)
    return TaskSet(task_set.names, tuple(goals))


def assert_says_so_again(venv, message: str) -> None:
    """Once a worker has failed, every call says what happened."""
    for call in calls_of_workers(venv, {}):
        with pytest.raises(WorkerError, match=message) as caught:
            call()
        assert "Close this environment and make a new one." in str(caught.value)
