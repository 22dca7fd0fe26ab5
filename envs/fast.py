"""Meta-World's environments at the speed of their physics: subclasses that compute the same bits.

Rewards, observations and resets are the package's own code. What changes is what that code calls:
access by name is looked up once, and numpy's and scipy's general functions are those of
`envs.functions`. Nothing of the package is modified.
"""

from __future__ import annotations

import sys
import weakref
from functools import cache
from types import CellType, FunctionType
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from envs.functions import namespaces

norm = namespaces()[0]["np"].linalg.norm
_LOW, _HIGH = np.array([-1], np.float32), np.array([1], np.float32)
_DOWNWARD = np.array([1.0, 0.0, 1.0, 0.0])


class Accessors:
    """What access by name gave, for as long as an environment lives."""

    def __init__(self) -> None:
        self.bodies: dict[str, Any] = {}
        self.geoms: dict[str, Any] = {}
        self.sites: dict[str, Any] = {}
        self.joints: dict[str, Any] = {}


class CachedData(mujoco.MjData):
    """`MjData` whose accessors by name are made once. They are views, so they stay valid.

    They hold the data, and the data is no Python object whose cycles could be found: so it must not
    hold them, or neither would ever be freed.
    """

    def __init__(self, model: mujoco.MjModel, accessors: Accessors):
        super().__init__(model)
        self._accessors = weakref.ref(accessors)

    def body(self, name: str) -> Any:
        known = self._accessors().bodies  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().body(name))

    def geom(self, name: str) -> Any:
        known = self._accessors().geoms  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().geom(name))

    def site(self, name: str) -> Any:
        known = self._accessors().sites  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().site(name))

    def joint(self, name: str) -> Any:
        known = self._accessors().joints  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().joint(name))


@cache
def _fast_globals(module: str) -> dict[str, Any]:
    names = dict(vars(sys.modules[module]))
    return names | {name: fast for name, fast in namespaces()[0].items() if name in names}


def _rebound(attribute: Any) -> Any:
    """The same code with the fast functions among its globals."""
    if isinstance(attribute, property):
        return property(*map(_rebound, (attribute.fget, attribute.fset, attribute.fdel)))
    if isinstance(attribute, staticmethod):
        return staticmethod(_rebound(attribute.__func__))
    if not isinstance(attribute, FunctionType):
        return attribute
    closure = attribute.__closure__ and tuple(
        # A decorated method's closure holds the method. `super()` needs its own cell unchanged.
        CellType(_rebound(cell.cell_contents))
        if isinstance(cell.cell_contents, FunctionType)
        else cell
        for cell in attribute.__closure__
    )
    function = FunctionType(
        attribute.__code__,
        _fast_globals(attribute.__module__),
        attribute.__name__,
        attribute.__defaults__,
        closure,
    )
    function.__kwdefaults__ = attribute.__kwdefaults__
    return function


def _rebound_members(package_class: type) -> dict[str, Any]:
    return {
        name: _rebound(attribute)
        for name, attribute in vars(package_class).items()
        if isinstance(attribute, FunctionType | property | staticmethod)
    }


class _FastSawyer(SawyerXYZEnv):
    """What all tasks share: each method does what the package's of that name does."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, CachedData]:
        model, _ = super()._initialize_simulation()
        self._accessors = Accessors()
        self.model, self.data = model, CachedData(model, self._accessors)
        data = self.data
        self._positions: dict[str, np.ndarray] = {}
        self._right_claw = self.get_body_com("rightclaw")
        self._left_claw = self.get_body_com("leftclaw")
        self._right_finger = data.site("rightEndEffector").xpos
        self._left_finger = data.site("leftEndEffector").xpos
        self._pad_geoms = data.geom("leftpad_geom").id, data.geom("rightpad_geom").id
        self._control, self._mocap = data.ctrl, data.mocap_pos[0]
        self._mocap_quaternion = data.mocap_quat[0]
        self._action_scale = np.array(self.action_scale, np.float32)
        return model, data

    def get_body_com(self, body_name: str) -> np.ndarray:
        try:
            return self._positions[body_name]
        except KeyError:
            return self._positions.setdefault(body_name, self.data.body(body_name).xpos)

    def get_endeff_pos(self) -> np.ndarray:
        return self.get_body_com("hand")

    @property
    def tcp_center(self) -> np.ndarray:
        return (self._right_finger + self._left_finger) / 2.0

    def set_xyz_action(self, action: np.ndarray) -> None:
        if action.dtype != np.float32:
            return super().set_xyz_action(action)
        position = self._mocap
        change = np.minimum(np.maximum(action, _LOW), _HIGH) * self._action_scale
        position += change
        np.maximum(position, self.mocap_low, out=position)
        np.minimum(position, self.mocap_high, out=position)
        self._mocap_quaternion[:] = _DOWNWARD

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        # Without mj_rnePostConstraint: nothing reads the accelerations and forces it fills.
        self._control[:] = ctrl
        mujoco.mj_step(self.model, self.data, nstep=n_frames)

    def touching_object(self, object_geom_id: int) -> bool:
        contact = self.data.contact
        pairs = contact.geom.tolist()
        for pad in self._pad_geoms:
            touching = [
                index for index, pair in enumerate(pairs) if pad in pair and object_geom_id in pair
            ]
            if not touching:
                return False
            addresses, forces = contact.efc_address, self.data.efc_force
            if not sum(forces[addresses[index]] for index in touching) > 0:
                return False
        return True

    def _get_curr_obs_combined_no_goal(self) -> np.ndarray:
        position, quaternion = self._get_pos_objects(), self._get_quat_objects()
        observation = np.zeros(18)
        observation[:3] = self.get_endeff_pos()
        opening = norm(self._right_claw - self._left_claw) / 0.1
        observation[3] = min(max(opening, 0.0), 1.0)
        sizes = len(position), len(quaternion)
        if sizes == (3, 4):
            observation[4:7] = position
            observation[7:11] = quaternion
        elif sizes == (6, 8):
            observation[4:7] = position[:3]
            observation[7:11] = quaternion[:4]
            observation[11:14] = position[3:]
            observation[14:18] = quaternion[4:]
        else:
            return super()._get_curr_obs_combined_no_goal()
        return observation

    def _get_obs(self) -> np.ndarray:
        current = self._get_curr_obs_combined_no_goal()
        observation = np.zeros(39)
        observation[:18] = current
        observation[18:36] = self._prev_obs
        if not self._partially_observable:
            observation[36:] = self._get_pos_goal()
        self._prev_obs = current
        return observation

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        # The package also moves the target's sites, which mj_forward puts back before any use.
        over = self.curr_path_length >= self.max_path_length
        if over or len(action) != 4 or not self._set_task_called:
            return super().step(action)  # to raise its errors
        self.set_xyz_action(action[:3])
        self.do_simulation((action[-1], -action[-1]), self.frame_skip)
        self.curr_path_length += 1
        mujoco.mj_forward(self.model, self.data)
        observation = self._get_obs()
        space = self.sawyer_observation_space
        np.maximum(observation, space.low, out=observation)
        np.minimum(observation, space.high, out=observation)
        self._last_stable_obs = observation
        reward, info = self.evaluate_state(observation, action)
        return (
            observation.copy(),
            reward,
            False,
            self.curr_path_length == self.max_path_length,
            info,
        )


for _name, _member in _rebound_members(SawyerXYZEnv).items():
    if _name not in vars(_FastSawyer) and not _name.startswith("__"):
        setattr(_FastSawyer, _name, _member)


@cache
def fast_class(task_name: str) -> type[SawyerXYZEnv]:
    """The fast subclass of a task's environment class, such as "reach-v3"."""
    package_class = ALL_V3_ENVIRONMENTS[task_name]
    members = _rebound_members(package_class)
    fast = type(package_class.__name__, (package_class, _FastSawyer), members)
    # Rewards call their static parts through the name of the class.
    _fast_globals(package_class.__module__)[package_class.__name__] = fast
    return fast
