"""Two tasks, and actions for a vector environment of few rows."""

from collections.abc import Callable
from functools import partial

import numpy as np

from envs import MetaWorldVectorEnv, make_vec

PAIR = ("drawer-close-v3", "reach-v3")
ZERO = np.zeros((2, 4), np.float32)

make_here = partial(make_vec, num_workers=1, caller_steps=True)
"""Without any other process."""


def random_actions(steps: int, rows: int = 2, seed: int = 0) -> np.ndarray:
    # A little beyond [-1, 1]: the package clips for the motion, but rewards see the raw action.
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.2, 1.2, (steps, rows, 4)).astype(np.float32)


def calls_of_workers(venv: MetaWorldVectorEnv, state: dict) -> tuple[Callable[[], object], ...]:
    """Each way to ask something of the workers; `state` is what one of them loads."""
    return (
        venv.reset,
        venv.state_dict,
        venv.step_wait,
        lambda: venv.step(ZERO),
        lambda: venv.step_async(ZERO),
        lambda: venv.load_state_dict(state),
    )
