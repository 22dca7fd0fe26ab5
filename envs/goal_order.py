"""Which goal each row visits next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Int

GoalOrder: TypeAlias = Literal["random", "sequential"]


class NextGoals:
    """Chooses the goals that rows visit: at random, each row with a generator of its own, or in
    turn.

    Args:
        order: "random" or "sequential".
        num_goals: of each row.

    Raises:
        ValueError: another order.
    """

    def __init__(self, order: str, num_goals: Int[np.ndarray, " row"]):
        if order not in get_args(GoalOrder):
            raise ValueError(f"goal_order is {order!r}, expected 'random' or 'sequential'")
        self.order = order
        self.num_goals = num_goals
        self._generators: list[np.random.Generator] = []

    def seed(self, seed: int | np.integer | Sequence[int] | np.ndarray) -> list[int]:
        """Starts the order anew and returns the first goal of each row.

        Args:
            seed: one for all rows, or one for each.

        Raises:
            ValueError: another number of seeds, or a negative one. Nothing was changed.
        """
        num_rows = len(self.num_goals)
        seeds: list[Any] = [seed] * num_rows if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != num_rows:
            raise ValueError(f"{len(seeds)} seeds were given, expected one or {num_rows}")
        self._generators = [
            np.random.default_rng([row_seed, row]) for row, row_seed in enumerate(seeds)
        ]
        return [self.after(row, -1) for row in range(num_rows)]

    def after(self, row: int, goal: int) -> int:
        """Returns the goal that a row visits after another one; after -1, its first one."""
        if self.order == "sequential":
            return int((goal + 1) % self.num_goals[row])
        return int(self._generators[row].integers(self.num_goals[row]))

    def state_dict(self) -> list[Mapping[str, Any]]:
        """Returns the state of each row's generator."""
        return [generator.bit_generator.state for generator in self._generators]

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Continues where `state_dict` was taken."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.bit_generator.state = state
