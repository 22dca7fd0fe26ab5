"""Multi-task soft actor-critic in the [task, batch, …] layout. Knows no environment."""

from agents.config import ARCHITECTURES, PRECISIONS, NetworkConfig, SACConfig
from agents.replay import ReplayBuffer
from agents.sac import MultiTaskSAC
from agents.transitions import Batch, Transition
from agents.updates import make_updater

__all__ = [
    "ARCHITECTURES",
    "PRECISIONS",
    "Batch",
    "MultiTaskSAC",
    "NetworkConfig",
    "ReplayBuffer",
    "SACConfig",
    "Transition",
    "make_updater",
]
