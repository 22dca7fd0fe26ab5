"""The outcome of a comparison: the table of what is finished, printed, written and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from mtrl_fair.errors import RunError
from mtrl_fair.runs.files import read_object
from mtrl_fair.supervised.benchmark import metric_directions, metric_labels
from mtrl_fair.supervised.comparison import SINGLE_TASK, Comparison, compare
from mtrl_fair.supervised.jobs import Job
from mtrl_fair.supervised.registry import benchmark_class
from mtrl_fair.supervised.tables import console_table, write_csv, write_markdown
from mtrl_fair.supervised.trainer import RESULTS


def is_finished(job: Job) -> bool:
    """Returns whether a training has reached its end."""
    return (job.path / RESULTS).is_file()


def read_comparison(plan: dict[str, Any], jobs: list[Job]) -> Comparison:
    """Compares the results of all trainings that are finished.

    Raises:
        RunError: a result cannot be read.
        ValueError: a result lacks a metric.
    """
    found = benchmark_class(plan["benchmark"])
    directions = metric_directions(found.tasks)
    results: dict[str, dict[int, dict[str, float]]] = {}
    for run, job in zip(plan["runs"], jobs, strict=True):
        if is_finished(job):
            seeds = results.setdefault(run["method"], {})
            # The single-task trainings of a seed, one for each task, become one result.
            seeds.setdefault(job.config.seed, {}).update(_read_values(job.path / RESULTS))
    single = [
        values
        for values in results.pop(SINGLE_TASK, {}).values()
        if values.keys() == directions.keys()
    ]
    name = SINGLE_TASK
    if plan["single_task"] == "published" and found.published_baseline is not None:
        single, name = [dict(found.published_baseline)], f"{SINGLE_TASK} (published)"
    return compare(
        {method: list(seeds.values()) for method, seeds in results.items()},
        directions,
        single,
        name,
        metric_labels(found.tasks),
    )


def show_comparison(console: Console, folder: Path, comparison: Comparison, title: str) -> None:
    """Prints the table, and writes it to the folder as Markdown, CSV and figure."""
    from mtrl_fair.supervised.figures import draw_comparison  # takes a second: at the end only

    for note in comparison.notes:
        console.print(f"note: {note}")
    if not comparison.rows:
        return
    table = console_table(comparison, title)
    if not console.is_terminal:  # a log has no width that numbers must fit into
        console = Console(
            highlight=False, width=max(80, Console(width=10_000).measure(table).maximum)
        )
    console.print(table)
    write_markdown(folder / "comparison.md", comparison, title)
    write_csv(folder / "comparison.csv", comparison)
    draw_comparison(folder / "comparison.png", comparison, title)
    print(f"written to {folder / 'comparison'}.md, .csv and .png")


def _read_values(path: Path) -> dict[str, float]:
    """Returns the metrics in a run's `results.json`, or raises RunError if it cannot be read."""
    mend = "remove it, and --resume writes it again"
    values = read_object(path, mend).get("values")
    if not isinstance(values, dict):
        raise RunError(f"{path} cannot be read (it has no values by name): {mend}")
    try:
        return {name: float(value) for name, value in values.items()}
    except (ValueError, TypeError, OverflowError) as error:
        raise RunError(f"{path} cannot be read ({error}): {mend}") from error
