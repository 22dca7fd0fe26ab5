"""Meta-World's environments at the speed of their physics: subclasses that compute the same bits.

What tasks define, rewards above all, is the package's own code, calling the functions of
`functions.py` and `accessors.py`. What they share is written anew here: step, reset, observation,
contacts and the caging reward do the same floating-point operations in the same order, and leave
out what no result depends on. Nothing of the package is modified.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.utils.reward_utils import hamacher_product
from mujoco import (
    mj_checkPos,
    mj_checkVel,
    mj_forward,
    mj_makeConstraint,
    mj_referenceConstraint,
    mj_step,
    mj_step2,
)

from envs.engine.accessors import Accessors, CachedData
from envs.engine.functions import namespaces
from envs.engine.rebinding import fast_globals, rebound_members

norm = namespaces()[0]["np"].linalg.norm
tolerance = namespaces()[0]["reward_utils"].tolerance
_FLOAT32 = np.dtype(np.float32)
_LOW, _HIGH = np.array([-1], np.float32), np.array([1], np.float32)
_DOWNWARD = np.array([1.0, 0.0, 1.0, 0.0])


KNOWN_MUJOCO = "3.3.0"
"""The version whose frames `_simulate` divides; others may compute them in another order."""


def changes_only_constraints(model: mujoco.MjModel, body: int) -> bool:
    """Whether moving this mocap body changes nothing in the next physics frame except the
    constraints, as KNOWN_MUJOCO computes it."""
    geoms = model.geom_bodyid == body
    return (
        not (model.geom_contype[geoms].any() or model.geom_conaffinity[geoms].any())
        and body not in model.body_parentid
        and not (model.npair or model.ntendon or model.nsensor)
        and mujoco.mjtObj.mjOBJ_SITE not in model.eq_objtype
        and mujoco.mjtTrn.mjTRN_SITE not in model.actuator_trntype
        and model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4
        # These also project constraints, find islands, or more.
        and model.opt.solver != mujoco.mjtSolver.mjSOL_PGS
        and not (model.opt.noslip_iterations or model.opt.enableflags)
    )


@cache
def is_known_mujoco() -> bool:
    """Whether the installed version is KNOWN_MUJOCO; warns once if not."""
    if mujoco.__version__ == KNOWN_MUJOCO:
        return True
    warnings.warn(
        f"mujoco {mujoco.__version__} computes other contacts than {KNOWN_MUJOCO}, so episodes and"
        " success rates of the two do not compare; and steps take about a twentieth longer, because"
        f" only of {KNOWN_MUJOCO} is it known how to shorten them without changing a bit",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


class FastSawyerEnv(SawyerXYZEnv):
    """The part that all tasks share. A method that the package has, too, does what it does there.

    Whoever changes `data` between steps must call `mj_forward`, as the package's own methods do:
    the next step builds on what it computes.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._scale = np.float32(self.action_scale)
        self._bounds = self.mocap_low.tolist(), self.mocap_high.tolist()

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, CachedData]:
        model, _ = super()._initialize_simulation()
        self._accessors = Accessors()
        self.model, self.data = model, CachedData(model, self._accessors)
        data = self.data
        self._positions: dict[str, np.ndarray] = {}
        self._right_claw = self.get_body_com("rightclaw")
        self._left_claw = self.get_body_com("leftclaw")
        self._right_pad = self.get_body_com("rightpad")
        self._left_pad = self.get_body_com("leftpad")
        self._right_finger = data.site("rightEndEffector").xpos
        self._left_finger = data.site("leftEndEffector").xpos
        self._pad_geoms = data.geom("leftpad_geom").id, data.geom("rightpad_geom").id
        self._control, self._mocap = data.ctrl, data.mocap_pos[0]
        self._mocap_quaternion = data.mocap_quat[0]
        self._mocap_body = self.get_body_com("mocap")
        mocap = data.body("mocap").id
        self._can_shorten_frame = is_known_mujoco() and changes_only_constraints(model, mocap)
        self._timestep = model.opt.timestep
        self._simulates, self._is_current = True, False
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

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.curr_path_length = 0
        self._is_current = False  # after a snapshot neither, as it holds what is assigned here
        # The package resets the model twice. In between it wipes the simulation, so what the first
        # time simulates has no effect.
        self._simulates = False
        try:
            self.reset_model()
        finally:
            self._simulates = True
        observation, info = super(SawyerXYZEnv, self).reset()
        self._prev_obs = observation[:18].copy()
        observation[18:36] = self._prev_obs
        return observation.astype(np.float64), info

    def draw_goal(self) -> np.ndarray:
        """Draws the goal that `reset` draws where goals are not frozen, without its simulation."""
        self._simulates = False
        try:
            for _ in range(2):  # as `reset` does; the last one counts
                self.reset_model()
        finally:
            self._simulates = True
        assert self._last_rand_vec is not None
        return self._last_rand_vec

    def _reset_hand(self, steps: int = 50) -> None:
        for _ in range(steps if self._simulates else 0):
            self._mocap[:] = self.hand_init_pos
            self._mocap_quaternion[:] = _DOWNWARD
            self.do_simulation((-1.0, 1.0), self.frame_skip)
        self.init_tcp = self.tcp_center

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        # Without mj_rnePostConstraint: nothing reads the accelerations and forces it fills.
        self._control[:] = ctrl
        mj_step(self.model, self.data, n_frames)

    def advance(self, action: np.ndarray) -> None:
        """Does the first half of a step: its simulation."""
        over = self.curr_path_length >= self.max_path_length
        if over or len(action) != 4 or not self._set_task_called:
            super().step(action)  # to raise its errors
        if isinstance(action, np.ndarray) and action.dtype == _FLOAT32:
            self._move(action)
        else:
            self.set_xyz_action(action[:3])
            self._control[:] = action[-1], -action[-1]
        self._simulate()
        self.curr_path_length += 1

    def _move(self, action: np.ndarray) -> None:
        """`set_xyz_action` and the gripper's control, in numbers."""
        x, y, z, effort = action.tolist()
        if not (-1 <= x <= 1 and -1 <= y <= 1 and -1 <= z <= 1):
            action = np.minimum(np.maximum(action, _LOW), _HIGH)
        change_x, change_y, change_z, _ = (action * self._scale).tolist()
        x, y, z = self._mocap.tolist()
        x += change_x
        y += change_y
        z += change_z
        (low_x, low_y, low_z), (high_x, high_y, high_z) = self._bounds
        self._mocap[:] = (
            low_x if x < low_x else high_x if x > high_x else x,
            low_y if y < low_y else high_y if y > high_y else y,
            low_z if z < low_z else high_z if z > high_z else z,
        )
        self._mocap_quaternion[:] = _DOWNWARD
        self._control[:] = effort, -effort

    def _simulate(self) -> None:
        """Simulates the frames of a step, the first one only in part where that is exact.

        Since the last step's `mj_forward` only the mocap body has moved, which nothing touches or
        hangs from: of what the first frame would compute, only the constraints are new.
        """
        model, data, before = self.model, self.data, self.data.time
        frames = self.frame_skip
        if self._is_current:
            mj_checkPos(model, data)
            mj_checkVel(model, data)
            if data.time == before:  # or these have reset an unstable simulation
                self._mocap_body[:] = self._mocap
                mj_makeConstraint(model, data)
                mj_referenceConstraint(model, data)
                mj_step2(model, data)
                frames -= 1
        mj_step(model, data, frames)
        # The package moves the target's sites here, which its mj_forward puts back.
        mj_forward(model, data)
        # A simulation that was reset has turned the mocap body.
        was_reset = not before or data.time - before < (self.frame_skip - 0.5) * self._timestep
        self._is_current = self._can_shorten_frame and not was_reset

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

    def _gripper_caging_reward(
        self,
        action: np.ndarray,
        obj_pos: np.ndarray,
        obj_radius: float,
        pad_success_thresh: float,
        object_reach_radius: float,
        xz_thresh: float,
        desired_gripper_effort: float = 1.0,
        high_density: bool = False,
        medium_density: bool = False,
    ) -> Any:  # float, or np.float32 where the action's own precision decides it
        if self.obj_init_pos is None or (high_density and medium_density):
            return super()._gripper_caging_reward(  # to raise its errors
                action, obj_pos, 0, 0, 0, 0, high_density=True, medium_density=True
            )
        # The same operations on numbers, except that the product of vectors stays BLAS's: it may
        # round only once (a fused multiply-add) where Python rounds twice.
        object_x, object_y, object_z = obj_pos.tolist()
        start_x, start_y, start_z = self.obj_init_pos.tolist()
        tcp = self.tcp_center
        tcp_x, _, tcp_z = tcp.tolist()
        init_tcp_x, _, init_tcp_z = self.init_tcp.tolist()
        cagings = [
            tolerance(
                abs(pad - object_y),
                bounds=(obj_radius, pad_success_thresh),
                margin=abs(abs(pad - start_y) - pad_success_thresh),
                sigmoid="long_tail",
            )
            for pad in (float(self._left_pad[1]), float(self._right_pad[1]))
        ]
        start = np.array((start_x - init_tcp_x, start_z - init_tcp_z))
        distance = np.array((tcp_x - object_x, tcp_z - object_z))
        caging = hamacher_product(
            hamacher_product(*cagings),
            tolerance(
                norm(distance),
                bounds=(0, xz_thresh),
                margin=norm(start) - xz_thresh,
                sigmoid="long_tail",
            ),
        )
        closed = min(max(0, action[-1]), desired_gripper_effort) / desired_gripper_effort
        reward = hamacher_product(caging, closed if caging > 0.97 else 0.0)
        if high_density:
            reward = (reward + caging) / 2
        if medium_density:
            reach = tolerance(
                norm(obj_pos - tcp),
                bounds=(0, object_reach_radius),
                margin=abs(norm(self.obj_init_pos - self.init_tcp) - object_reach_radius),
                sigmoid="long_tail",
            )
            reward = (reward + reach) / 2
        return reward

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
        self.advance(action)
        observation, reward, info = self.observe(action)
        truncated = self.curr_path_length == self.max_path_length
        return observation.copy(), reward, False, truncated, info

    def observe(self, action: np.ndarray) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Does the second half of a step: returns observation [39], reward and infos.

        The environment keeps the observation: it must not be changed."""
        observation = self._get_obs()
        space = self.sawyer_observation_space
        np.maximum(observation, space.low, out=observation)
        np.minimum(observation, space.high, out=observation)
        self._last_stable_obs = observation
        return observation, *self.evaluate_state(observation, action)


for _name, _member in rebound_members(SawyerXYZEnv).items():
    if _name not in vars(FastSawyerEnv) and not _name.startswith("__"):
        setattr(FastSawyerEnv, _name, _member)


@cache
def fast_class(task_name: str) -> type[FastSawyerEnv]:
    """Returns the fast subclass of a task's environment class, such as "reach-v3"."""
    package_class = ALL_V3_ENVIRONMENTS[task_name]
    members = rebound_members(package_class)
    fast = type(package_class.__name__, (package_class, FastSawyerEnv), members)
    # Rewards call their static parts through the name of the class.
    fast_globals(package_class.__module__)[package_class.__name__] = fast
    return fast
