"""A comparison as a figure: Δm% and every metric, one dot per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mtrl_fair.supervised.comparison import Comparison, Row

MOST_PANELS = 9


def draw_comparison(path: Path, comparison: Comparison, title: str) -> None:
    """Writes a PNG: methods from best to worst, error bars of one standard error, a line where
    single-task training is."""
    rows = sorted(comparison.rows, key=_order, reverse=True)
    names = list(comparison.higher_is_better)[:MOST_PANELS]
    single = comparison.single_task
    panels = (["Δm%"] if single is not None else []) + names
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
        if panel == "Δm%":
            means, errors = [row.delta for row in rows], [row.delta_error for row in rows]
            draw_panel(axis, means, errors, 0.0)
            for height, row in enumerate(rows):
                axis.plot(row.delta_seeds, [height] * len(row.delta_seeds), "|", color="0.5")
            axis.set_title("Δm% (lower is better)", fontsize="medium")
        else:
            means, errors = [r.means[panel] for r in rows], [r.errors[panel] for r in rows]
            draw_panel(axis, means, errors, None if single is None else single.means[panel])
            direction = "higher" if comparison.higher_is_better[panel] else "lower"
            axis.set_title(f"{panel} ({direction} is better)", fontsize="medium")
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
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_panel(
    axis: Axes, means: Sequence[float], errors: Sequence[float], baseline: float | None
) -> None:
    """One metric: a dot per method, from below."""
    if baseline is not None:
        axis.axvline(baseline, color="0.3", linestyle="--", linewidth=1)
    widths = [0.0 if math.isnan(error) else error for error in errors]
    axis.errorbar(means, range(len(means)), xerr=widths, fmt="o", color="C0", capsize=2)
    axis.grid(alpha=0.3)
    axis.margins(y=0.08)
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _order(row: Row) -> float:
    return row.rank if math.isnan(row.delta) else row.delta
