"""Figures of training runs: success, the time to a success, and what a combiner weighs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtrl_fair.results.groups import RunGroup
from mtrl_fair.results.levels import times_to_level
from mtrl_fair.results.runs import RunResults
from mtrl_fair.results.statistics import MIN_RUNS, run_interval
from mtrl_fair.results.weights import NETWORKS, SHARES, averaged, read_weights

STEPS = "vector steps (thousands)"
SINGLE_RUNS = "thick: mean of runs; thin: single runs"


def success_figure(groups: Sequence[RunGroup]) -> Figure:
    """Draws the mean success over all tasks against vector steps and against minutes.

    The thick line of a group is the mean of its runs, the thin ones are its runs; the band, from
    three runs on, is the 95 % t interval of the mean over whole runs.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for index, group in enumerate(groups):
        style = _style(index)
        # Runs are averaged at common steps, and at minutes between all runs' first and last ones.
        first = max(run.seconds[0] for run in group.runs) / 60
        last = min(run.seconds[-1] for run in group.runs) / 60
        minutes = np.unique(np.clip(group.minutes, first, last)) if first <= last else np.array([])
        for axis, horizontal, success in (
            (axes[0], group.steps / 1000, group.success),
            (axes[1], minutes, group.success_at(minutes)),
        ):
            axis.plot(
                horizontal, success.mean((0, 2)), **style, linewidth=2.2, label=_of_group(group)
            )
            if len(group.runs) >= MIN_RUNS and len(horizontal):
                bounds = [run_interval(at) for at in success.swapaxes(0, 1)]
                axis.fill_between(
                    horizontal, *np.transpose(bounds), color=style["color"], alpha=0.18
                )
        for run in group.runs if len(group.runs) > 1 else ():
            thin = style | {"linewidth": 0.7, "marker": ""}
            axes[0].plot(run.steps / 1000, run.mean, **thin)
            axes[1].plot(run.seconds / 60, run.mean, **thin)
    axes[0].set_ylabel("success rate, mean over tasks")
    for axis, label in zip(axes, (STEPS, "minutes"), strict=True):
        _success_axis(axis, label)
        axis.set_xlim(left=0)
    what = []
    if any(len(group.runs) > 1 for group in groups):
        what.append(SINGLE_RUNS)
    if any(len(group.runs) >= MIN_RUNS for group in groups):
        what.append("bands: 95 % t interval of the mean over runs")
    if what:
        figure.suptitle("; ".join(what), fontsize="small")
    _legend_below(figure, axes)
    return figure


def task_figure(groups: Sequence[RunGroup]) -> Figure:
    """Draws success against vector steps, one panel per task.

    Thick lines are means of a group's runs, thin ones its runs.
    """
    tasks = groups[0].runs[0].tasks
    figure, axes = _grid(len(tasks), 5, 2.9)
    for k, axis in enumerate(axes):
        for index, group in enumerate(groups):
            success = group.success[:, :, k].mean(0)
            style = _style(index)
            axis.plot(group.steps / 1000, success, **style, linewidth=2.0, label=_of_group(group))
            for run in group.runs if len(group.runs) > 1 else ():
                thin = style | {"linewidth": 0.6, "marker": ""}
                axis.plot(run.steps / 1000, run.success[:, k], **thin)
        axis.set_title(tasks[k], fontsize="medium")
    axes[0].set_xlim(left=0)
    if any(len(group.runs) > 1 for group in groups):
        figure.suptitle(SINGLE_RUNS, fontsize="small")
    _legend_below(figure, axes)
    return figure


def level_figure(groups: Sequence[RunGroup], level: float) -> Figure:
    """Draws the vector steps and minutes until each run first reached this mean success.

    Each group has a line, in the order of `times_to_level`. A dot is a run, and a stroke is the
    median. An arrow is where a run ended without this success.
    """
    times = times_to_level(groups, level)
    figure, axes = plt.subplots(
        1, 2, figsize=(11, 1.3 + 0.32 * len(times)), sharey=True, layout="constrained"
    )
    for row, group in enumerate(times):
        color = _style(group.place)["color"]
        for axis, first, scale in ((axes[0], group.steps, 1000), (axes[1], group.minutes, 1)):
            values = first.values / scale
            # One below the other, because evaluations of several runs are often of one step.
            heights = row + np.linspace(-0.2, 0.2, len(values)) * (len(values) > 1)
            for marker, shown, face in (("o", first.reached, color), (">", ~first.reached, "none")):
                axis.plot(values[shown], heights[shown], marker, color=color, mfc=face)
            if first.median is not None and first.reached[first.median]:
                axis.plot(values[first.median], row, "|", color=color, markersize=18)
    for axis, label in zip(axes, (STEPS, "minutes"), strict=True):
        axis.set_xlabel(label)
        axis.set_xlim(0, 1.04 * axis.dataLim.xmax)
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(times)), [_literal(group.label) for group in times])
    axes[0].set_ylim(len(times) - 0.5, -0.5)
    what = "dot: a run; stroke: their median; arrow: a run that ended without it"
    figure.suptitle(f"first evaluation with a mean success ≥ {level:g}; {what}", fontsize="small")
    return figure


def run_figure(runs: Sequence[RunResults], labels: Sequence[str]) -> Figure:
    """Draws success against vector steps, one panel per run.

    Each task has a line; the thick line is their mean.
    """
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    figure, axes = _grid(len(runs), 4, 3.6)
    for axis, run, label in zip(axes, runs, labels, strict=True):
        axis.plot(run.steps / 1000, run.mean, color="black", linewidth=2.5, label="mean")
        for task, success in zip(run.tasks, run.success.T, strict=True):
            style = _style(tasks.index(task))
            axis.plot(run.steps / 1000, success, **style, linewidth=1.2, label=task)
        axis.set_title(_literal(label), fontsize="medium")
    axes[0].set_xlim(left=0)
    _legend_below(figure, axes)
    return figure


def weight_figure(run: RunResults, title: str) -> Figure:
    """Draws a run's task weights against vector steps, for critic and actor.

    Where the run logged gradient norms, the figure also has these and each task's share of their
    sum over tasks, plain and weighted.

    A weight times its gradient norm is the length of what a task adds to the shared direction (of
    every method but `moco` and `graddrop`, see docs/metrics.md); the plain sum's share is what it
    would add without weights. Values are means over sixtieths of the run, see `averaged`.

    Raises:
        ValueError: the run logged no weights.
    """
    steps, weights = averaged(*read_weights(run), parts=60)
    kinds = [kind for kind in KINDS if any(kind in weights[network] for network in NETWORKS)]
    figure, axes = plt.subplots(
        len(kinds),
        2,
        figsize=(11, 0.8 + 2.9 * len(kinds)),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, network in enumerate(NETWORKS):
        for axis, kind in zip(axes[:, column], kinds, strict=True):
            _draw_weights(axis, steps, weights[network].get(kind), run.tasks)
            if kind in SHARES:
                top = np.nanmax(weights[network].get(kind, [0]))
                axis.set_ylim(0, max(MIN_SHARE_SHOWN, axis.get_ylim()[1], 1.05 * top))
            else:
                axis.set_yscale("log")
        axes[0, column].set_title(network)
        axes[-1, column].set_xlabel(STEPS)
    for axis, kind in zip(axes[:, 0], kinds, strict=True):
        axis.set_ylabel(KINDS[kind])
    figure.suptitle(_literal(title))
    _legend_below(figure, axes.flat)
    return figure


KINDS = {
    "weight": "task weight",
    "gradient_norm": "gradient norm",
    "norm_share": "share of the plain sum\nnorm / Σ norms",
    "share": "share of the direction\nweight × norm / Σ",
}
"""What the rows of the weight figure show, and their labels."""
MIN_SHARE_SHOWN = 0.4
"""Where equal shares of ten tasks look equal."""


def _draw_weights(
    axis: Axes,
    steps: Float[np.ndarray, "part"],
    values: Float[np.ndarray, "part task"] | None,
    tasks: Sequence[str],
) -> None:
    axis.grid(alpha=0.3)
    if values is None:
        axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center")
        return
    for k, task in enumerate(tasks):
        # The first ones are wider, so that equal lines do not hide each other.
        style = _style(k) | {"marker": "", "linewidth": 2.6 - 1.6 * k / max(len(tasks) - 1, 1)}
        axis.plot(steps / 1000, values[:, k], **style, label=task)


def _grid(panels: int, most_columns: int, size: float) -> tuple[Figure, list[Axes]]:
    """Makes panels of success against steps, with common axes."""
    columns = min(panels, most_columns)
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
    shown = list(axes.flat[:panels])
    for index, axis in enumerate(shown):
        lowest = index + columns >= panels
        _success_axis(axis, STEPS if lowest else "")
        axis.tick_params(labelbottom=lowest)
        if index % columns == 0:
            axis.set_ylabel("success rate")
    return figure, shown


def _style(index: int) -> dict[str, Any]:
    """Returns one of ten colours and five kinds of line, with a dot for each evaluation."""
    # Without dots, a run with a single evaluation would not be seen.
    line = ("-", "--", ":", "-.", (0, (1, 4)))[index // 10 % 5]
    return {"color": f"C{index % 10}", "linestyle": line, "marker": "o", "markersize": 3}


def _of_group(group: RunGroup) -> str:
    runs = f" ({len(group.runs)} runs)" if len(group.runs) > 1 else ""
    return _literal(group.label + runs)


def _literal(text: str) -> str:
    """Makes matplotlib show the text as it is.

    It would set what is between dollars as mathematics, and leave out of legends what begins with
    an underscore.
    """
    hidden = "\u200b" if text.startswith("_") else ""
    return hidden + text.replace("$", r"\$")


def _success_axis(axis: Axes, label: str) -> None:
    axis.set_xlabel(label)
    axis.set_ylim(-0.03, 1.03)
    axis.grid(alpha=0.3)


def _legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """Draws one legend for all panels, in as many columns as fit."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    fitting = max(1, int(11.5 * figure.get_figwidth() / (max(map(len, entries)) + 8)))
    lines = -(-len(entries) // fitting)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=-(-len(entries) // lines),
        fontsize="small",
    )
