"""Which tasks, and the goals of each."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, SupportsIndex

import metaworld
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs.goals import draw_goals, load_or_draw
from mtrl_fair.checks import check_name

BENCHMARKS = ("mt10", "mt25", "mt50")


class TaskSet(NamedTuple):
    """K task names, one row each, and their goals as the package's `Task` objects."""

    names: tuple[str, ...]
    goals: tuple[tuple[metaworld.Task, ...], ...]
    """goals[k] are task k's, 50 of them unless cut down."""

    @classmethod
    def make(
        cls, tasks: str | Sequence[str], seed: SupportsIndex, goals_of: str | None = None
    ) -> TaskSet:
        """Makes the tasks with the goals that `metaworld` itself draws for a seed.

        They are read from the files of `envs.goals` where they have been drawn before.

        Args:
            tasks: "mt10", "mt25", "mt50", a task name, or a list of task names. A benchmark's
                goals are those of `metaworld.MT10(seed)`; a named task's those of
                `metaworld.MT1(name, seed)`, which has others: of MT10's, only reach's are the same.
                MT1 draws every task's goals from the same numbers, so tasks whose goals have the
                same bounds, such as reach-v3 and pick-place-v3, get the same 50 positions.
            seed: of the goals.
            goals_of: "mt10", "mt25" or "mt50": named tasks get the goals of this benchmark.

        Raises:
            ValueError: an unknown name, with the nearest valid ones, or no name at all; a task that
                is not in the benchmark of `goals_of`, or a benchmark that is not the one of
                `tasks`.
        """
        if not 0 <= (seed := operator.index(seed)) < 2**32:
            raise ValueError(f"the seed is {seed}, expected an integer from 0 to 2**32 - 1")
        if not isinstance(tasks, str) and len(tasks) == 1:
            tasks = tasks[0]
        names = task_names(tasks)
        check_goals_of(goals_of, tasks)
        if goals_of is None and isinstance(tasks, str) and tasks in BENCHMARKS:
            goals_of = tasks
        if goals_of is not None:
            every = task_names(goals_of)
            drawn = load_or_draw(goals_of, every, seed, partial(draw_goals, every, seed))
            goals = [tuple(goal for goal in drawn if goal.env_name == name) for name in names]
        else:
            per_name = {
                name: tuple(load_or_draw(name, (name,), seed, partial(draw_goals, (name,), seed)))
                for name in set(names)
            }
            goals = [per_name[name] for name in names]
        return cls(names, tuple(goals))

    def first_goals(self, number: int) -> TaskSet:
        """Returns the same tasks with only the first goals of each.

        Raises:
            ValueError: fewer goals than asked for.
        """
        available = min(len(goals) for goals in self.goals)
        if not 1 <= number <= available:
            raise ValueError(f"{number} goals per task were asked for, but there are {available}")
        return TaskSet(self.names, tuple(goals[:number] for goals in self.goals))

    def repeated(self, number: int) -> TaskSet:
        """Returns every task that many times, next to each other."""
        return TaskSet(
            tuple(name for name in self.names for _ in range(number)),
            tuple(goals for goals in self.goals for _ in range(number)),
        )


def check_goals_of(goals_of: str | None, tasks: str | Sequence[str]) -> None:
    """Raises ValueError unless a benchmark has goals for the tasks; None: the tasks' own."""
    if goals_of is None:
        return
    check_name("benchmark", goals_of, BENCHMARKS)
    if isinstance(tasks, str) and tasks in BENCHMARKS and tasks != goals_of:
        raise ValueError(
            f"goals_of is {goals_of}, but {tasks} has goals of its own: leave goals_of out"
        )
    available = task_names(goals_of)
    missing = [name for name in task_names(tasks) if name not in available]
    if missing:
        raise ValueError(
            f"goals_of is {goals_of}, which has no {', '.join(missing)}: choose a benchmark that"
            " has, such as mt50, or leave goals_of out"
        )


def task_names(tasks: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the task names of a benchmark, a name or a list of names, without drawing goals.

    Raises:
        ValueError: an unknown name, with the nearest valid ones, or an empty list.
    """
    if isinstance(tasks, str) and tasks in BENCHMARKS:
        return tuple(getattr(metaworld.env_dict, f"{tasks.upper()}_V3"))
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    if not names:
        raise ValueError("no tasks: give mt10, mt25, mt50 or task names such as reach-v3")
    listing = "mt10, mt25 or mt50 alone, or names of Meta-World's 50 v3 tasks such as reach-v3"
    for name in names:
        if name in BENCHMARKS:
            raise ValueError(f"{name} is a whole benchmark: name it alone, not in a list of tasks")
        check_name("task", name, ALL_V3_ENVIRONMENTS, listing)
    return names
