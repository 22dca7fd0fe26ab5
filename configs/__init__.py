"""Configurations of training runs: frozen dataclasses, and presets for published experiments."""

from configs.config import (
    FAIRGRAD_SETTINGS,
    NEEDS_BOUND,
    CombinerConfig,
    EnvironmentConfig,
    TrainConfig,
    to_dict,
)
from configs.presets import PRESETS
from mtrl_fair.runs.settings import from_dict

__all__ = [
    "FAIRGRAD_SETTINGS",
    "NEEDS_BOUND",
    "PRESETS",
    "CombinerConfig",
    "EnvironmentConfig",
    "TrainConfig",
    "from_dict",
    "to_dict",
]
