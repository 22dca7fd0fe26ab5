"""Compares methods as the paper does: mean metrics over seeds, mean rank, Δm%."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtrl_fair.supervised.scores import delta_m, mean_rank

Values = Mapping[str, float]
"""Metrics of one training by name."""

SINGLE_TASK = "single-task"
"""The name of the baseline's row."""


@dataclass(frozen=True)
class Row:
    """A method's results, averaged over seeds."""

    method: str
    seeds: int
    means: dict[str, float]
    errors: dict[str, float]
    """Standard errors of the means over seeds; NaN with one seed."""
    overall: float
    """The mean of all metrics, which makes sense if they are all of one kind."""
    overall_error: float
    """The standard error of `overall` over seeds."""
    rank: float
    """The mean rank among the methods of the table; NaN for single-task training."""
    delta: float
    """Δm%; NaN without a baseline."""
    delta_error: float
    """The standard error of `delta` over the method's seeds; the baseline counts as exact."""
    delta_seeds: tuple[float, ...]
    """Δm% of each seed."""


@dataclass(frozen=True)
class Comparison:
    """The rows of a table of methods, and what its columns mean."""

    higher_is_better: dict[str, bool]
    """Whether higher is better, by metric."""
    labels: dict[str, str]
    """Names for tables and figures, by metric."""
    single_task: Row | None
    """The baseline of Δm%, which was trained or published; None: there is no baseline."""
    rows: tuple[Row, ...]
    """The methods in the order in which they were given; `rank` compares these."""
    notes: tuple[str, ...] = ()
    """Sentences that say what is missing from the table, and why."""


def compare(
    results: Mapping[str, Sequence[Values]],
    higher_is_better: Mapping[str, bool],
    baseline: Sequence[Values] = (),
    baseline_name: str = SINGLE_TASK,
    labels: Mapping[str, str] | None = None,
) -> Comparison:
    """Averages the results of methods over seeds, and compares the methods.

    A method with a metric that is not finite is left out. Δm% is left out if a metric of the
    baseline is not positive. `notes` say so.

    Args:
        results: the metrics of each seed, by method.
        higher_is_better: by metric; the table has the same order.
        baseline: the metrics of single-task training for each seed (one, if published); may be
            empty.
        baseline_name: the name of the baseline's row.
        labels: names for tables and figures, by metric; None: the metrics' names.

    Raises:
        ValueError: a result lacks a metric.
    """
    notes = []
    names, directions = list(higher_is_better), list(higher_is_better.values())
    table = {method: _matrix(method, values, names) for method, values in results.items()}
    for method, matrix in list(table.items()):
        wrong = _names_of(~np.isfinite(matrix).all(0), names)
        if wrong:
            notes.append(f"{method} is left out: its {wrong} is not finite")
            del table[method]
    base = _matrix("single-task training", baseline, names) if baseline else None
    if base is not None:
        wrong = _names_of(~(base.mean(0) > 0), names)
        if wrong:
            notes.append(f"there is no Δm%: single-task training has no positive {wrong}")
            base = None
    ranks = mean_rank([m.mean(0) for m in table.values()], directions) if table else np.empty(0)
    rows = tuple(
        _row(method, matrix, names, directions, base, float(rank))
        for (method, matrix), rank in zip(table.items(), ranks, strict=True)
    )
    single = None
    if base is not None:
        single = _row(baseline_name, base, names, directions, None, math.nan)
    labels = labels or {name: name for name in names}
    return Comparison(dict(higher_is_better), dict(labels), single, rows, tuple(notes))


def _names_of(chosen: np.ndarray, names: list[str]) -> str:
    return ", ".join(name for name, flag in zip(names, chosen, strict=True) if flag)


def _matrix(method: str, values: Sequence[Values], names: list[str]) -> np.ndarray:
    """Returns a method's metrics, [seeds, M]."""
    for seed, found in enumerate(values):
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"result {seed} of {method} lacks {', '.join(missing)}")
    return np.array([[found[name] for name in names] for found in values], float)


def _row(
    method: str,
    matrix: np.ndarray,
    names: list[str],
    directions: list[bool],
    base: np.ndarray | None,
    rank: float,
) -> Row:
    deltas: tuple[float, ...] = ()
    if base is not None:
        deltas = tuple(delta_m(metrics, base.mean(0), directions) for metrics in matrix)
    errors = _standard_error(matrix)
    return Row(
        method=method,
        seeds=len(matrix),
        means=dict(zip(names, matrix.mean(0).tolist(), strict=True)),
        errors=dict(zip(names, errors.tolist(), strict=True)),
        overall=float(matrix.mean()),
        overall_error=float(_standard_error(matrix.mean(1))),
        rank=rank,
        delta=float(np.mean(deltas)) if deltas else math.nan,
        delta_error=float(_standard_error(np.array(deltas))) if deltas else math.nan,
        delta_seeds=deltas,
    )


def _standard_error(samples: np.ndarray) -> np.ndarray:
    """Computes the standard error of the mean along the first axis; NaN for one sample."""
    if len(samples) < 2:
        return np.full(samples.shape[1:], math.nan)
    found: np.ndarray = samples.std(0, ddof=1) / math.sqrt(len(samples))
    return found
