"""The steps and minutes after which runs first reached a success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mtrl_fair.results.groups import RunGroup
from mtrl_fair.results.runs import RunResults
from mtrl_fair.results.statistics import MIN_RUNS

DEFAULT_LEVEL = 0.95


def reaches(mean_success: float, level: float) -> bool:
    """Returns whether a mean of rates is at least a level.

    A mean of rates such as 0.82 and 0.9 can be 1e-16 below its exact value; without the margin that
    would decide whether a run has reached 0.95.
    """
    return mean_success >= level - 1e-9


@dataclass(frozen=True)
class FirstTimes:
    """The times at which R runs first reached a level, ascending.

    Then come the last times of runs that never did. These are right-censored: such a run would have
    reached the level later, if at all.
    """

    values: Float[np.ndarray, "run"]
    reached: Bool[np.ndarray, "run"]

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, bool]]) -> FirstTimes:
        """Sorts pairs of a time and whether the level was reached then."""
        ordered = sorted(pairs, key=lambda pair: (not pair[1], pair[0]))
        return cls(
            np.array([value for value, _ in ordered]), np.array([reached for _, reached in ordered])
        )

    @property
    def median(self) -> int | None:
        """Returns the index of the run with which half of the runs had reached the level.

        None for fewer than three runs, and where a run without the level ended before others
        reached it: that run could have reached it before them.
        """
        ranked = bool((np.diff(self.values) >= 0).all())
        return (len(self.values) - 1) // 2 if ranked and len(self.values) >= MIN_RUNS else None


@dataclass(frozen=True)
class LevelTimes:
    """The times at which the runs of a group first reached a mean success."""

    label: str
    place: int
    """The index of the group, in the order given."""
    steps: FirstTimes
    """In vector steps."""
    minutes: FirstTimes


def times_to_level(groups: Sequence[RunGroup], level: float) -> list[LevelTimes]:
    """Returns, for each group, its runs' first evaluations with at least this mean success.

    All evaluations of a run count, also those that other runs of its group do not have. Groups are
    sorted by the median of the steps; groups without a median come last.

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
    """Returns, for each task, the step of the first evaluation with at least this success.

    The second value says whether there is such an evaluation; if not, the step is the last one.

    Raises:
        ValueError: see `check_level`.
    """
    check_level(level)
    found = [_first(success, level) for success in run.success.T]
    return [(float(run.steps[index]), reached) for index, reached in found]


def _first(success: Float[np.ndarray, "evaluation"], level: float) -> tuple[int, bool]:
    """Returns the index of the first evaluation with the level, or of the last if none has it; and
    whether that evaluation has it."""
    index = next((i for i, rate in enumerate(success) if reaches(float(rate), level)), None)
    return (len(success) - 1, False) if index is None else (index, True)


def check_level(level: float) -> None:
    """Raises ValueError unless the level is a success rate above 0."""
    if not 0 < level <= 1:
        raise ValueError(f"the level is {level}, expected a success rate in (0, 1]")
