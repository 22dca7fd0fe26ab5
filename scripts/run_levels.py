"""When runs first had a mean success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from scripts.run_results import RunGroup


@dataclass(frozen=True)
class FirstTimes:
    """When each of R runs first had it, soonest first; runs that never had it come last, with their
    last evaluation."""

    values: Float[np.ndarray, "run"]
    reached: Bool[np.ndarray, "run"]

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, bool]]) -> FirstTimes:
        ordered = sorted(pairs, key=lambda pair: (not pair[1], pair[0]))
        return cls(
            np.array([value for value, _ in ordered]), np.array([reached for _, reached in ordered])
        )

    @property
    def middle(self) -> tuple[int, ...]:
        """The index of the median run; with an even number of runs, those of both middle ones."""
        last = len(self.values) - 1
        return tuple(dict.fromkeys((last // 2, (last + 1) // 2)))


@dataclass(frozen=True)
class LevelTimes:
    """When the runs of a group first had a mean success."""

    label: str
    steps: FirstTimes
    """In vector steps."""
    minutes: FirstTimes


def times_to_level(groups: Sequence[RunGroup], level: float) -> list[LevelTimes]:
    """Per group, its runs' first evaluations with at least this mean success, each run's own
    evaluations counting; groups by the steps of their medians, soonest first.

    Raises:
        ValueError: the level is no success rate above 0.
    """
    if not 0 < level <= 1:
        raise ValueError(f"--level is {level}, expected a success rate in (0, 1]")

    def order(times: LevelTimes) -> tuple[bool, float]:
        middle = times.steps.middle[-1]
        return not times.steps.reached[middle], times.steps.values[middle]

    return sorted((_level_times(group, level) for group in groups), key=order)


def _level_times(group: RunGroup, level: float) -> LevelTimes:
    steps, minutes = [], []
    for run in group.runs:
        at_level = np.flatnonzero(run.mean >= level)
        reached = len(at_level) > 0
        index = at_level[0] if reached else -1
        steps.append((run.steps[index], reached))
        minutes.append((run.seconds[index] / 60, reached))
    return LevelTimes(group.label, FirstTimes.of(steps), FirstTimes.of(minutes))
