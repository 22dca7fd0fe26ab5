"""One Meta-World environment as a row of the vector environment.

This file joins the two rooms that do not know each other: `envs.engine`, which computes what the
package computes, and `envs.workers`, which steps any rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import metaworld
import mujoco

from envs.constants import INFO_KEYS
from envs.engine.environment import fast_class
from envs.engine.snapshots import SnapshotResets
from envs.row_arrays import RowArrays

RESET, STEP, RESTORE = b"r", b"s", b"o"
"""The commands. Before them, the vector environment writes `next_goal` (RESET, STEP), `action`
(STEP), or `next_goal`, `elapsed` and `episode_actions` (RESTORE)."""


class EnvironmentRowSpec(NamedTuple):
    """What a worker needs to know to step one row."""

    row: int
    name: str
    goals: Sequence[metaworld.Task]
    reward_version: str
    max_episode_steps: int
    all_infos: bool

    def make(self, arrays: RowArrays) -> EnvironmentRow:
        """Makes the row."""
        if mujoco.get_mju_user_warning() is None:
            # MuJoCo's own way also writes a MUJOCO_LOG.TXT into the folder that the user is in.
            mujoco.set_mju_user_warning(_print_warning)
        return EnvironmentRow(self, arrays)


def _print_warning(message: str) -> None:
    print(f"mujoco: {message}", file=sys.stderr, flush=True)


class EnvironmentRow:
    """One environment, with a goal set at every reset."""

    def __init__(self, spec: EnvironmentRowSpec, arrays: RowArrays):
        self.spec = spec
        self.arrays = arrays
        self.env = fast_class(spec.name)(reward_function_version=spec.reward_version)
        self.env.set_task(spec.goals[0])
        self.resets = SnapshotResets(self.env)
        space = self.env.sawyer_observation_space
        arrays.low[spec.row], arrays.high[spec.row] = space.low, space.high
        self._observation, self._action = arrays.observation[spec.row], arrays.action[spec.row]
        self._episode_actions = arrays.episode_actions[spec.row]

    def reset(self) -> None:
        """Starts an episode with `next_goal`."""
        row, arrays = self.spec.row, self.arrays
        goal = int(arrays.next_goal[row])
        arrays.observation[row] = self.resets.reset(goal, self.spec.goals[goal])
        arrays.goal[row] = goal
        arrays.elapsed[row] = 0
        self._return = 0.0

    def advance(self) -> None:
        """Does the first half of a step: its simulation."""
        self.env.advance(self._action)

    def observe(self) -> None:
        """Does the second half of a step: its results.

        An episode that ends leaves its last observation in `final_observation`, its return and its
        length, and starts the next one (SAME_STEP).
        """
        row, arrays = self.spec.row, self.arrays
        elapsed = arrays.elapsed[row] + 1
        self._episode_actions[elapsed - 1] = self._action
        observation, reward, info = self.env.observe(self._action)
        self._return += reward
        success = bool(info["success"])
        terminated = success and arrays.terminate_on_success[row]
        truncated = elapsed >= arrays.horizon[row]
        arrays.elapsed[row] = elapsed
        arrays.reward[row] = reward
        arrays.success[row] = success
        arrays.terminated[row] = terminated
        arrays.truncated[row] = truncated
        if self.spec.all_infos:
            arrays.info[row] = [info[key] for key in INFO_KEYS]
        if terminated or truncated:
            arrays.final_observation[row] = observation
            arrays.final_return[row] = self._return
            arrays.final_elapsed[row] = elapsed
            arrays.final_warnings[row] = self.env.data.warning.number.sum()
            arrays.horizon[row] = self.spec.max_episode_steps
            self.reset()
        else:
            self._observation[:] = observation

    def restore(self) -> None:
        """Brings back the middle of an episode by repeating it: a reset and its actions so far.

        The state after a reset depends only on task and goal, so this is exact.
        """
        elapsed = int(self.arrays.elapsed[self.spec.row])
        self.reset()
        for action in self._episode_actions[:elapsed].copy():
            self._observation[:], reward, *_ = self.env.step(action)
            self._return += reward
        self.arrays.elapsed[self.spec.row] = elapsed

    PHASES: ClassVar[Mapping[bytes, Sequence[tuple[str, Callable[[EnvironmentRow], None]]]]] = {
        STEP: [("stepping", advance), ("stepping", observe)],
        RESET: [("resetting", reset)],
        RESTORE: [("restoring", restore)],
    }
