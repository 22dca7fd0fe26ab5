"""A process that steps some rows of the vector environment and sleeps in between.

Actions and results travel in shared memory, commands and replies through a pipe. When the parent
ends, however it ends, the pipe closes and the worker ends, too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NamedTuple

from envs.constants import INFO_KEYS
from envs.workers.memory import SharedArrays

if TYPE_CHECKING:
    import metaworld

RESET, STEP, RESTORE = b"r", b"s", b"o"
DONE, FAILED = b"d", b"f"

AWAKE = 1e-3
"""Seconds for which a process that waits for another one keeps its core awake: more than a caller
with random actions or a small policy needs between two steps, far less than an update."""


class RowSpec(NamedTuple):
    """What a worker needs to know to step one row."""

    row: int
    name: str
    goals: Sequence[metaworld.Task]
    reward_version: str
    max_episode_steps: int
    terminate_on_success: bool
    all_infos: bool


class Row:
    """One environment, with a goal set at every reset."""

    def __init__(self, spec: RowSpec, shared: SharedArrays):
        from envs.engine.environment import fast_class
        from envs.engine.snapshots import SnapshotResets

        self.spec = spec
        self.shared = shared
        self.env = fast_class(spec.name)(reward_function_version=spec.reward_version)
        self.env.set_task(spec.goals[0])
        self.resets = SnapshotResets(self.env)
        space = self.env.sawyer_observation_space
        shared.low[spec.row], shared.high[spec.row] = space.low, space.high
        self._observation, self._action = shared.observation[spec.row], shared.action[spec.row]
        self._episode_actions = shared.episode_actions[spec.row]

    def reset(self) -> None:
        row, shared = self.spec.row, self.shared
        goal = int(shared.next_goal[row])
        shared.observation[row] = self.resets.reset(goal, self.spec.goals[goal])
        shared.goal[row] = goal
        shared.elapsed[row] = 0

    def advance(self) -> None:
        """The first half of a step: its simulation."""
        self.env.advance(self._action)

    def observe(self) -> None:
        """The second half of a step: its results; an episode that ends leaves its last observation
        in `final_observation` and starts the next one (SAME_STEP)."""
        row, shared = self.spec.row, self.shared
        elapsed = shared.elapsed[row] + 1
        self._episode_actions[elapsed - 1] = self._action
        observation, reward, info = self.env.observe(self._action)
        success = bool(info["success"])
        terminated = self.spec.terminate_on_success and success
        truncated = elapsed >= shared.horizon[row]
        shared.elapsed[row] = elapsed
        shared.reward[row] = reward
        shared.success[row] = success
        shared.terminated[row] = terminated
        shared.truncated[row] = truncated
        if self.spec.all_infos:
            shared.info[row] = [info[key] for key in INFO_KEYS]
        if terminated or truncated:
            shared.final_observation[row] = observation
            shared.horizon[row] = self.spec.max_episode_steps
            self.reset()
        else:
            self._observation[:] = observation

    def restore(self) -> None:
        """Brings back the middle of an episode by repeating it: a reset and its actions so far.

        The state after a reset depends only on task and goal, so this is exact.
        """
        elapsed = int(self.shared.elapsed[self.spec.row])
        self.reset()
        for action in self._episode_actions[:elapsed].copy():
            self._observation[:] = self.env.step(action)[0]
        self.shared.elapsed[self.spec.row] = elapsed


PHASES: dict[bytes, list[tuple[str, Callable[[Row], None]]]] = {
    # Code and data of the simulation, and those of rewards, each stay in the core's caches.
    STEP: [("stepping", Row.advance), ("stepping", Row.observe)],
    RESET: [("resetting", Row.reset)],
    RESTORE: [("restoring", Row.restore)],
}


class Rows:
    """The rows that one process steps."""

    def __init__(self) -> None:
        self._doing = "starting", "up"
        self._rows: list[Row] = []

    @property
    def doing(self) -> str:
        """What is, or was last, under way, for reports of errors."""
        return " ".join(self._doing)

    def make(self, specs: Sequence[RowSpec], shared: SharedArrays) -> None:
        """Makes the environments."""
        self._shared = shared
        for spec in specs:
            self._doing = "making", spec.name
            self._rows.append(Row(spec, shared))

    def obey(self, command: bytes) -> None:
        """Carries a command out in the active rows."""
        active = self._shared.active
        rows = [row for row in self._rows if active[row.spec.row]]
        for name, work in PHASES[command]:
            for row in rows:
                self._doing = name, row.spec.name
                work(row)


def receive(connection: socket.socket, awake: float, flags: int = 0) -> bytes:
    """Waits for a byte; empty when there will be none.

    A core that fell asleep takes a while to come back. So this keeps it awake for `awake` seconds,
    but lets whoever else wants it run.
    """
    until = time.perf_counter() + awake
    while time.perf_counter() < until:
        try:
            return connection.recv(1, socket.MSG_DONTWAIT | flags)
        except BlockingIOError:
            os.sched_yield()
    return connection.recv(1, flags)


class Commands:
    """The commands, in turn: a byte each, and so are the answers.

    Where they follow each other closely, the worker stays awake for the next one; where the learner
    computes in between, it sleeps at once.
    """

    def __init__(self, pipe: Connection):
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
        self._awake = 0.0

    def next(self) -> bytes:
        """Waits for the next command; empty when there will be none."""
        began = time.perf_counter()
        command = receive(self._socket, self._awake)
        self._awake = AWAKE if time.perf_counter() - began < AWAKE else 0.0
        return command

    def answer(self, reply: bytes) -> None:
        self._socket.send(reply)


def run(pipe: Connection, memory_fd: int, parent: int) -> None:
    """Serves commands until the pipe closes or the parent, a process id, has ended."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    rows, commands = Rows(), Commands(pipe)
    try:
        num_rows, specs = pipe.recv()
        rows.make(specs, SharedArrays(num_rows, memory_fd))
        commands.answer(DONE)
        while command := commands.next():
            rows.obey(command)
            commands.answer(DONE)
    except Exception:
        with contextlib.suppress(OSError):  # mostly the pipe's end: the parent is gone
            commands.answer(FAILED)
            pipe.send((rows.doing, traceback.format_exc()))


def _end_with(parent: int) -> None:
    """For the case that a fork of the parent lives on and keeps the pipe open."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
