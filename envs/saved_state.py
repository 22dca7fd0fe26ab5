"""What a vector environment needs of a saved state, checked before anything is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from envs.constants import ACTION_SIZE
from envs.tasks import TaskSet


class SavedState(NamedTuple):
    """The rows of a state that `MetaWorldVectorEnv.state_dict` gave."""

    goal: Int[np.ndarray, " row"]
    next_goal: Int[np.ndarray, " row"]
    elapsed: Int[np.ndarray, " row"]
    horizon: Int[np.ndarray, " row"]
    needs_reset: Bool[np.ndarray, " row"]
    active: Bool[np.ndarray, " row"]
    episodes: list[Float[np.ndarray, "step act"]]
    """The actions of each row's episode so far."""


def describe_rows(task_set: TaskSet, reward_version: str) -> list[str]:
    """Returns what a saved state must have in common, row by row, with the environment that loads
    it: task, reward and goals, which a checksum stands for."""
    descriptions = []
    for name, goals in zip(*task_set, strict=True):
        checksum = hashlib.sha256(b"".join(goal.data for goal in goals)).hexdigest()[:8]
        descriptions.append(f"{name} ({reward_version}, {len(goals)} goals, {checksum})")
    return descriptions


def check_simulator(state: Mapping[str, Any], version: str) -> None:
    """Raises ValueError if a state was saved with another version of mujoco than this one.

    A state holds actions that are repeated, and another version computes other contacts: objects
    would lie elsewhere. States of early commits do not say which version saved them.
    """
    saved = state.get("mujoco", version)
    if saved != version:
        raise ValueError(
            f"the saved state is of mujoco {saved}, but mujoco {version} is installed, which"
            f" computes other contacts: install mujoco=={saved} to continue exactly"
        )


def check_saved_state(
    state: Mapping[str, Any],
    task_names: Sequence[str],
    num_goals: Int[np.ndarray, " row"],
    max_episode_steps: int,
) -> SavedState:
    """Returns the rows of a state that `state_dict` gave.

    Raises:
        ValueError: longer episodes than the environment's, or a state that `state_dict` does not
            give.
    """
    rows = {name: np.asarray(state[name]) for name in SavedState._fields if name != "episodes"}
    if wrong := [name for name, values in rows.items() if values.shape != (len(task_names),)]:
        raise ValueError(f"{', '.join(wrong)} of the saved state must have {len(task_names)} rows")
    if (longest := rows["horizon"].max()) > max_episode_steps:
        raise ValueError(
            f"the saved state has episodes of {longest} steps, this environment of"
            f" {max_episode_steps}"
        )
    for name in ("goal", "next_goal"):
        if not ((rows[name] >= 0) & (rows[name] < num_goals)).all():
            raise ValueError(f"the saved state has no goals that exist: {name} {rows[name]}")
    episodes = [np.asarray(actions) for actions in state["episode_actions"]]
    for name, actions, elapsed in zip(task_names, episodes, rows["elapsed"], strict=True):
        if actions.shape != (elapsed, ACTION_SIZE) or not np.isfinite(actions).all():
            raise ValueError(
                f"the saved state's episode of {name} must be {elapsed} x {ACTION_SIZE} finite"
                f" actions, got {actions.shape}"
            )
    return SavedState(**rows, episodes=episodes)
