"""When runs first reached a success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from envs.evaluation import reaches
from mtrl_fair.results.runs import RunGroup, RunResults
from mtrl_fair.results.statistics import MIN_RUNS

DEFAULT_LEVEL = 0.95


@dataclass(frozen=True)
class FirstTimes:
    """The times at which R runs first reached a level, ascending, then the last times of runs that
    never did, which are right-censored: theirs would be later."""

    values: Float[np.ndarray, "run"]
    reached: Bool[np.ndarray, "run"]

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, bool]]) -> FirstTimes:
        ordered = sorted(pairs, key=lambda pair: (not pair[1], pair[0]))
        return cls(
            np.array([value for value, _ in ordered]), np.array([reached for _, reached in ordered])
        )

    @property
    def median(self) -> int | None:
        """The index of the run with which half of the runs had reached the level. None for fewer
        than three runs, or where a run that never did ended before others did: it could have come
        before them."""
        ranked = bool((np.diff(self.values) >= 0).all())
        return (len(self.values) - 1) // 2 if ranked and len(self.values) >= MIN_RUNS else None


@dataclass(frozen=True)
class LevelTimes:
    """When the runs of a group first reached a mean success."""

    label: str
    place: int
    """Of the group, in the order given."""
    steps: FirstTimes
    """In vector steps."""
    minutes: FirstTimes


def times_to_level(groups: Sequence[RunGroup], level: float) -> list[LevelTimes]:
    """Per group, its runs' first evaluations with at least this mean success, each run's own
    evaluations counting. By the median of the steps, groups without one last.

    Raises:
        ValueError: see `check_level`.
    """
    check_level(level)

    def order(times: LevelTimes) -> tuple[bool, bool, float]:
        index = times.steps.median
        if index is None:
            return True, True, 0.0
        return False, not times.steps.reached[index], times.steps.values[index]

    found = [_level_times(group, place, level) for place, group in enumerate(groups)]
    return sorted(found, key=order)


def _level_times(group: RunGroup, place: int, level: float) -> LevelTimes:
    steps, minutes = [], []
    for run in group.runs:
        index, reached = _first(run.mean, level)
        steps.append((run.steps[index], reached))
        minutes.append((run.seconds[index] / 60, reached))
    return LevelTimes(group.label, place, FirstTimes.of(steps), FirstTimes.of(minutes))


def task_steps_to_level(run: RunResults, level: float) -> list[tuple[float, bool]]:
    """Per task, the vector step of a run's first evaluation with at least this success, and whether
    there is one; else the last step.

    Raises:
        ValueError: see `check_level`.
    """
    check_level(level)
    found = [_first(success, level) for success in run.success.T]
    return [(float(run.steps[index]), reached) for index, reached in found]


def _first(success: Float[np.ndarray, "evaluation"], level: float) -> tuple[int, bool]:
    """The index of the first evaluation with the level, or of the last, and whether it has it."""
    index = next((i for i, rate in enumerate(success) if reaches(float(rate), level)), None)
    return (len(success) - 1, False) if index is None else (index, True)


def check_level(level: float) -> None:
    """Raises ValueError unless the level is a success rate above 0."""
    if not 0 < level <= 1:
        raise ValueError(f"--level is {level}, expected a success rate in (0, 1]")
