"""What chooses the actions of an episode."""

import numpy as np
from metaworld.policies import ENV_POLICY_MAP


class Random:
    """A little beyond [-1, 1]: the package clips for the motion, but rewards see the raw action."""

    def __init__(self, name: str, seed: int):
        self.generator = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return self.generator.uniform(-1.2, 1.2, 4)


class Constant:
    """Presses on in one direction, so that the hand comes to rest against something."""

    def __init__(self, name: str, seed: int):
        self.action = np.random.default_rng(seed).choice([-1.0, -0.3, 0.3, 1.0], 4)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return self.action


class Expert:
    """The package's scripted policy, which grasps, moves and succeeds."""

    def __init__(self, name: str, seed: int):
        self.policy = ENV_POLICY_MAP[name]()

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.clip(self.policy.get_action(observation), -1, 1)
