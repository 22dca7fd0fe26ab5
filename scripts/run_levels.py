"""When runs first had a mean success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from envs.evaluation import reaches
from scripts.run_results import RunGroup
from scripts.run_statistics import MIN_RUNS

DEFAULT_LEVEL = 0.95


@dataclass(frozen=True)
class FirstTimes:
    """When each of R runs first had it, soonest first; then the runs that never had it, with their
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
    def middle(self) -> list[int]:
        """The index of the median run, or those of both middle ones; none for fewer than three
        runs, or where a run that never had it ended before others had it, because it could have
        come before them."""
        ranked = bool((np.diff(self.values) >= 0).all())
        last = len(self.values) - 1
        return sorted({last // 2, (last + 1) // 2}) if ranked and last + 1 >= MIN_RUNS else []


@dataclass(frozen=True)
class LevelTimes:
    """When the runs of a group first had a mean success."""

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
        ValueError: the level is no success rate above 0.
    """
    if not 0 < level <= 1:
        raise ValueError(f"--level is {level}, expected a success rate in (0, 1]")

    def order(times: LevelTimes) -> tuple[bool, bool, float]:
        if not times.steps.middle:
            return True, True, 0.0
        index = times.steps.middle[-1]
        return False, not times.steps.reached[index], times.steps.values[index]

    found = [_level_times(group, place, level) for place, group in enumerate(groups)]
    return sorted(found, key=order)


def _level_times(group: RunGroup, place: int, level: float) -> LevelTimes:
    steps, minutes = [], []
    for run in group.runs:
        index = next((i for i, mean in enumerate(run.mean) if reaches(mean, level)), None)
        at = -1 if index is None else index
        steps.append((run.steps[at], index is not None))
        minutes.append((run.seconds[at] / 60, index is not None))
    return LevelTimes(group.label, place, FirstTimes.of(steps), FirstTimes.of(minutes))
