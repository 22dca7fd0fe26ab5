"""Meta-World tasks as one vector environment, stepped by worker processes."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeAlias, TypedDict, get_args

import gymnasium
import mujoco
import numpy as np
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from envs.constants import ACTION_SIZE, INFO_KEYS, MAX_EPISODE_STEPS, OBSERVATION_SIZE
from envs.costs import assign_tasks
from envs.goal_order import GoalOrder, NextGoals
from envs.row import RESET, RESTORE, STEP, EnvironmentRowSpec
from envs.row_arrays import RowArrays
from envs.saved_state import check_saved_state, check_simulator, describe_rows
from envs.tasks import TaskSet
from envs.workers.memory import open_memory
from envs.workers.pool import WorkerPool
from mtrl_fair.machine import usable_cores

RewardVersion: TypeAlias = Literal["v1", "v2"]

Step: TypeAlias = tuple[
    Float[np.ndarray, "row obs"],
    Float[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    dict[str, Any],
]


class VectorOptions(TypedDict, total=False):
    """The keyword arguments of `MetaWorldVectorEnv`. `make_vec` says what they mean."""

    caller_steps: bool
    max_episode_steps: int
    stagger: bool
    goal_order: GoalOrder
    terminate_on_success: bool
    all_infos: bool
    timeout: float


class MetaWorldVectorEnv(VectorEnv):
    """A vector environment of Meta-World's tasks, which `make_vec` makes.

    Every number is the package's own, bit for bit. Observations are the package's, cast to float32,
    and so are their bounds. Rewards are float64.

    Autoreset is SAME_STEP: where an episode ends, the observation is the next episode's first one,
    and `infos["final_obs"]` [K, 39] holds the true last one in the rows that the mask
    `infos["_final_obs"]` [K] marks. `infos["success"]` [K] is the step's own flag, on the last step
    too, and so are all other infos; `infos["_success"]` marks the rows that were stepped.

    Attributes:
        task_names: one per row.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        task_set: TaskSet,
        seed: int = 0,
        reward_version: RewardVersion = "v2",
        num_workers: int | None = None,
        *,
        caller_steps: bool = False,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        stagger: bool = False,
        goal_order: GoalOrder = "random",
        terminate_on_success: bool = False,
        all_infos: bool = False,
        timeout: float = 30.0,
    ):
        self.closed = True  # until there is something to close
        _check_options(reward_version, num_workers, max_episode_steps, timeout)
        self._task_set = task_set
        self.task_names = task_set.names
        self.num_envs = len(task_set.names)
        self.num_goals = np.array([len(goals) for goals in task_set.goals])
        self._next_goals = NextGoals(goal_order, self.num_goals)
        self.reward_version = reward_version
        self.goal_order = goal_order
        self.terminate_on_success = terminate_on_success
        self.max_episode_steps = max_episode_steps
        self.stagger = stagger
        self.all_infos = all_infos
        self._needs_reset = np.ones(self.num_envs, bool)
        self._start(num_workers, caller_steps, timeout)
        self.closed = False
        self.active[:] = True
        self._shared.horizon[:] = max_episode_steps
        self._shared.next_goal[:] = self._next_goals.seed(seed)
        self._make_spaces()

    def _start(self, num_workers: int | None, caller_steps: bool, timeout: float) -> None:
        """Makes the rows, in worker processes and perhaps in this one."""
        specs = [
            EnvironmentRowSpec(
                row,
                name,
                goals,
                self.reward_version,
                self.max_episode_steps,
                self.terminate_on_success,
                self.all_infos,
            )
            for row, (name, goals) in enumerate(zip(*self._task_set, strict=True))
        ]
        workers = min(num_workers or usable_cores(), self.num_envs)
        assigned = [
            [specs[row] for row in rows]
            for rows in assign_tasks(self.task_names, workers, caller_steps=caller_steps)
        ]
        caller_specs = assigned.pop() if caller_steps else []
        memory = open_memory()
        try:
            self._shared = RowArrays(self.num_envs, memory)
            self._workers = WorkerPool(assigned, caller_specs, self._shared, memory, timeout)
        finally:
            os.close(memory)

    def _make_spaces(self) -> None:
        """Makes the spaces from the bounds that the rows have written."""
        low, high = self._shared.low.astype(np.float32), self._shared.high.astype(np.float32)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = gymnasium.spaces.Box(
            low.min(0), high.max(0), dtype=np.float32
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            -1.0, 1.0, (self.num_envs, ACTION_SIZE), np.float32
        )

    @property
    def active(self) -> Bool[np.ndarray, " row"]:
        """The rows that `step` advances, to be changed in place or assigned. The others stay as
        they are, with reward 0 and all flags false; `reset` makes all active again."""
        return self._shared.active

    @active.setter
    def active(self, rows: Bool[np.ndarray, " row"] | Sequence[bool]) -> None:
        self._shared.active[:] = rows

    def reset(
        self,
        *,
        seed: int | Sequence[int] | np.ndarray | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Float[np.ndarray, "row obs"], dict[str, Any]]:
        """Starts an episode in every row.

        Args:
            seed: restarts the random order of goals of all rows, one seed for all or one for each.
                Without one, the order goes on. A sequential order restarts at goal 0 when all rows
                are reset.
            options: {"reset_mask": [K] bool} resets those rows only.
        """
        self._check_ready("reset")
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"reset_mask must be {self.num_envs} booleans, got {mask!r}")
        if seed is not None:
            self._shared.next_goal[:] = self._next_goals.seed(seed)
        self._needs_reset[mask] = True  # until it is done: an interrupt may come in between
        shared = self._shared
        if mask.all() and self.goal_order == "sequential":
            shared.next_goal[:] = 0
        shared.horizon[mask] = self.max_episode_steps
        if mask.all() and self.stagger:
            steps = np.arange(1, self.num_envs + 1) * self.max_episode_steps
            shared.horizon[:] = -(-steps // self.num_envs)
        self.active[:] = mask
        self._workers.command(RESET)
        self._workers.wait()
        self.active[:] = True
        with self._workers.uninterrupted():
            self._draw_next_goals(mask)
            self._needs_reset[mask] = False
        return shared.observation.copy(), {}

    def step(self, actions: ArrayLike) -> Step:
        """Steps every active row once: `step_async`, then `step_wait`."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: ArrayLike) -> None:
        """Starts a step of every active row, which `step_wait` finishes; in between, the caller may
        compute.

        Args:
            actions: [K, 4]. Those outside [-1, 1] are passed on as they are: the package clips them
                for the motion, rewards see the raw values.

        Raises:
            ValueError: actions of another shape, or not finite. Nothing was started.
            RuntimeError: before the first reset, or after one that was interrupted.
            AlreadyPendingCallError: another step is under way.
            WorkerError: a worker failed; the environment must be closed then.
        """
        self._check_ready("step_async")
        if self._needs_reset.any():
            raise RuntimeError("call reset() before step()")
        actions = np.asarray(actions, dtype=np.float32)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions have shape {actions.shape}, expected {self.action_space.shape}"
            )
        if not np.isfinite(actions).all():
            bad = [self.task_names[row] for row in np.flatnonzero(~np.isfinite(actions).all(1))]
            raise ValueError(f"the actions of {', '.join(bad)} are not finite")
        self._shared.action[:] = actions
        self._workers.command(STEP)

    def step_wait(self) -> Step:
        """Finishes the step that `step_async` started; returns what `step` does.

        Raises:
            NoAsyncCallError: there is none.
            WorkerError: a worker failed or did not answer; the environment must be closed then.
        """
        self._check_open()
        if self._workers.command_sent != STEP:
            raise NoAsyncCallError("call step_async() before step_wait()", "step")
        shared = self._shared
        if not self.active.all():
            flags = (shared.terminated, shared.truncated, shared.success)
            for array in (shared.reward, shared.info, *flags):
                array[~self.active] = 0
        # What is made before the workers have finished costs no time.
        memory, results = shared.new_results()
        names = ("observation", "reward", "terminated", "truncated")
        observation, reward, terminated, truncated = (results[name] for name in names)
        infos = {
            "success": results["success"],
            "_success": results["active"],
            "final_obs": np.zeros((self.num_envs, OBSERVATION_SIZE), np.float32),
        }
        self._workers.wait()
        memory[:] = shared.results_bytes
        infos["_final_obs"] = ended = terminated | truncated
        if self.all_infos:
            columns = dict(zip(INFO_KEYS, shared.info.T.copy(), strict=True))
            infos = columns | {f"_{key}": self.active.copy() for key in columns} | infos
        if ended.any():
            infos["final_obs"][ended] = shared.final_observation[ended]
            # Both or none: an interrupt in between would have the next goals drawn twice.
            with self._workers.uninterrupted():
                self._draw_next_goals(ended)
                self._workers.command_sent = b""
        else:
            self._workers.command_sent = b""
        return observation, reward, terminated, truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """The complete state, in mid-episode too: goal orders, goals, and the episodes' actions.

        An episode is saved as its actions since the reset and restored by repeating them, which is
        exact, because the state after a reset depends only on the task and its goal.
        """
        self._check_ready("state_dict")
        shared = self._shared
        return {
            "tasks": describe_rows(self._task_set, self.reward_version),
            "mujoco": mujoco.__version__,
            "generators": self._next_goals.state_dict(),
            "goal": shared.goal.copy(),
            "next_goal": shared.next_goal.copy(),
            "elapsed": shared.elapsed.copy(),
            "horizon": shared.horizon.copy(),
            "episode_actions": [
                actions[:elapsed].copy()
                for actions, elapsed in zip(shared.episode_actions, shared.elapsed, strict=True)
            ],
            "needs_reset": self._needs_reset.copy(),
            "active": self.active.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Float[np.ndarray, "row obs"]:
        """Continues exactly where `state_dict` was taken; returns the current observation [K, 39].

        Raises:
            ValueError: the state of other tasks, goals or rewards, of another version of mujoco, or
                of longer episodes, or none that `state_dict` gives. Nothing was changed.
        """
        self._check_ready("load_state_dict")
        rows = describe_rows(self._task_set, self.reward_version)
        if state["tasks"] != rows:
            raise ValueError(f"the saved state is of {state['tasks']}, this environment of {rows}")
        check_simulator(state, mujoco.__version__)
        saved = check_saved_state(state, self.task_names, self.num_goals, self.max_episode_steps)
        self._needs_reset[:] = True  # until it is done: an interrupt may come in between
        self._next_goals.load_state_dict(state["generators"])
        shared = self._shared
        for row, actions in enumerate(saved.episodes):
            shared.episode_actions[row, : len(actions)] = actions
            shared.elapsed[row] = len(actions)
        self.active[:] = ~saved.needs_reset
        shared.horizon[:] = saved.horizon
        shared.goal[:] = shared.next_goal[:] = saved.goal
        self._workers.command(RESTORE)
        self._workers.wait()
        self.active[:] = saved.active
        shared.next_goal[:] = saved.next_goal
        self._needs_reset[:] = saved.needs_reset
        return shared.observation.copy()

    def render(self) -> NoReturn:
        """Refuses: the workers have no display.

        Raises:
            NotImplementedError: always.
        """
        # A refusal, nothing to come: gymnasium's error for what an environment does not offer.
        raise NotImplementedError(
            "this environment does not render: repeat the actions of an episode in the package's"
            " own environment, env = gymnasium.make('Meta-World/MT1', env_name=...,"
            " render_mode='rgb_array'), after"
            " env.get_wrapper_attr('toggle_sample_tasks_on_reset')(False) and"
            " env.unwrapped.set_task(goal), with the episode's goal: that of row k is"
            " task_set.goals[k][state_dict()['goal'][k]]"
        )

    def call(self, name: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: a worker's environment is not the package's object.

        Raises:
            NotImplementedError: always.
        """
        # A refusal, nothing to come: state is shared memory here, no object answers by name.
        raise NotImplementedError(
            f"{name!r} cannot be called on the workers' environments: use the attributes and"
            " methods of this one, and make_vec(..., all_infos=True) for what the package reports"
        )

    def get_attr(self, name: str) -> NoReturn:
        """Refuses, as `call` does."""
        self.call(name)

    def set_attr(self, name: str, values: Any) -> NoReturn:
        """Refuses, as `call` does."""
        self.call(name)

    def close_extras(self, **kwargs: Any) -> None:
        self._workers.close()

    def _draw_next_goals(self, mask: Bool[np.ndarray, " row"]) -> None:
        """Chooses the next goals of rows that were just reset."""
        for row in np.flatnonzero(mask).tolist():
            self._shared.next_goal[row] = self._next_goals.after(row, int(self._shared.goal[row]))

    def _check_ready(self, name: str) -> None:
        """Raises unless `name` may be called now; takes answers that an interrupt left behind."""
        self._check_open()
        if self._workers.command_sent == STEP:
            raise AlreadyPendingCallError(
                f"a step is under way (an interrupted one, too): call step_wait() before {name}()",
                "step",
            )
        self._workers.wait()

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("this environment is closed: make a new one")
        self._workers.check()


def _check_options(
    reward_version: str, num_workers: int | None, max_episode_steps: int, timeout: float
) -> None:
    """Raises ValueError where a value is not among those that `make_vec` lists."""
    if reward_version not in get_args(RewardVersion):
        raise ValueError(f"reward_version is {reward_version!r}, expected 'v1' or 'v2'")
    if not 1 <= operator.index(max_episode_steps) <= MAX_EPISODE_STEPS:
        raise ValueError(
            f"max_episode_steps is {max_episode_steps}, expected 1 to {MAX_EPISODE_STEPS}"
        )
    if num_workers is not None and operator.index(num_workers) < 1:
        raise ValueError(f"num_workers is {num_workers}, expected at least 1")
    if not 1e-3 <= timeout <= 1e9:
        raise ValueError(f"timeout is {timeout}, expected 0.001 to 1e9 seconds")
