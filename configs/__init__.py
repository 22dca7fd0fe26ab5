"""Configurations of training runs: frozen dataclasses, and presets for published experiments."""

from configs.config import CombinerConfig, EnvironmentConfig, TrainConfig, from_dict, to_dict
from configs.presets import PRESETS

__all__ = [
    "PRESETS",
    "CombinerConfig",
    "EnvironmentConfig",
    "TrainConfig",
    "from_dict",
    "to_dict",
]
