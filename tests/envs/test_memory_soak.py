"""Memory over a million steps."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from envs import make_vec

MEGABYTE = 2**20


def resident(venv) -> np.ndarray:
    """Megabytes of the parent, which steps rows, and of each worker."""
    pids = [os.getpid(), *(process.pid for process in venv._workers.processes)]
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return np.array(pages) * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


@pytest.mark.long
def test_memory_stays_flat_over_a_million_steps(mt10):
    """After 5,000 of the 100,000 vector steps every goal was seen, and its snapshot taken; later
    each is reset to nineteen times more."""
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 10, 4)).astype(np.float32)
    with contextlib.closing(
        make_vec(
            mt10,
            num_workers=2,
            caller_steps=True,
            max_episode_steps=100,
            goal_order="sequential",
            all_infos=True,
        )
    ) as venv:
        venv.reset()
        history = []
        for step in range(100_000):
            venv.step(actions[step % 1000])
            if step % 5_000 == 4_950:
                venv.load_state_dict(venv.state_dict())
                history.append(resident(venv))
    growth = history[-1] - history[1]
    assert growth.max() < 3, f"megabytes of parent and workers: {np.round(history, 1).tolist()}"
