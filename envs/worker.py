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

from envs.memory import INFO_KEYS, SharedArrays

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
    all_infos: bool


class Row:
    """One environment, with a goal set at every reset."""

    def __init__(self, spec: RowSpec, shared: SharedArrays):
        from envs.fast import fast_class
        from envs.snapshots import SnapshotResets

        self.spec = spec
        self.shared = shared
        self.env = fast_class(spec.name)(reward_function_version=spec.reward_version)
        self.env.set_task(spec.goals[0])
        self.resets = SnapshotResets(self.env)
        space = self.env.sawyer_observation_space
        shared.low[spec.row], shared.high[spec.row] = space.low, space.high

    def reset(self) -> None:
        row, shared = self.spec.row, self.shared
        goal = int(shared.next_goal[row])
        shared.observation[row] = self.resets.reset(goal, self.spec.goals[goal])
        shared.elapsed[row] = 0

    def step(self) -> None:
        """Advances by one action; an episode that ends leaves its last observation in
        `final_observation` and starts the next one (SAME_STEP)."""
        row, shared = self.spec.row, self.shared
        observation, reward, _, _, info = self.env.step(shared.action[row].copy())
        shared.elapsed[row] = elapsed = shared.elapsed[row] + 1
        shared.reward[row] = reward
        shared.success[row] = success = bool(info["success"])
        if self.spec.all_infos:
            shared.info[row] = [info[key] for key in INFO_KEYS]
        shared.terminated[row] = terminated = self.spec.terminate_on_success and success
        shared.truncated[row] = truncated = elapsed >= shared.horizon[row]
        if terminated or truncated:
            shared.final_observation[row] = observation
            shared.horizon[row] = self.spec.max_episode_steps
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
    doing = "starting"
    try:
        num_rows, specs = pipe.recv()
        shared = SharedArrays(num_rows, memory_fd)
        rows = []
        for spec in specs:
            doing = f"making {spec.name}"
            rows.append(Row(spec, shared))
        pipe.send_bytes(DONE)
        while (command := pipe.recv_bytes()) != CLOSE:
            episodes = pipe.recv() if command == RESTORE else None
            for row in rows:
                if not shared.active[row.spec.row]:
                    continue
                if command == STEP:
                    doing = f"stepping {row.spec.name}"
                    row.step()
                elif command == RESET:
                    doing = f"resetting {row.spec.name}"
                    row.reset()
                else:
                    doing = f"restoring {row.spec.name}"
                    row.restore(episodes[row.spec.row])
            pipe.send_bytes(DONE)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception:
        pipe.send_bytes(FAILED)
        pipe.send((doing, traceback.format_exc()))


def main() -> None:
    """The process's entry point: descriptors of the pipe and of the shared memory as arguments."""
    # Ctrl-C, and a cluster's SIGTERM, reach every process; only the parent decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run(Connection(int(sys.argv[1])), int(sys.argv[2]))
