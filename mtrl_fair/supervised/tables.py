"""Shows a comparison as a table: on the terminal, in Markdown, in CSV."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from rich.table import Table

from mtrl_fair.results.markdown import markdown_table
from mtrl_fair.runs.files import write_text
from mtrl_fair.supervised.comparison import Comparison, Row

MOST_WITH_ERRORS = 5
"""With more columns than this, a terminal's table shows metrics without their errors."""

MOST_METRICS = 11
"""With more metrics than this, tables and figures show the mean of all; the CSV has each."""


def console_table(comparison: Comparison, title: str) -> Table:
    """Makes a table of means per metric, MR, and Δm% with its standard error.

    If there are few columns, the metrics have their standard errors, too.
    """
    table = Table(title=f"{title}: {caption(comparison)}", title_justify="left")
    table.add_column("method", no_wrap=True)
    for heading in headings(comparison):
        table.add_column(heading, justify="right", overflow="fold")
    errors = len(headings(comparison)) <= MOST_WITH_ERRORS
    if comparison.single_task is not None:
        table.add_row(*cells(comparison, comparison.single_task, errors))
        table.add_section()
    for row in comparison.rows:
        table.add_row(*cells(comparison, row, errors))
    return table


def write_markdown(path: Path, comparison: Comparison, title: str) -> None:
    """Writes the table with the standard errors of all columns but MR."""
    rows = [cells(comparison, row, errors=True) for row in all_rows(comparison)]
    table = markdown_table(["method", *headings(comparison)], rows)
    write_text(path, f"{title}: {caption(comparison)}\n\n{table}\n")


def write_csv(path: Path, comparison: Comparison) -> None:
    """Writes every mean and standard error, unrounded; a cell without a number is empty."""
    names = list(comparison.higher_is_better)
    header = ["method", "seeds"]
    for name in names:
        header += [name, f"{name} standard error"]
    header += ["mean rank", "delta m percent", "delta m percent standard error"]
    header += ["delta m percent of each seed"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    for row in all_rows(comparison):
        numbers: list[float] = []
        for name in names:
            numbers += [row.means[name], row.errors[name]]
        numbers += [row.rank, row.delta, row.delta_error]
        shown = ["" if math.isnan(number) else number for number in numbers]
        seeds = " ".join(map(str, row.delta_seeds))
        writer.writerow([row.method, row.seeds, *shown, seeds])
    write_text(path, text.getvalue())


def all_rows(comparison: Comparison) -> list[Row]:
    """Returns all rows, the baseline first if there is one."""
    first = [] if comparison.single_task is None else [comparison.single_task]
    return [*first, *comparison.rows]


def caption(comparison: Comparison) -> str:
    """Says how many seeds there are, and what MR and Δm% compare."""
    seeds = [row.seeds for row in comparison.rows]
    fewest, most = min(seeds), max(seeds)
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    text = f"{number} seed{'' if most == 1 else 's'} per method"
    if len(comparison.rows) > 1:
        text += "; MR among " + ", ".join(row.method for row in comparison.rows)
    if comparison.single_task is not None:
        text += "; Δm% against single-task training, negative is better"
    return text


def headings(comparison: Comparison) -> list[str]:
    """Returns the headings of the columns behind the method: metrics or their mean, MR, Δm%."""
    if shows_all(comparison):
        directions = comparison.higher_is_better.items()
        metrics = [f"{comparison.labels[name]} {arrow(up)}" for name, up in directions]
    else:
        metrics = [overall_label(comparison)]
    rank = ["MR ↓"] if len(comparison.rows) > 1 else []
    delta = ["Δm% ↓"] if comparison.single_task is not None else []
    return [*metrics, *rank, *delta]


def cells(comparison: Comparison, row: Row, errors: bool) -> list[str]:
    """Returns a row's method and numbers; Δm% always has its standard error.

    Args:
        errors: whether the metrics have their standard errors.
    """
    numbers = [(row.overall, row.overall_error)]
    if shows_all(comparison):
        numbers = list(zip(row.means.values(), row.errors.values(), strict=True))
    metrics = [
        with_error(mean, error if errors else math.nan, significant(mean))
        for mean, error in numbers
    ]
    rank = ["" if math.isnan(row.rank) else f"{row.rank:.2f}"] if len(comparison.rows) > 1 else []
    delta = []
    if comparison.single_task is not None:
        delta = ["" if row is comparison.single_task else with_error(row.delta, row.delta_error, 2)]
    return [row.method, *metrics, *rank, *delta]


def shows_all(comparison: Comparison) -> bool:
    """Returns whether there are so few metrics that each has its column."""
    return len(comparison.higher_is_better) <= MOST_METRICS


def overall_label(comparison: Comparison) -> str:
    """Returns the heading of the mean of all metrics, with the better direction."""
    kinds = {name.split("/", 1)[1] for name in comparison.higher_is_better}
    directions = set(comparison.higher_is_better.values())
    kind = kinds.pop() if len(kinds) == 1 else "metric"
    return f"mean {kind}" + (f" {arrow(directions.pop())}" if len(directions) == 1 else "")


def arrow(higher_is_better: bool) -> str:
    """Returns an arrow in the better direction."""
    return "↑" if higher_is_better else "↓"


def with_error(mean: float, error: float, decimals: int) -> str:
    """Returns `mean ± error`, or the mean alone if the error is NaN."""
    return f"{mean:.{decimals}f}" + ("" if math.isnan(error) else f" ± {error:.{decimals}f}")


def significant(value: float) -> int:
    """Returns the number of decimals that show four digits."""
    return 4 if abs(value) < 1 else max(0, 3 - int(math.log10(abs(value))))
