"""Which goal each row visits next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Int

GoalOrder: TypeAlias = Literal["random", "sequential"]


class NextGoals:
    """Chooses the goals that rows visit: at random, each row with a generator of its own, or in
    turn.

    In turn, the rows of one task share its goals: of two rows, one visits the goals 0, 2, 4, …, the
    other 1, 3, 5, …

    Args:
        order: "random" or "sequential".
        num_goals: of each row.
        tasks: what each row steps; equal ones are rows of one task.

    Raises:
        ValueError: another order.
    """

    def __init__(self, order: str, num_goals: Int[np.ndarray, " row"], tasks: Sequence[object]):
        if order not in get_args(GoalOrder):
            raise ValueError(f"goal_order is {order!r}, expected 'random' or 'sequential'")
        self.order = order
        self.num_goals = num_goals
        self._stride = [tasks.count(task) for task in tasks]
        self._turn = [tasks[:row].count(task) for row, task in enumerate(tasks)]
        self._generators: dict[int, np.random.Generator] = {}

    def seed(self, seeds: Mapping[int, int]) -> dict[int, int]:
        """Starts the order of some rows anew; returns their first goals.

        Args:
            seeds: of each such row.
        """
        for row, seed in seeds.items():
            self._generators[row] = np.random.default_rng([seed, row])
        return {row: self.after(row, -1) for row in seeds}

    def after(self, row: int, goal: int) -> int:
        """Returns the goal that a row visits after another one; after -1, its first one."""
        if self.order == "sequential":
            following = self._turn[row] if goal < 0 else goal + self._stride[row]
            return int(following % self.num_goals[row])
        return int(self._generators[row].integers(self.num_goals[row]))

    def state_dict(self) -> list[Mapping[str, Any]]:
        """Returns the state of each row's generator."""
        return [generator.bit_generator.state for generator in self._generators.values()]

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Continues where `state_dict` was taken."""
        for generator, state in zip(self._generators.values(), states, strict=True):
            generator.bit_generator.state = state


def row_seeds(seed: object, mask: Bool[np.ndarray, " row"]) -> dict[int, int]:
    """Returns the seed of each row of a mask that has one.

    Args:
        seed: one for all rows, or one or None for each; None is no seed.
        mask: the rows that are seeded.

    Raises:
        ValueError: another number of seeds, or one that is not a whole number of at least 0.
    """
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
        seeds: list[Any] = list(seed)
    else:
        seeds = [seed] * len(mask)
    if len(seeds) != len(mask):
        raise ValueError(f"{len(seeds)} seeds were given, expected one or {len(mask)}")
    for each in seeds:
        if each is not None and not (isinstance(each, int | np.integer) and each >= 0):
            raise ValueError(f"a seed is {each!r}, expected a whole number of at least 0, or None")
    return {row: int(seeds[row]) for row in np.flatnonzero(mask).tolist() if seeds[row] is not None}
