"""Draws a comparison: Δm% and the metrics, one dot per method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mtrl_fair.results.figure_files import save_figure
from mtrl_fair.supervised.comparison import Comparison, Row
from mtrl_fair.supervised.tables import arrow, overall_label, shows_all


def draw_comparison(path: Path, comparison: Comparison, title: str) -> None:
    """Writes a PNG with the methods from best to worst.

    Error bars are one standard error; a line shows single-task training.
    """
    rows = sorted(comparison.rows, key=_order, reverse=True)
    single = comparison.single_task
    panels = panels_of(comparison, rows)
    columns = min(len(panels), 5)
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(1.6 + 2.7 * columns, lines * (1.1 + 0.26 * len(rows))),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        draw_panel(axis, panel)
        if panel.seeds is not None:
            for height, values in enumerate(panel.seeds):
                axis.plot(values, [height] * len(values), "|", color="0.5")
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(rows)), [row.method for row in rows])
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    seeds = max((row.seeds for row in rows), default=0)
    notes = [f"{title}, {seeds} seed{'s' if seeds > 1 else ''}"]
    if seeds > 1:
        notes.append("bars: one standard error")
    if single is not None:
        notes += ["ticks: single seeds", "dashed: single-task training"]
    figure.suptitle("; ".join(notes), fontsize="medium")
    save_figure(figure, path)
    plt.close(figure)


class Panel(NamedTuple):
    """One number of every method, the lowest row first."""

    title: str
    means: list[float]
    errors: list[float]
    baseline: float | None
    seeds: list[tuple[float, ...]] | None = None


def panels_of(comparison: Comparison, rows: list[Row]) -> list[Panel]:
    """Returns the panels: Δm% if there is a baseline, then every metric, or the mean of many."""
    single = comparison.single_task
    panels = []
    if single is not None:
        deltas, errors = [row.delta for row in rows], [row.delta_error for row in rows]
        panels.append(Panel("Δm% ↓", deltas, errors, 0.0, [row.delta_seeds for row in rows]))
    if not shows_all(comparison):
        means, errors = [row.overall for row in rows], [row.overall_error for row in rows]
        baseline = None if single is None else single.overall
        return [*panels, Panel(overall_label(comparison), means, errors, baseline)]
    for name, up in comparison.higher_is_better.items():
        means, errors = [row.means[name] for row in rows], [row.errors[name] for row in rows]
        baseline = None if single is None else single.means[name]
        panels.append(Panel(f"{comparison.labels[name]} {arrow(up)}", means, errors, baseline))
    return panels


def draw_panel(axis: Axes, panel: Panel) -> None:
    """Draws a dot per method, with a bar of one standard error."""
    if panel.baseline is not None:
        axis.axvline(panel.baseline, color="0.3", linestyle="--", linewidth=1)
    widths = [0.0 if math.isnan(error) else error for error in panel.errors]
    axis.errorbar(panel.means, range(len(widths)), xerr=widths, fmt="o", color="C0", capsize=2)
    axis.set_title(panel.title, fontsize="medium")
    axis.grid(alpha=0.3)
    axis.margins(y=0.08)
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _order(row: Row) -> float:
    return row.rank if math.isnan(row.delta) else row.delta
