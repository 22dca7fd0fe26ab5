"""Two tasks, and actions for a vector environment of few rows."""

import numpy as np

PAIR = ("drawer-close-v3", "reach-v3")
ZERO = np.zeros((2, 4), np.float32)


def random_actions(steps: int, rows: int = 2, seed: int = 0) -> np.ndarray:
    # A little beyond [-1, 1]: the package clips for the motion, but rewards see the raw action.
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.2, 1.2, (steps, rows, 4)).astype(np.float32)
