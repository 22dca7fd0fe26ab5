"""Task weights and gradient norms that a training run logged, over its steps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from scripts.run_results import RunResults

NETWORKS = ("critic", "actor")
LOGGED = ("weight", "gradient_norm")
PREFIX = "fairness/weight/"

Weights = dict[str, dict[str, Float[np.ndarray, "line task"]]]
"""By network, then "weight", "gradient_norm" (if it was logged); NaN where a value is missing."""


def read_weights(run: RunResults) -> tuple[Float[np.ndarray, "line"], Weights]:
    """The steps of a run's lines with weights, and what they hold.

    Raises:
        ValueError: it has none.
    """
    found = [line for line in run.run.metrics() if any(key.startswith(PREFIX) for key in line)]
    if not found:
        raise ValueError(f"{run.path / 'metrics.jsonl'} has no task weights: expected {PREFIX}…")
    weights: Weights = {network: {} for network in NETWORKS}
    for network in NETWORKS:
        for kind in LOGGED:
            keys = [metric_key(kind, task, network) for task in run.tasks]
            values = np.array([[line.get(key) for key in keys] for line in found], float)
            if not np.isnan(values).all():
                weights[network][kind] = values
    return np.array([line["step"] for line in found], float), weights


def metric_key(kind: str, task: str, network: str) -> str:
    """The key of a weight or gradient norm in `metrics.jsonl` (docs/metrics.md)."""
    return f"fairness/{kind}/{task}/{network}"


def averaged(
    steps: Float[np.ndarray, "line"], weights: Weights, parts: int
) -> tuple[Float[np.ndarray, "part"], Weights]:
    """Means over equal parts of the lines: geometric ones of positive weights and of norms, which
    range over orders of magnitude, and those of each task's "share" of the sum over tasks of
    |weight| × gradient norm."""
    lines = np.array_split(np.arange(len(steps)), min(parts, len(steps)))
    result: Weights = {network: {} for network in weights}
    for network, values in weights.items():
        for kind, logged in values.items():
            positive = np.log(np.where(logged > 0, logged, np.nan))
            result[network][kind] = np.exp(_means(positive, lines))
        if len(values) == len(LOGGED):
            products = np.abs(values["weight"]) * values["gradient_norm"]
            total = np.nansum(products, 1, keepdims=True)
            shares = products / np.where(total > 0, total, np.nan)
            result[network]["share"] = _means(shares, lines)
    return np.array([steps[part].mean() for part in lines]), result


def _means(
    values: Float[np.ndarray, "line task"], lines: list[np.ndarray]
) -> Float[np.ndarray, "part task"]:
    """Of what is there; NaN where nothing is."""
    sums = np.array([np.nansum(values[part], 0) for part in lines])
    counts = np.array([(~np.isnan(values[part])).sum(0) for part in lines])
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
