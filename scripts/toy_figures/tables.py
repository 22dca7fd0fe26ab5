"""The table of where the toy problem's trajectories ended."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mtrl_fair.supervised.benchmarks.two_losses.problem import STARTS, toy_front_gap
from scripts.toy_figures.descent import Method, Trajectories


def result_table(methods: Sequence[Method], trajectories: Trajectories) -> Table:
    """Makes a table of where every trajectory ended."""
    table = Table(
        title="final losses and their distance to the Pareto front (gap)", title_justify="left"
    )
    table.add_column("method")
    for heading in ("start", "loss 1", "loss 2", "gap", "steps to the front"):
        table.add_column(heading, justify="right")
    final = trajectories.losses[-1]
    gaps = toy_front_gap(final)
    for i, method in enumerate(methods):
        for j, start in enumerate(STARTS):
            loss_1, loss_2 = final[i, j].tolist()
            step = int(trajectories.reached[i, j])
            table.add_row(
                method.name,
                f"({start[0]:g}, {start[1]:g})",
                f"{loss_1:.3f}",
                f"{loss_2:.3f}",
                f"{float(gaps[i, j]):.1e}",
                f"{step}" if step >= 0 else "not reached",
            )
        table.add_section()
    return table
