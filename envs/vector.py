"""Meta-World tasks as one vector environment, stepped by worker processes."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, get_args

import gymnasium
import metaworld
import numpy as np
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float

from envs.constants import ACTION_SIZE, INFO_KEYS, MAX_EPISODE_STEPS, OBSERVATION_SIZE
from envs.saved_state import check_saved_state
from envs.tasks import TaskSet
from envs.workers import worker
from envs.workers.costs import assign_rows
from envs.workers.memory import SharedArrays, open_memory
from envs.workers.pool import WorkerPool

GoalOrder = Literal["random", "sequential"]
RewardVersion = Literal["v1", "v2"]

Step = tuple[
    Float[np.ndarray, "row obs"],
    Float[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    dict[str, Any],
]


class MetaWorldVectorEnv(VectorEnv):
    """See `make_vec`. Every number is the package's own, bit for bit.

    Observations are the package's, cast to float32, and so are their bounds. Rewards are float64.
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
        if reward_version not in get_args(RewardVersion):
            raise ValueError(f"reward_version is {reward_version!r}, expected 'v1' or 'v2'")
        if goal_order not in get_args(GoalOrder):
            raise ValueError(f"goal_order is {goal_order!r}, expected 'random' or 'sequential'")
        if not 1 <= operator.index(max_episode_steps) <= MAX_EPISODE_STEPS:
            raise ValueError(
                f"max_episode_steps is {max_episode_steps}, expected 1 to {MAX_EPISODE_STEPS}"
            )
        if num_workers is not None and operator.index(num_workers) < 1:
            raise ValueError(f"num_workers is {num_workers}, expected at least 1")
        if not 1e-3 <= timeout <= 1e9:
            raise ValueError(f"timeout is {timeout}, expected 0.001 to 1e9 seconds")

        self._task_set = task_set
        self.task_names = task_set.names
        self.num_envs = num_rows = len(task_set.names)
        self.num_goals = np.array([len(goals) for goals in task_set.goals])
        self.reward_version = reward_version
        self.goal_order = goal_order
        self.terminate_on_success = terminate_on_success
        self.max_episode_steps = max_episode_steps
        self.stagger = stagger
        self.all_infos = all_infos
        self._needs_reset = np.ones(num_rows, bool)

        specs = [
            worker.RowSpec(
                row,
                name,
                goals,
                reward_version,
                max_episode_steps,
                terminate_on_success,
                all_infos,
            )
            for row, (name, goals) in enumerate(zip(*task_set, strict=True))
        ]
        from mtrl_fair.machine import usable_cores

        workers = min(num_workers or usable_cores(), num_rows)
        assigned = [
            [specs[row] for row in rows]
            for rows in assign_rows(self.task_names, workers, caller_steps=caller_steps)
        ]
        own = assigned.pop() if caller_steps else []
        memory = open_memory()
        try:
            self._shared = SharedArrays(num_rows, memory)
            self._workers = WorkerPool(assigned, own, self._shared, memory, timeout)
        finally:
            os.close(memory)
        self.closed = False
        self.active[:] = True
        self._shared.horizon[:] = max_episode_steps
        self._seed_goals(seed)
        low, high = self._shared.low.astype(np.float32), self._shared.high.astype(np.float32)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = gymnasium.spaces.Box(
            low.min(0), high.max(0), dtype=np.float32
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (num_rows, ACTION_SIZE), np.float32)

    @property
    def active(self) -> Bool[np.ndarray, " row"]:
        """The rows that `step` advances, to be changed in place or assigned. The others stay as
        they are, with reward 0 and all flags false; `reset` makes all active again."""
        return self._shared.active

    @active.setter
    def active(self, rows: Bool[np.ndarray, " row"]) -> None:
        self._shared.active[:] = rows

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
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
            self._seed_goals(seed)
        self._needs_reset[mask] = True  # until it is done, or an interrupted one might go unseen
        shared = self._shared
        if mask.all() and self.goal_order == "sequential":
            shared.next_goal[:] = 0
        shared.horizon[mask] = self.max_episode_steps
        if mask.all() and self.stagger:
            steps = np.arange(1, self.num_envs + 1) * self.max_episode_steps
            shared.horizon[:] = -(-steps // self.num_envs)
        self.active[:] = mask
        self._workers.command(worker.RESET)
        self._workers.wait()
        self.active[:] = True
        with self._workers.whole():
            self._draw_next_goals(mask)
            self._needs_reset[mask] = False
        return shared.observation.copy(), {}

    def step(self, actions: Float[np.ndarray, "row act"]) -> Step:
        """One step of every active row: `step_async` and `step_wait`."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Float[np.ndarray, "row act"]) -> None:
        """Starts a step of every active row, which `step_wait` finishes; in between, the caller may
        compute. Actions outside [-1, 1] are passed on as they are: the package clips them for the
        motion, rewards see the raw values.

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
        self._workers.command(worker.STEP)

    def step_wait(self) -> Step:
        """Finishes the step that `step_async` started; returns what `step` does.

        Raises:
            NoAsyncCallError: there is none.
            WorkerError: a worker failed or did not answer; the environment must be closed then.
        """
        self._check_open()
        if self._workers.command_sent != worker.STEP:
            raise NoAsyncCallError("call step_async() before step_wait()", "step")
        shared = self._shared
        if not self.active.all():
            flags = (shared.terminated, shared.truncated, shared.success)
            for array in (shared.reward, shared.info, *flags):
                array[~self.active] = 0
        # What can be made before the workers are finished costs no time.
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
            with self._workers.whole():  # or an interrupt could have goals drawn twice
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
            "tasks": self._identity(),
            "generators": [generator.bit_generator.state for generator in self._generators],
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
            ValueError: the state of other tasks, goals or rewards, or of longer episodes, or none
                that `state_dict` gives. Nothing was changed.
        """
        self._check_ready("load_state_dict")
        if state["tasks"] != self._identity():
            raise ValueError(
                f"the saved state is of {state['tasks']}, this environment of {self._identity()}"
            )
        saved = check_saved_state(state, self.task_names, self.num_goals, self.max_episode_steps)
        self._needs_reset[:] = True  # until it is done, or an interrupted one might go unseen
        for generator, its_state in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = its_state
        shared = self._shared
        for row, actions in enumerate(saved.episodes):
            shared.episode_actions[row, : len(actions)] = actions
            shared.elapsed[row] = len(actions)
        self.active[:] = ~saved.needs_reset
        shared.horizon[:] = saved.horizon
        shared.goal[:] = shared.next_goal[:] = saved.goal
        self._workers.command(worker.RESTORE)
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
            "this environment does not render: repeat the actions in the package's own environment,"
            " gymnasium.make('Meta-World/MT1', env_name=..., render_mode='rgb_array'), which"
            " computes the same"
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

    def _identity(self) -> list[str]:
        """What a state must have in common with the environment that loads it."""
        return [
            f"{name} ({self.reward_version}, {len(goals)} goals, {_checksum(goals)})"
            for name, goals in zip(*self._task_set, strict=True)
        ]

    def _draw_next_goals(self, mask: Bool[np.ndarray, " row"]) -> None:
        """Of rows that were just reset."""
        for row in np.flatnonzero(mask):
            self._shared.next_goal[row] = self._draw_goal(int(row))

    def _draw_goal(self, row: int) -> int:
        if self.goal_order == "sequential":
            return (self._shared.goal[row] + 1) % self.num_goals[row]
        return int(self._generators[row].integers(self.num_goals[row]))

    def _seed_goals(self, seed: int | Sequence[int]) -> None:
        seeds = [seed] * self.num_envs if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds were given, expected one or {self.num_envs}")
        self._generators = [
            np.random.default_rng([row_seed, row]) for row, row_seed in enumerate(seeds)
        ]
        for row in range(self.num_envs):
            self._shared.next_goal[row] = (
                0 if self.goal_order == "sequential" else self._draw_goal(row)
            )

    def _check_ready(self, name: str) -> None:
        self._check_open()
        if self._workers.command_sent == worker.STEP:
            raise AlreadyPendingCallError(
                f"a step is under way (an interrupted one, too): call step_wait() before {name}()",
                "step",
            )
        self._workers.wait()  # for answers that an interrupt left behind

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("this environment is closed: make a new one")
        self._workers.check()


def _checksum(goals: Sequence[metaworld.Task]) -> str:
    """Of a row's goals, so that a state is not continued with others."""
    return hashlib.sha256(b"".join(goal.data for goal in goals)).hexdigest()[:8]
