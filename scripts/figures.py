"""Figures of training runs: success of methods, of tasks, of runs, and what a combiner weighs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.run_results import Method, RunResults, read_metrics
from scripts.run_statistics import MIN_RUNS, bootstrap_interval

NETWORKS = ("critic", "actor")


def success_figure(methods: Sequence[Method]) -> Figure:
    """Mean success over all tasks: over vector steps and over minutes.

    The line of a method is the mean of its runs, which are thin lines; the band, with three runs or
    more, the 95 % stratified bootstrap interval of the mean.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for index, method in enumerate(methods):
        steps = method.common_steps()
        scores = method.success_at(steps)
        for axis, horizontal in zip(axes, (steps / 1000, method.minutes_at(steps)), strict=True):
            axis.plot(
                horizontal, scores.mean((0, 2)), **_style(index), linewidth=2.2, label=method.label
            )
            if len(method.runs) >= MIN_RUNS:
                bounds = [bootstrap_interval(scores[:, i]) for i in range(len(steps))]
                low, high = np.transpose(bounds)
                axis.fill_between(horizontal, low, high, color=f"C{index % 10}", alpha=0.18)
        if len(method.runs) > 1:
            for run in method.runs:
                for axis, horizontal in zip(
                    axes, (run.steps / 1000, run.seconds / 60), strict=True
                ):
                    axis.plot(horizontal, run.mean, color=f"C{index % 10}", linewidth=0.7)
    axes[0].set_ylabel("success rate, mean over tasks")
    for axis, label in zip(axes, ("vector steps (thousands)", "minutes"), strict=True):
        _success_axis(axis, label)
    _legend_below(figure, axes[0])
    return figure


def task_figure(methods: Sequence[Method]) -> Figure:
    """Success over vector steps, one panel per task; lines are means of a method's runs."""
    tasks = methods[0].runs[0].tasks
    columns = min(len(tasks), 5)
    figure, axes = _grid(len(tasks), columns)
    for k, axis in enumerate(axes):
        for index, method in enumerate(methods):
            steps = method.common_steps()
            success = method.success_at(steps)[:, :, k].mean(0)
            axis.plot(steps / 1000, success, **_style(index), linewidth=1.6, label=method.label)
        axis.set_title(tasks[k], fontsize="medium")
        _success_axis(axis, "vector steps (thousands)" if k + columns >= len(tasks) else "")
        if k % columns == 0:
            axis.set_ylabel("success rate")
    _legend_below(figure, axes[0])
    return figure


def run_figure(runs: Sequence[RunResults], labels: Sequence[str]) -> Figure:
    """Success over vector steps, one panel per run: a line per task, a thick one their mean."""
    columns = min(len(runs), 4)
    figure, axes = _grid(len(runs), columns, 3.6)
    for index, (axis, run, label) in enumerate(zip(axes, runs, labels, strict=True)):
        for k, task in enumerate(run.tasks):
            axis.plot(run.steps / 1000, run.success[:, k], **_style(k), linewidth=1.2, label=task)
        axis.plot(run.steps / 1000, run.mean, color="black", linewidth=2.5, label="mean")
        axis.set_title(label, fontsize="medium")
        _success_axis(axis, "vector steps (thousands)")
        if index % columns == 0:
            axis.set_ylabel("success rate")
    _legend_below(figure, axes[0])
    return figure


def weight_figure(run: RunResults, title: str) -> Figure:
    """A run's task weights, gradient norms and their products over vector steps, critic and actor.

    A product is the length of what a task adds to the shared direction; it is shown as its share
    of the sum over tasks. Values are
    means over sixtieths of the run.

    Raises:
        ValueError: the run logged no gradient norms.
    """
    lines = read_metrics(run.path, "fairness/")
    rows = ("weight", "gradient_norm", "share")
    figure, axes = plt.subplots(
        3, 2, figsize=(11, 9.5), sharex=True, sharey="row", layout="constrained"
    )
    for column, network in enumerate(NETWORKS):
        values = {
            row: _per_task(lines, f"fairness/{row}/{{task}}/{network}", run.tasks)
            for row in rows[:2]
        }
        steps = np.array([line["step"] for line in lines])
        products = values["weight"] * values["gradient_norm"]
        values["share"] = products / products.sum(1, keepdims=True)
        for axis, row in zip(axes[:, column], rows, strict=True):
            centres, smooth = _smoothed(steps, values[row], log=row != "share")
            for k, task in enumerate(run.tasks):
                axis.plot(centres / 1000, smooth[:, k], **_style(k, ""), linewidth=1.4, label=task)
            axis.set_yscale("linear" if row == "share" else "log")
            axis.grid(alpha=0.3)
        axes[0, column].set_title(network)
        axes[2, column].set_xlabel("vector steps (thousands)")
    for axis, label in zip(
        axes[:, 0], ("task weight", "gradient norm", "share of weight × gradient norm"), strict=True
    ):
        axis.set_ylabel(label)
    figure.suptitle(title)
    _legend_below(figure, axes[0, 0])
    return figure


def _per_task(lines: list[dict[str, float]], key: str, tasks: Sequence[str]) -> np.ndarray:
    """[line, task] of a metric."""
    names = [key.format(task=task) for task in tasks]
    if missing := [name for name in names if name not in lines[-1]]:
        raise ValueError(
            f"the run has no {missing[0]}: methods of losses see no task gradients, and nor does a"
            " run before its first update"
        )
    return np.array([[line.get(name, np.nan) for name in names] for line in lines], float)


def _smoothed(
    steps: np.ndarray, values: np.ndarray, *, log: bool, bins: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal parts of the run, geometric ones for a logarithmic axis."""
    parts = np.array_split(np.arange(len(steps)), min(bins, len(steps)))
    centres = np.array([steps[part].mean() for part in parts])
    if log:
        values = np.log(np.maximum(values, 1e-12))
    means = np.array([np.nanmean(values[part], 0) for part in parts])
    return centres, np.exp(means) if log else means


def _grid(panels: int, columns: int, size: float = 2.9) -> tuple[Figure, list[Axes]]:
    lines = -(-panels // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(max(size * columns, 4.2), size * lines + 0.9),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[panels:]:
        axis.remove()
    return figure, list(axes.flat[:panels])


def _style(index: int, marker: str = "o") -> dict[str, Any]:
    """Ten colours, then the same ones dashed, then dotted; a dot shows a single evaluation."""
    return {
        "color": f"C{index % 10}",
        "linestyle": ("-", "--", ":")[index // 10 % 3],
        "marker": marker,
        "markersize": 3,
    }


def _success_axis(axis: Axes, label: str) -> None:
    axis.set_xlabel(label)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlim(0, 1.03 * axis.dataLim.x1)
    axis.grid(alpha=0.3)


def _legend_below(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    fitting = int(11.5 * figure.get_figwidth() / (max(map(len, labels)) + 8))
    columns = max(1, min(len(labels), fitting))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")
