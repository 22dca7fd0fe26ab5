"""An evaluation as metrics, as rows of `evaluations.csv`, and as the JSON of `evaluate.py`."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from envs import Evaluation


def evaluation_scalars(evaluation: Evaluation) -> dict[str, float]:
    """Returns an evaluation as metrics."""
    returns = evaluation.returns.mean(1)
    scalars = {
        "charts/mean_success_rate": evaluation.mean_success,
        "charts/mean_return": float(returns.mean()),
    }
    for task, name in enumerate(evaluation.task_names):
        scalars[f"charts/{name}_success_rate"] = float(evaluation.success[task])
        scalars[f"charts/{name}_return"] = float(returns[task])
    return scalars


def evaluation_rows(evaluation: Evaluation) -> list[tuple[str, float, int, float, float]]:
    """Returns an evaluation as rows of `evaluations.csv`, without the step."""
    return [
        (name, float(success), returns.size, float(returns.mean()), float(lengths.mean()))
        for name, success, returns, lengths in zip(
            evaluation.task_names,
            evaluation.success,
            evaluation.returns,
            evaluation.lengths,
            strict=True,
        )
    ]


def evaluation_summary(evaluation: Evaluation, step: int, checkpoint: str) -> dict[str, Any]:
    """Returns an evaluation as `evaluate.py` writes it.

    With the versions that its numbers depend on: another mujoco computes other contacts.

    Args:
        evaluation: of a run's policy.
        step: the step of the checkpoint.
        checkpoint: its name.
    """
    tasks = {
        name: {
            "success": float(evaluation.success[row]),
            "standard_error": float(evaluation.standard_error[row]),
            "episodes": evaluation.returns[row].size,
            "return": float(evaluation.returns[row].mean()),
            "episode_length": float(evaluation.lengths[row].mean()),
        }
        for row, name in enumerate(evaluation.task_names)
    }
    return {
        "mean_success": evaluation.mean_success,
        "step": step,
        "checkpoint": checkpoint,
        "versions": {name: metadata.version(name) for name in ("metaworld", "mujoco")},
        "tasks": tasks,
    }
