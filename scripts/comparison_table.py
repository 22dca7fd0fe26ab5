"""A comparison as a table: on the terminal, in Markdown, in CSV."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from rich.table import Table

from mtrl_fair.supervised.comparison import Comparison, Row
from scripts.benchmarks.measure import markdown_table

MOST_COLUMNS = 11
"""With more metrics, tables have their mean only; the CSV has all."""


def console_table(comparison: Comparison, title: str) -> Table:
    """Means per metric, MR, and Δm% with its standard error."""
    table = Table(title=f"{title}: {caption(comparison)}", title_justify="left")
    table.add_column("method", no_wrap=True)
    for heading in headings(comparison):
        table.add_column(heading, justify="right")
    if comparison.single_task is not None:
        table.add_row(*cells(comparison, comparison.single_task, errors=False))
        table.add_section()
    for row in comparison.rows:
        table.add_row(*cells(comparison, row, errors=False))
    return table


def write_markdown(path: Path, comparison: Comparison, title: str) -> None:
    """The table with standard errors of all columns but MR."""
    rows = [cells(comparison, row, errors=True) for row in all_rows(comparison)]
    table = markdown_table(["method", *headings(comparison)], rows)
    path.write_text(f"{title}: {caption(comparison)}\n\n{table}\n")


def write_csv(path: Path, comparison: Comparison) -> None:
    """Every mean and standard error, unrounded; empty where there is none."""
    names = list(comparison.higher_is_better)
    header = ["method", "seeds"]
    for name in names:
        header += [name, f"{name} standard error"]
    header += ["mean rank", "delta m percent", "delta m percent standard error"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in all_rows(comparison):
            numbers: list[float] = []
            for name in names:
                numbers += [row.means[name], row.errors[name]]
            numbers += [row.rank, row.delta, row.delta_error]
            shown = ["" if math.isnan(number) else number for number in numbers]
            writer.writerow([row.method, row.seeds, *shown])


def all_rows(comparison: Comparison) -> list[Row]:
    """Single-task training first, where there is a baseline."""
    first = [] if comparison.single_task is None else [comparison.single_task]
    return [*first, *comparison.rows]


def caption(comparison: Comparison) -> str:
    """What the numbers are."""
    seeds = sorted({row.seeds for row in comparison.rows})
    number = " to ".join(map(str, {seeds[0]: 0, seeds[-1]: 0}))
    plural = "" if seeds == [1] else "s"
    text = f"{number} seed{plural} per method"
    if len(comparison.rows) > 1:
        text += "; MR among " + ", ".join(row.method for row in comparison.rows)
    if comparison.single_task is not None:
        text += "; Δm% against single-task training, negative is better"
    return text


def headings(comparison: Comparison) -> list[str]:
    """One per metric with its better direction (or their mean), MR, Δm%."""
    arrows = [f"{name} {'↑' if up else '↓'}" for name, up in comparison.higher_is_better.items()]
    metrics = arrows if len(arrows) <= MOST_COLUMNS else [f"mean of {len(arrows)} metrics"]
    rank = ["MR ↓"] if len(comparison.rows) > 1 else []
    delta = ["Δm% ↓"] if comparison.single_task is not None else []
    return [*metrics, *rank, *delta]


def cells(comparison: Comparison, row: Row, errors: bool) -> list[str]:
    """A row's method and numbers; Δm% has its standard error always, the metrics if asked for."""
    means, deviations = list(row.means.values()), list(row.errors.values())
    if len(means) > MOST_COLUMNS:
        means, deviations = [sum(means) / len(means)], [math.nan]
    metrics = [
        with_error(mean, error if errors else math.nan, significant(mean))
        for mean, error in zip(means, deviations, strict=True)
    ]
    rank = ["" if math.isnan(row.rank) else f"{row.rank:.2f}"] if len(comparison.rows) > 1 else []
    delta = []
    if comparison.single_task is not None:
        delta = ["" if row is comparison.single_task else with_error(row.delta, row.delta_error, 2)]
    return [row.method, *metrics, *rank, *delta]


def with_error(mean: float, error: float, decimals: int) -> str:
    """`mean ± error`, or the mean alone."""
    return f"{mean:.{decimals}f}" + ("" if math.isnan(error) else f" ± {error:.{decimals}f}")


def significant(value: float) -> int:
    """Decimals that show four digits."""
    return 4 if abs(value) < 1 else max(0, 3 - int(math.log10(abs(value))))
