"""Meta-World tasks as one vector environment, stepped by worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import mujoco
import numpy as np
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import ArrayLike

from envs.constants import INFO_KEYS, MAX_EPISODE_STEPS
from envs.costs import assign_tasks
from envs.goal_order import GoalOrder, NextGoals, row_seeds
from envs.infos import Step, check_reset_mask, final_infos, warn_of_simulator, with_masks
from envs.options import RewardVersion, check_options
from envs.row import RESET, RESTORE, STEP, EnvironmentRowSpec
from envs.row_arrays import RowArrays
from envs.saved_state import check_saved_state, check_simulator, describe_rows
from envs.spaces import action_spaces, observation_spaces
from envs.tasks import TaskSet
from envs.workers.memory import open_memory
from envs.workers.pool import WorkerPool
from mtrl_fair.machine import usable_cores


class MetaWorldVectorEnv(VectorEnv):
    """A vector environment of Meta-World's tasks, which `make_vec` makes.

    Every number is the package's own, bit for bit. Observations are the package's, cast to float32,
    and so are their bounds. Rewards are float64.

    Autoreset is SAME_STEP, as gymnasium defines it. Where an episode ends, the observation is the
    next episode's first one. In such a step, `infos["final_obs"]` [K] holds the last observations,
    and None where no episode ended, `infos["final_info"]` holds the last infos and as `episode` the
    return `r`, the length `l` and the seconds `t`, and `_final_obs` and `_final_info` [K] mark the
    rows. `final_observation` is the dense form.

    `infos["success"]` [K] is the step's own flag, on the last step too, and so are all other infos:
    in gymnasium's own vector environments these are then the reset's, and a success on the last
    step is in `final_info` only. `infos["_success"]` marks the rows that were stepped.

    Attributes:
        task_set: the tasks, one per row, and their goals.
        task_names: their names.
    """

    autoreset_mode = AutoresetMode.SAME_STEP
    metadata = {"autoreset_mode": autoreset_mode, "render_modes": []}  # noqa: RUF012

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
        check_options(reward_version, num_workers, max_episode_steps, timeout)
        self.task_set = task_set
        self.task_names = task_set.names
        self.num_envs = len(task_set.names)
        self.num_goals = np.array([len(goals) for goals in task_set.goals])
        self._next_goals = NextGoals(goal_order, self.num_goals, [*zip(*task_set, strict=True)])
        self.reward_version = reward_version
        self.goal_order = goal_order
        self.max_episode_steps = max_episode_steps
        self.stagger = stagger
        self.all_infos = all_infos
        self._needs_reset = np.ones(self.num_envs, bool)
        self._episode_start = np.zeros(self.num_envs)
        self._start(num_workers, caller_steps, timeout)
        self.closed = False
        self.active[:] = True
        self._shared.horizon[:] = max_episode_steps
        self._shared.terminate_on_success[:] = terminate_on_success
        self._seed(seed, self.active)
        self.observation_space, self.single_observation_space = observation_spaces(
            self._shared.low, self._shared.high
        )
        self.action_space, self.single_action_space = action_spaces(self.num_envs)

    def _start(self, num_workers: int | None, caller_steps: bool, timeout: float) -> None:
        """Makes the rows, in worker processes and perhaps in this one."""
        options = (self.reward_version, self.max_episode_steps, self.all_infos)
        specs = [
            EnvironmentRowSpec(row, name, goals, *options)
            for row, (name, goals) in enumerate(zip(*self.task_set, strict=True))
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

    @property
    def active(self) -> Bool[np.ndarray, " row"]:
        """The rows that `step` advances, to be changed in place or assigned. The others stay as
        they are, with reward 0 and all flags false; `reset` makes all active again."""
        return self._shared.active

    @active.setter
    def active(self, rows: Bool[np.ndarray, " row"] | Sequence[bool]) -> None:
        self._shared.active[:] = rows

    @property
    def terminate_on_success(self) -> bool:
        """Whether episodes end at their first success; `call("toggle_terminate_on_success", on)`
        changes it, as in the package."""
        return bool(self._shared.terminate_on_success.all())

    @property
    def goal(self) -> Int[np.ndarray, " row"]:
        """The number of the goal of each row's episode [K], a copy."""
        return self._shared.goal.copy()

    @property
    def final_observation(self) -> Float[np.ndarray, "row obs"]:
        """A copy of the last observation of each row's last finished episode [K, 39], which is
        `infos["final_obs"]` in dense form; 0 before there was one."""
        return self._shared.final_observation.copy()

    def reset(
        self,
        *,
        seed: int | np.integer | Sequence[int | None] | np.ndarray | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Float[np.ndarray, "row obs"], dict[str, Any]]:
        """Starts an episode in every row.

        Args:
            seed: restarts the random order of goals of the rows that are reset, one seed for all or
                one for each. Without one, or where it is None, the order goes on. A sequential
                order restarts at its first goals when all rows are reset.
            options: {"reset_mask": [K] bool} resets those rows only.

        Raises:
            ValueError: a seed or a mask that is not among these. Nothing was changed.
        """
        self._check_ready("reset")
        mask = check_reset_mask((options or {}).get("reset_mask"), self.num_envs)
        self._seed(seed, mask)
        self._needs_reset[mask] = True  # until it is done: an interrupt may come in between
        shared = self._shared
        if mask.all() and self.goal_order == "sequential":
            shared.next_goal[:] = [self._next_goals.after(row, -1) for row in range(self.num_envs)]
        shared.horizon[mask] = self.max_episode_steps
        if mask.all() and self.stagger:
            steps = np.arange(1, self.num_envs + 1) * self.max_episode_steps
            shared.horizon[:] = -(-steps // self.num_envs)
        self.active[:] = mask
        self._workers.command(RESET)
        self._workers.wait()
        self.active[:] = True
        self._episode_start[mask] = time.perf_counter()
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
        self._workers.wait()
        memory[:] = shared.results_bytes
        ended = terminated | truncated
        columns = {"success": results["success"]}
        if self.all_infos:
            columns = dict(zip(INFO_KEYS, shared.info.T.copy(), strict=True)) | columns
        infos = with_masks(columns, self.active)
        if ended.any():
            now = time.perf_counter()
            infos |= final_infos(
                ended,
                shared.final_observation,
                columns,
                shared.final_return,
                shared.final_elapsed,
                (now - self._episode_start).round(6),
            )
            self._episode_start[ended] = now
            # Both or none: an interrupt in between would have the next goals drawn twice.
            with self._workers.uninterrupted():
                self._draw_next_goals(ended)
                self._workers.command_sent = b""
            warn_of_simulator(ended, shared.final_warnings, self.task_names)
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
            "tasks": describe_rows(self.task_set, self.reward_version),
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
        rows = describe_rows(self.task_set, self.reward_version)
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
        self._episode_start[:] = time.perf_counter()
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

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Answers for each row what the package's environments do, where `metaworld.evaluation`
        asks: `task_name`, `terminate_on_success` and `toggle_terminate_on_success(on)`.

        Raises:
            NotImplementedError: another name. A worker's environment is not the package's object.
        """
        self._check_ready("call")
        if name == "toggle_terminate_on_success":
            return self._toggle_terminate_on_success(*args, **kwargs)
        if name == "terminate_on_success":
            return tuple(self._shared.terminate_on_success.tolist())
        if name == "task_name":
            return tuple(ALL_V3_ENVIRONMENTS[task].__name__ for task in self.task_names)
        self._refuse_name(name, "called")

    def _refuse_name(self, name: str, verb: str) -> NoReturn:
        # A refusal, nothing to come: state is shared memory here, no object answers by name.
        raise NotImplementedError(
            f"{name!r} cannot be {verb} on the workers' environments: use the attributes and"
            " methods of this one, and make_vec(..., all_infos=True) for what the package reports"
        )

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Returns what `call` does."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> NoReturn:
        """Refuses, with a NotImplementedError: nothing of the workers is set by its name."""
        self._refuse_name(name, "set")

    def _toggle_terminate_on_success(self, on: bool) -> tuple[None, ...]:
        self._shared.terminate_on_success[:] = on
        return (None,) * self.num_envs

    def _seed(
        self,
        seed: int | np.integer | Sequence[int | None] | np.ndarray | None,
        mask: Bool[np.ndarray, " row"],
    ) -> None:
        """Starts the order of goals anew, in the rows of the mask that have a seed."""
        for row, goal in self._next_goals.seed(row_seeds(seed, mask)).items():
            self._shared.next_goal[row] = goal

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
