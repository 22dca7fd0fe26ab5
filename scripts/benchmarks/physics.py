"""The physics of a vector environment's steps and nothing else: the bound of every engine."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import metaworld
import mujoco
import numpy as np
from jaxtyping import Float

from envs import TaskSet
from envs.constants import MAX_EPISODE_STEPS
from envs.costs import assign_tasks
from envs.engine.environment import fast_class
from envs.engine.snapshots import STATE
from mtrl_fair.signals import STOP_SIGNALS


class Physics:
    """Processes that compute the physics of a vector environment's steps and nothing else.

    Args:
        task_set: each turn takes the next goal of every task.
        num_workers: processes, which get the rows that a vector environment's workers would.
    """

    def __init__(self, task_set: TaskSet, num_workers: int):
        context = multiprocessing.get_context("spawn")
        self._assigned = assign_tasks(task_set.names, num_workers, caller_steps=True)
        self._pipes: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        self._turns = 0
        try:
            for rows in self._assigned:
                ours, theirs = context.Pipe()
                specs = [(task_set.names[row], task_set.goals[row]) for row in rows]
                process = context.Process(target=serve_physics, args=(theirs, specs), daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
            self._wait()
        except BaseException:
            self.close()
            raise

    def turn(self, actions: Float[np.ndarray, "step row act"]) -> float:
        """The seconds until all processes have stepped their rows with the actions."""
        for rows, pipe in zip(self._assigned, self._pipes, strict=True):
            pipe.send((self._turns, actions[:, rows]))
        self._turns += 1
        self._wait()
        start = time.perf_counter()
        for pipe in self._pipes:
            pipe.send("start")
        self._wait()
        return time.perf_counter() - start

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # that process has ended already
                pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(5)
            process.kill()
            process.join()

    def _wait(self) -> None:
        for pipe in self._pipes:
            pipe.recv()


def serve_physics(pipe: Connection, specs: Sequence[tuple[str, Sequence[metaworld.Task]]]) -> None:
    """The process: prepares a turn when it gets one, and steps at the next message."""
    for number in STOP_SIGNALS:  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    rows = [PhysicsRow(name, goals) for name, goals in specs]
    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        turn, actions = message
        for index, row in enumerate(rows):
            row.prepare(turn, actions[:, index])
        pipe.send("prepared")
        pipe.recv()
        simulate(rows, len(actions))
        pipe.send("done")


class PhysicsRow:
    """One environment's physics, and the controls that a turn's actions mean."""

    def __init__(self, name: str, goals: Sequence[metaworld.Task]):
        self.env = fast_class(name)()
        self.goals = goals
        self.model, self.data = self.env.model, self.env.data
        self.mocap, self.control = self.data.mocap_pos[0], self.data.ctrl
        self.start = np.empty(mujoco.mj_stateSize(self.model, STATE))

    def prepare(self, goal: int, actions: Float[np.ndarray, "step act"]) -> None:
        """Resets to a goal, where each episode of the turn will start."""
        env = self.env
        env.set_task(self.goals[goal % len(self.goals)])
        env.reset()
        mujoco.mj_getState(self.model, self.data, self.start, STATE)
        first = self.mocap.copy()
        self.path: list[np.ndarray] = []
        for step, change in enumerate(np.clip(actions[:, :3], -1, 1) * env.action_scale):
            last = self.path[-1] if step % MAX_EPISODE_STEPS else first
            self.path.append(np.clip(last + change, env.mocap_low, env.mocap_high))
        self.controls = np.stack([actions[:, 3], -actions[:, 3]], axis=1)
        self.frame_skip = env.frame_skip

    def restart(self) -> None:
        mujoco.mj_setState(self.model, self.data, self.start, STATE)


def simulate(rows: Sequence[PhysicsRow], steps: int) -> None:
    """What the package asks of MuJoCo in each step."""
    for step in range(steps):
        for row in rows:
            if step % MAX_EPISODE_STEPS == 0:
                row.restart()
            row.mocap[:] = row.path[step]
            row.control[:] = row.controls[step]
            mujoco.mj_step(row.model, row.data, nstep=row.frame_skip)
            mujoco.mj_forward(row.model, row.data)
