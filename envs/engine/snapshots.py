"""Resets from memory: what a full reset to a goal leaves behind, kept and put back.

A reset simulates the hand's way to its start. The outcome depends on the task and the goal alone,
so later resets to a goal are copies of what the first one left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""All that a step's outcome depends on, the constraint solver's warm start included."""


class Snapshot(NamedTuple):
    """An environment right after a reset."""

    observation: np.ndarray
    physics: np.ndarray
    model: dict[str, np.ndarray]
    """The model's arrays that resets change, such as the positions of bodies and sites."""
    arrays: dict[str, np.ndarray]
    """What the reset assigned to the environment and rewards might change in place."""
    attributes: dict[str, Any]
    """The rest: numbers, and views of the live positions (init_left_pad), which rewards go on
    seeing move."""


class SnapshotResets:
    """Resets one environment, fully the first time that a goal is asked for.

    Args:
        env: nothing else may reset it or change its model.
    """

    def __init__(self, env: SawyerXYZEnv):
        self._env = env
        self._snapshots: dict[int, Snapshot] = {}
        self._size = mujoco.mj_stateSize(env.model, STATE)
        # Meshes and textures are large and no reset changes them.
        self._model = {
            name: array
            for name, array in _arrays(env.model).items()
            if not name.startswith(("mesh_", "tex_", "hfield_", "skin_", "flex_", "bvh_", "oct_"))
        }
        self._pristine = {name: array.tobytes() for name, array in self._model.items()}
        self._changing: dict[str, np.ndarray] = {}
        """What the arrays that a reset has changed were before."""
        live = [*_arrays(env.data).values(), *_arrays(env.model).values()]
        self._starts = np.array([array.ctypes.data for array in live])
        self._ends = self._starts + np.array([array.nbytes for array in live])
        self._assigned: set[str] = set()
        self._recorder = _recording_class(type(env), self._assigned)

    def reset(self, goal: int, task: Task) -> np.ndarray:
        """Starts an episode and returns its first observation [39].

        Args:
            goal: identifies the task among all that are asked for.
            task: the package's, with the goal.
        """
        snapshot = self._snapshots.get(goal)
        if snapshot is None:
            snapshot = self._snapshots[goal] = self._full_reset(task)
        else:
            self._restore(snapshot)
        return snapshot.observation.copy()

    def _full_reset(self, task: Task) -> Snapshot:
        env = self._env
        before = {name: _copied(value) for name, value in vars(env).items()}
        env_class = type(env)
        env.__class__ = self._recorder
        self._assigned.clear()
        try:
            env.set_task(task)
            observation, _ = env.reset()
        finally:
            object.__setattr__(env, "__class__", env_class)
        values = vars(env)
        separate = {name for name, value in values.items() if self._is_outside_mujoco(value)}
        assigned = self._assigned | {  # or changed in place
            name
            for name in separate
            if name not in before or not np.array_equal(values[name], before[name])
        }
        for name, array in self._model.items():
            pristine = self._pristine[name]
            if name not in self._changing and array.tobytes() != pristine:
                self._changing[name] = np.frombuffer(pristine, array.dtype).reshape(array.shape)
        arrays = assigned & separate
        physics = np.empty(self._size)
        mujoco.mj_getState(env.model, env.data, physics, STATE)
        return Snapshot(
            observation.copy(),
            physics,
            {name: self._model[name].copy() for name in self._changing},
            {name: values[name].copy() for name in arrays},
            {name: values[name] for name in assigned - arrays},
        )

    def _restore(self, snapshot: Snapshot) -> None:
        env = self._env
        mujoco.mj_setState(env.model, env.data, snapshot.physics, STATE)
        for name, pristine in self._changing.items():
            self._model[name][...] = snapshot.model.get(name, pristine)
        values = vars(env)
        values.update(snapshot.attributes)
        for name, array in snapshot.arrays.items():
            values[name] = array.copy()
        env.data.warning.number[:] = 0  # as mj_resetData does, so the next one is reported again

    def _is_outside_mujoco(self, value: Any) -> bool:
        """Whether it is an array that is no view of MuJoCo's memory."""
        if not isinstance(value, np.ndarray):
            return False
        address = value.ctypes.data
        return not ((self._starts <= address) & (address < self._ends)).any()


def _arrays(owner: mujoco.MjModel | mujoco.MjData) -> dict[str, np.ndarray]:
    values = {name: getattr(owner, name) for name in dir(owner) if not name.startswith("_")}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.size
    }


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _recording_class(env_class: type[SawyerXYZEnv], assigned: set[str]) -> type[SawyerXYZEnv]:
    def record(self: Any, name: str, value: Any) -> None:
        assigned.add(name)
        object.__setattr__(self, name, value)

    return type(env_class.__name__, (env_class,), {"__setattr__": record})
