"""Environments that fail because their goals cannot be read."""

import metaworld

from envs import TaskSet


def broken(task_set: TaskSet, row: int, first: int, data: bytes = b"garbage") -> TaskSet:
    """The same with unreadable goals from the `first` on."""
    goals = list(task_set.goals)
    bad = metaworld.Task(task_set.names[row], data)
    goals[row] = goals[row][:first] + (bad,) * (50 - first)
    return TaskSet(task_set.names, tuple(goals))
