"""Meta-World tasks as one vector environment, one row per task, stepped by worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float

from envs import worker
from envs.memory import ACTION_SIZE, SharedArrays
from envs.tasks import TaskSet

MAX_EPISODE_STEPS = 500
"""Meta-World's horizon; the package refuses to step further."""

SINGLE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""What a worker's environment adds: its numpy must not compete with the learner's threads."""

GoalOrder = Literal["random", "sequential"]
RewardVersion = Literal["v1", "v2"]


class WorkerError(RuntimeError):
    """A worker process failed or ended."""


def make_vec(
    tasks: str | Sequence[str] | TaskSet,
    seed: int = 0,
    reward_version: RewardVersion = "v2",
    num_workers: int | None = None,
    *,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    goal_order: GoalOrder = "random",
    terminate_on_success: bool = False,
) -> MetaWorldVectorEnv:
    """A vector environment with one row per task.

    Args:
        tasks: "mt10", "mt25", "mt50", a task name, a list of task names, or a `TaskSet`, so that
            several environments share goals that were drawn once (drawing takes seconds).
        seed: of the goals, unless `tasks` is a `TaskSet`, and of their random order.
        reward_version: the package's `reward_function_version`; "v2" ranges from 0 to 10.
        num_workers: worker processes; by default as many as usable cores, at most one per task.
        max_episode_steps: steps until truncation, at most 500.
        goal_order: at each reset, a random goal (training) or the next one (evaluation).
        terminate_on_success: end an episode at its first success (evaluation).

    Raises:
        ValueError: a value that is not among these.
    """
    task_set = tasks if isinstance(tasks, TaskSet) else TaskSet.make(tasks, seed)
    return MetaWorldVectorEnv(
        task_set,
        seed,
        reward_version,
        num_workers,
        max_episode_steps=max_episode_steps,
        goal_order=goal_order,
        terminate_on_success=terminate_on_success,
    )


class MetaWorldVectorEnv(VectorEnv):
    """See `make_vec`. The environments are the package's own, unchanged.

    Observations are the package's, cast to float32, and so are their bounds. Rewards are float64.
    Autoreset is SAME_STEP: where an episode ends, the observation is the next episode's first one,
    and `infos["final_obs"]` [K, 39] holds the true last one in the rows that the mask
    `infos["_final_obs"]` [K] marks. `infos["success"]` [K] is the step's own flag.

    Attributes:
        task_names: one per row.
        active: [K] bool, the rows that `step` advances. The others stay as they are, with reward 0
            and all flags false; `reset` makes all active again.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        task_set: TaskSet,
        seed: int = 0,
        reward_version: RewardVersion = "v2",
        num_workers: int | None = None,
        *,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        goal_order: GoalOrder = "random",
        terminate_on_success: bool = False,
    ):
        self.closed = True  # until there is something to close
        if reward_version not in get_args(RewardVersion):
            raise ValueError(f"reward_version is {reward_version!r}, expected 'v1' or 'v2'")
        if goal_order not in get_args(GoalOrder):
            raise ValueError(f"goal_order is {goal_order!r}, expected 'random' or 'sequential'")
        if not 1 <= max_episode_steps <= MAX_EPISODE_STEPS:
            raise ValueError(
                f"max_episode_steps is {max_episode_steps}, expected 1 to {MAX_EPISODE_STEPS}"
            )
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}, expected at least 1")

        self.task_names = task_set.names
        self.num_envs = num_rows = len(task_set.names)
        self.num_goals = np.array([len(goals) for goals in task_set.goals])
        self.goal_order = goal_order
        self.terminate_on_success = terminate_on_success
        self.max_episode_steps = max_episode_steps
        self._goal = np.zeros(num_rows, np.int64)
        self._episode_actions = np.zeros((num_rows, max_episode_steps, ACTION_SIZE), np.float32)
        self._needs_reset = np.ones(num_rows, bool)

        specs = [
            worker.RowSpec(
                row, name, goals, reward_version, max_episode_steps, terminate_on_success
            )
            for row, (name, goals) in enumerate(zip(*task_set, strict=True))
        ]
        self._start_workers(specs, min(num_workers or _usable_cores(), num_rows))
        self.active = self._shared.active
        self.active[:] = True
        self._seed_goals(seed)
        low, high = self._shared.low.astype(np.float32), self._shared.high.astype(np.float32)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = gymnasium.spaces.Box(
            low.min(0), high.max(0), dtype=np.float32
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (num_rows, ACTION_SIZE), np.float32)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "task obs"], dict[str, Any]]:
        """Starts an episode in every row.

        Args:
            seed: restarts the random order of goals. Without one, the order goes on. A sequential
                order restarts at goal 0 in either case.
            options: {"reset_mask": [K] bool} resets those rows only.
        """
        self._check_open()
        if seed is not None:
            self._seed_goals(seed)
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"reset_mask must be {self.num_envs} booleans, got {mask!r}")
        if mask.all() and self.goal_order == "sequential":
            self._shared.next_goal[:] = 0
        self.active[:] = mask
        self._command(worker.RESET)
        self._begin_episodes(mask)
        self.active[:] = True
        return self._shared.observation.copy(), {}

    def step(
        self, actions: Float[np.ndarray, "task act"]
    ) -> tuple[
        Float[np.ndarray, "task obs"],
        Float[np.ndarray, " task"],
        Bool[np.ndarray, " task"],
        Bool[np.ndarray, " task"],
        dict[str, Any],
    ]:
        """One step of every active row. Actions outside [-1, 1] are passed on as they are: the
        package clips them for the motion, rewards see the raw values.

        Raises:
            ValueError: actions of another shape, or not finite.
            RuntimeError: before the first reset.
            WorkerError: a worker failed; the environment must be closed then.
        """
        self._check_open()
        if self._needs_reset.any():
            raise RuntimeError("call reset() before the first step()")
        actions = np.asarray(actions, dtype=np.float32)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions have shape {actions.shape}, expected {self.action_space.shape}"
            )
        if not np.isfinite(actions).all():
            bad = [self.task_names[row] for row in np.flatnonzero(~np.isfinite(actions).all(1))]
            raise ValueError(f"the actions of {', '.join(bad)} are not finite")
        shared, idle = self._shared, ~self.active
        rows = np.flatnonzero(self.active)
        shared.action[:] = actions
        self._episode_actions[rows, shared.elapsed[rows]] = actions[rows]
        self._command(worker.STEP)
        if idle.any():
            for array in (shared.reward, shared.success, shared.terminated, shared.truncated):
                array[idle] = 0
        ended = shared.terminated | shared.truncated
        self._begin_episodes(ended)
        infos = {
            "success": shared.success.copy(),
            "final_obs": np.where(ended[:, None], shared.final_observation, np.float32(0)),
            "_final_obs": ended,
        }
        return (
            shared.observation.copy(),
            shared.reward.copy(),
            shared.terminated.copy(),
            shared.truncated.copy(),
            infos,
        )

    def state_dict(self) -> dict[str, Any]:
        """The complete state, in mid-episode too: goal orders, goals, and the episodes' actions.

        An episode is saved as its actions since the reset and restored by repeating them, which is
        exact, because the state after a reset depends only on the task and its goal.
        """
        return {
            "generators": [generator.bit_generator.state for generator in self._generators],
            "goal": self._goal.copy(),
            "next_goal": self._shared.next_goal.copy(),
            "elapsed": self._shared.elapsed.copy(),
            "episode_actions": [
                actions[:elapsed].copy()
                for actions, elapsed in zip(
                    self._episode_actions, self._shared.elapsed, strict=True
                )
            ],
            "needs_reset": self._needs_reset.copy(),
            "active": self.active.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Float[np.ndarray, "task obs"]:
        """Continues exactly where `state_dict` was taken; returns the current observation [K, 39].

        Raises:
            ValueError: the state of another number of tasks.
        """
        self._check_open()
        if len(state["generators"]) != self.num_envs:
            raise ValueError(
                f"the saved state has {len(state['generators'])} tasks, this environment"
                f" {self.num_envs}"
            )
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self._goal[:] = np.asarray(state["goal"])
        self._needs_reset[:] = np.asarray(state["needs_reset"])
        episodes = [np.asarray(actions) for actions in state["episode_actions"]]
        for row, actions in enumerate(episodes):
            self._episode_actions[row, : len(actions)] = actions
        self.active[:] = ~self._needs_reset
        self._shared.next_goal[:] = self._goal
        self._command(worker.RESTORE, episodes)
        self.active[:] = np.asarray(state["active"])
        self._shared.next_goal[:] = np.asarray(state["next_goal"])
        return self._shared.observation.copy()

    def close_extras(self, **kwargs: Any) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # that worker has ended already
                pipe.send_bytes(worker.CLOSE)
            pipe.close()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start_workers(self, specs: list[worker.RowSpec], num_workers: int) -> None:
        # The root comes first, or a folder named envs where the user works would be imported.
        root = str(Path(__file__).parents[1])
        code = f"import sys; sys.path.insert(0, {root!r}); from envs.worker import main; main()"
        self._pipes: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        with tempfile.TemporaryFile() as file:
            self._shared = SharedArrays(len(specs), file.fileno())
            self.closed = False
            for _ in range(num_workers):
                ours, theirs = multiprocessing.Pipe()
                descriptors = (theirs.fileno(), file.fileno())
                process = subprocess.Popen(
                    [sys.executable, "-c", code, *map(str, descriptors)],
                    pass_fds=descriptors,
                    env=os.environ | SINGLE_THREAD,
                )
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
        self._rows_of = [
            list(range(first, len(specs), num_workers)) for first in range(num_workers)
        ]
        for index, rows in enumerate(self._rows_of):
            self._send(index, (len(specs), [specs[row] for row in rows]))
        self._await_replies()

    def _command(self, command: bytes, payload: Any = None) -> None:
        for index in range(len(self._pipes)):
            self._send(index, command)
            if payload is not None:
                self._send(index, payload)
        self._await_replies()

    def _send(self, index: int, message: Any) -> None:
        try:
            if isinstance(message, bytes):
                self._pipes[index].send_bytes(message)
            else:
                self._pipes[index].send(message)
        except OSError:
            self._raise_ended(index)

    def _await_replies(self) -> None:
        for index, pipe in enumerate(self._pipes):
            try:
                reply = pipe.recv_bytes()
                report = pipe.recv() if reply == worker.FAILED else None
            except (EOFError, OSError):
                self._raise_ended(index)
            if report is not None:
                raise WorkerError(f"a worker stepping {self._names_of(index)} failed:\n{report}")

    def _raise_ended(self, index: int) -> None:
        code = self._processes[index].wait()
        raise WorkerError(
            f"the worker stepping {self._names_of(index)} ended with exit code {code} (killed, or"
            " out of memory?): close this environment and make a new one"
        )

    def _names_of(self, index: int) -> str:
        return ", ".join(self.task_names[row] for row in self._rows_of[index])

    def _begin_episodes(self, mask: Bool[np.ndarray, " task"]) -> None:
        """Notes the goals that rows were just reset to, and draws those of their next reset."""
        for row in np.flatnonzero(mask):
            self._goal[row] = self._shared.next_goal[row]
            self._shared.next_goal[row] = self._draw_goal(int(row))
            self._needs_reset[row] = False

    def _draw_goal(self, row: int) -> int:
        if self.goal_order == "sequential":
            return (self._goal[row] + 1) % self.num_goals[row]
        return int(self._generators[row].integers(self.num_goals[row]))

    def _seed_goals(self, seed: int) -> None:
        self._generators = [np.random.default_rng([seed, row]) for row in range(self.num_envs)]
        for row in range(self.num_envs):
            self._shared.next_goal[row] = (
                0 if self.goal_order == "sequential" else self._draw_goal(row)
            )

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("this environment is closed: make a new one")


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
