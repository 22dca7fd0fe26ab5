"""What the trainer logs about an epoch, under which keys (see docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.by_losses import LossCombiner
from mtrl_fair.combiners.outputs import CombinerInfo
from mtrl_fair.supervised.evaluation import Values

COLUMNS = ("step", "epoch", "split", "task", "metric", "value")
"""The columns of `evaluations.csv`."""

KEYS = {
    "losses": "losses",
    "weights": "fairness/weight",
    "gradient_norms": "fairness/gradient_norm",
    "direction_norm": "fairness/direction_norm",
    "residual": "fairness/residual",
    "conflicts": "fairness/conflicts",
}
"""Logged keys by the names of `step_values`; the logged values are means over an epoch's steps."""


def step_values(losses: Tensor, info: CombinerInfo, combiner: Combiner) -> dict[str, Tensor]:
    """Returns what is logged of one step, by the names of `KEYS`.

    A method of losses has no task gradients, so nothing that is computed from them is logged.

    Args:
        losses: [K], before any transformation.
    """
    values = {
        "losses": losses,
        "weights": info.weights,
        "direction_norm": info.direction_norm,
    }
    if not isinstance(combiner, LossCombiner):
        values |= {
            "gradient_norms": info.gradient_norms,
            "residual": info.residual,
            "conflicts": info.conflicts.to(info.residual),
        }
    return values


def mean_scalars(means: Mapping[str, Tensor], tasks: Sequence[str]) -> dict[str, float]:
    """Returns means by logged key: one number per task for means [K], else one number.

    Args:
        means: by the names of `KEYS`, each [K] or [].
        tasks: the names of the K tasks.
    """
    scalars: dict[str, float] = {}
    for name, mean in means.items():
        if mean.ndim:
            for task, entry in zip(tasks, mean.tolist(), strict=True):
                scalars[f"{KEYS[name]}/{task}"] = entry
        else:
            scalars[KEYS[name]] = float(mean)
    return scalars


def evaluation_rows(epoch: int, split: str, values: Values) -> list[tuple[int | str | float, ...]]:
    """Returns rows of `evaluations.csv`, without their first column, the step."""
    return [(epoch, split, *name.split("/", 1), value) for name, value in values.items()]
