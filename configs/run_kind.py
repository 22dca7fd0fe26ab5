"""The run directories of `train.py`: what is in their files, and their settings read back."""

from __future__ import annotations

from typing import Any

from configs.config import TrainConfig
from mtrl_fair.runs import RunDirectory, RunKind, settings

COMMAND_ONLY = ("run_dir", "resume")
"""Settings that concern a command, not its run."""

EVALUATION_COLUMNS = ("step", "task", "success", "episodes", "return", "episode_length")

MAY_CHANGE = frozenset(
    {
        "total_steps",
        "stop_at_success",
        "device",
        "cuda_graph",
        "threads",
        "environment.num_workers",
    }
)
"""Settings that a resumed run may change: it may be prolonged, and moved, after which rounding may
differ."""

RUN_KIND = RunKind(EVALUATION_COLUMNS, MAY_CHANGE, new_flag="--run-dir", resume_flag="--resume")


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Returns a run's settings as nested plain data for JSON, without `COMMAND_ONLY`."""
    return settings.to_dict(config, without=COMMAND_ONLY)


def read_config(run: RunDirectory) -> TrainConfig:
    """Returns the settings of a run.

    Raises:
        ValueError: `config.json` holds what is no setting, or is of another version.
    """
    return settings.from_dict(TrainConfig, run.config, f"{run.path}/config.json")
