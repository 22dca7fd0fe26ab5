"""Task weights, gradient norms and residuals that a training run logged, over its steps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mtrl_fair.results.runs import RunResults

NETWORKS = ("critic", "actor")
LOGGED = ("weight", "gradient_norm")
"""What a run logs for each task and network."""
SHARES = ("norm_share", "share")
"""What follows from that, line by line: each task's share of the sum over tasks of gradient norms,
and of |weight| × gradient norm. The copy of a run (copies.py) has averages of these."""
WEIGHT_PREFIX = "fairness/weight/"
RESIDUAL_PREFIX = "fairness/residual/"
SOLVING = ("fairgrad", "nash_mtl")
"""The combiners that solve an equation and so have a residual."""

Weights = dict[str, dict[str, Float[np.ndarray, "line task"]]]
"""By network, then by kind, of `LOGGED` and `SHARES`; NaN where a value is missing."""
Residuals = dict[str, tuple[Float[np.ndarray, "line"], Float[np.ndarray, "line"]]]
"""By network: steps and values."""


def read_weights(run: RunResults) -> tuple[Float[np.ndarray, "line"], Weights]:
    """Returns the steps of a run's lines with task weights, and what these lines hold.

    Raises:
        ValueError: it has none.
    """
    found = [
        line for line in run.run.metrics() if any(key.startswith(WEIGHT_PREFIX) for key in line)
    ]
    if not found:
        raise ValueError(
            f"{run.path / 'metrics.jsonl'} has no task weights ({WEIGHT_PREFIX}…): expected a run"
            " that logged an update; a copy without metrics has none"
        )
    weights: Weights = {network: {} for network in NETWORKS}
    for network in NETWORKS:
        of_network = weights[network]
        for kind in (*LOGGED, *SHARES):
            keys = [metric_key(kind, task, network) for task in run.tasks]
            values = np.array([[line.get(key) for key in keys] for line in found], float)
            if not np.isnan(values).all():
                of_network[kind] = values
        if "norm_share" not in of_network and "gradient_norm" in of_network:
            norms = of_network["gradient_norm"]
            of_network["norm_share"] = _shares(norms)
            with np.errstate(over="ignore"):  # of numbers next to the largest of a float
                of_network["share"] = _shares(np.abs(of_network["weight"]) * norms)
    return np.array([line["step"] for line in found], float), weights


def metric_key(kind: str, task: str, network: str) -> str:
    """Returns the key of a weight, gradient norm or share in `metrics.jsonl` (docs/metrics.md)."""
    return f"fairness/{kind}/{task}/{network}"


def read_residuals(run: RunResults) -> Residuals:
    """Returns the residuals (docs/metrics.md) of networks whose combiner solves an equation.

    A residual that is not finite is infinite here.

    Raises:
        ValueError: they were not logged, or not kept.
    """
    residuals = {}
    lines = run.run.metrics()
    for network in NETWORKS:
        if run.combiner(network) not in SOLVING:
            continue
        key = RESIDUAL_PREFIX + network
        logged = [(line["step"], line[key]) for line in lines if key in line]
        if not logged:
            raise ValueError(
                f"{run.path / 'metrics.jsonl'} has no {key}, which {run.combiner(network)} logs:"
                " the run logged no update yet, or it is a copy without residuals"
            )
        steps, values = zip(*logged, strict=True)
        finite = [np.inf if value is None else value for value in values]
        residuals[network] = np.array(steps, float), np.array(finite, float)
    return residuals


def averaged(
    steps: Float[np.ndarray, "line"], weights: Weights, parts: int
) -> tuple[Float[np.ndarray, "part"], Weights]:
    """Averages over equal parts of the lines.

    Means of weights and norms are geometric, because these range over orders of magnitude. Means of
    shares are arithmetic, and so are those of weights and norms that are not all positive.
    """
    lines = parts_of(len(steps), parts)
    result: Weights = {network: {} for network in weights}
    for network, values in weights.items():
        for kind, found in values.items():
            result[network][kind] = _means(found, lines)
            if kind not in SHARES:
                positive = np.array([~(found[part] <= 0).any(0) for part in lines])
                logarithms = np.log(found, where=found > 0, out=np.full_like(found, np.nan))
                geometric = np.exp(_means(logarithms, lines))
                result[network][kind] = np.where(positive, geometric, result[network][kind])
    return np.array([steps[part].mean() for part in lines]), result


def parts_of(lines: int, parts: int) -> list[np.ndarray]:
    """Splits the indices of lines into so many equal parts, with at least one line in each."""
    return np.array_split(np.arange(lines), min(parts, lines)) if lines else []


def _shares(values: Float[np.ndarray, "line task"]) -> Float[np.ndarray, "line task"]:
    """Divides by the sum over tasks; NaN where that is zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.nansum(values, 1, keepdims=True)
        return values / np.where(total > 0, total, np.nan)


def _means(
    values: Float[np.ndarray, "line task"], lines: list[np.ndarray]
) -> Float[np.ndarray, "part task"]:
    """Averages what is there; NaN where nothing is."""
    sums = np.array([np.nansum(values[part], 0) for part in lines])
    counts = np.array([(~np.isnan(values[part])).sum(0) for part in lines])
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
