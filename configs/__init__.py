"""Settings of training runs as frozen dataclasses, their checks, and presets."""

from configs.checks import NEEDS_BOUND, check_config, unused_settings
from configs.config import FAIRGRAD_SETTINGS, CombinerConfig, EnvironmentConfig, TrainConfig
from configs.presets import PRESETS
from configs.run_kind import MAY_CHANGE, RUN_KIND, read_config, to_dict
from mtrl_fair.runs.settings import from_dict

__all__ = [
    "FAIRGRAD_SETTINGS",
    "MAY_CHANGE",
    "NEEDS_BOUND",
    "PRESETS",
    "RUN_KIND",
    "CombinerConfig",
    "EnvironmentConfig",
    "TrainConfig",
    "check_config",
    "from_dict",
    "read_config",
    "to_dict",
    "unused_settings",
]
