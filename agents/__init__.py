"""Multi-task soft actor-critic in the [task, batch, …] layout. Knows no environment."""

from agents.config import ARCHITECTURES, PRECISIONS, NetworkConfig, SACConfig
from agents.cuda_graph import make_updater
from agents.replay import Batch, ReplayBuffer, Transition
from agents.sac import MultiTaskSAC

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
