"""A process that steps some rows of the vector environment and sleeps in between.

Actions and results travel in shared memory, commands and replies through a pipe. When the parent
ends, however it ends, the pipe closes and so does the worker.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from envs.memory import SharedArrays

if TYPE_CHECKING:
    import metaworld

RESET, STEP, RESTORE, CLOSE = b"r", b"s", b"o", b"c"
DONE, FAILED = b"d", b"f"


class RowSpec(NamedTuple):
    """What a worker needs to know to step one row."""

    row: int
    name: str
    goals: Sequence[metaworld.Task]
    reward_version: str
    max_episode_steps: int
    terminate_on_success: bool


class Row:
    """One task's environment: the package's own, with a goal set at every reset."""

    def __init__(self, spec: RowSpec, shared: SharedArrays):
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self.spec = spec
        self.shared = shared
        self.env = ALL_V3_ENVIRONMENTS[spec.name](reward_function_version=spec.reward_version)
        self.env.set_task(spec.goals[0])
        space = self.env.sawyer_observation_space
        shared.low[spec.row], shared.high[spec.row] = space.low, space.high

    def reset(self) -> None:
        row = self.spec.row
        self.env.set_task(self.spec.goals[self.shared.next_goal[row]])
        self.shared.observation[row], _ = self.env.reset()
        self.shared.elapsed[row] = 0

    def step(self) -> None:
        """Advances by one action; an episode that ends leaves its last observation in
        `final_observation` and starts the next one (SAME_STEP)."""
        row, shared = self.spec.row, self.shared
        observation, reward, _, _, info = self.env.step(shared.action[row].copy())
        shared.elapsed[row] += 1
        shared.reward[row] = reward
        shared.success[row] = bool(info["success"])
        shared.terminated[row] = self.spec.terminate_on_success and shared.success[row]
        shared.truncated[row] = shared.elapsed[row] >= self.spec.max_episode_steps
        if shared.terminated[row] or shared.truncated[row]:
            shared.final_observation[row] = observation
            self.reset()
        else:
            shared.observation[row] = observation

    def restore(self, actions: np.ndarray) -> None:
        """Brings back the middle of an episode by repeating it: a reset and its actions so far.

        The state after a reset depends only on task and goal, so this is exact.
        """
        self.reset()
        for action in actions:
            self.shared.observation[self.spec.row] = self.env.step(action.copy())[0]
        self.shared.elapsed[self.spec.row] = len(actions)


def run(pipe: Any, memory_fd: int) -> None:
    """Serves commands until the pipe closes."""
    try:
        num_rows, specs = pipe.recv()
        shared = SharedArrays(num_rows, memory_fd)
        rows = [Row(spec, shared) for spec in specs]
        pipe.send_bytes(DONE)
        while (command := pipe.recv_bytes()) != CLOSE:
            if command == RESTORE:
                episodes = pipe.recv()
                for row in rows:
                    if shared.active[row.spec.row]:
                        row.restore(episodes[row.spec.row])
            else:
                for row in rows:
                    if shared.active[row.spec.row]:
                        row.reset() if command == RESET else row.step()
            pipe.send_bytes(DONE)
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
    except Exception:
        pipe.send_bytes(FAILED)
        pipe.send(traceback.format_exc())


def main() -> None:
    """The process's entry point: descriptors of the pipe and of the shared memory as arguments."""
    # Ctrl-C, and a cluster's SIGTERM, reach every process; only the parent decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run(Connection(int(sys.argv[1])), int(sys.argv[2]))
