"""Tables of training runs, in Markdown.

python scripts/table.py RUN [RUN ...] [--table summary|tasks] [--minutes M ...] [--level L]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import tyro

from scripts.benchmarks.measure import markdown_table
from scripts.command_line import fail, or_fail
from scripts.run_results import Method, group_runs, read_run
from scripts.run_statistics import MIN_RUNS, bootstrap_interval, interquartile_mean, mean


@dataclass(frozen=True)
class Arguments:
    """Print how well training runs did, as a table in Markdown."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories. Runs that differ in their seed only are one method."""
    table: Literal["summary", "tasks"] = "summary"
    """summary: one line per method; tasks: one line per run with the success of each task."""
    step: int | None = None
    """The evaluation that counts; none: the last one that all runs of a method have."""
    level: float = 0.95
    """The mean success whose first step is asked for (summary)."""
    labels: tuple[str, ...] = ()
    """A name per run, the same for runs of one method; none: the settings in which runs differ."""


def main(words: list[str]) -> None:
    """Reads the runs and prints the table."""
    arguments = tyro.cli(Arguments, args=words)
    if not arguments.runs:
        fail("no runs: give at least one run directory")
    if not 0 < arguments.level <= 1:
        fail(f"--level is {arguments.level}, expected a success rate in (0, 1]")
    print(or_fail(lambda: table(arguments)))


def table(arguments: Arguments) -> str:
    """The table.

    Raises:
        RunError, ValueError: no such run, or no such evaluation.
    """
    methods = group_runs([read_run(folder) for folder in arguments.runs], arguments.labels)
    steps = [counted_step(method, arguments.step) for method in methods]
    if arguments.table == "tasks":
        return task_table(methods, steps)
    return summary_table(methods, steps, arguments.level)


def counted_step(method: Method, step: int | None) -> float:
    """The step whose evaluation counts.

    Raises:
        ValueError: not all runs of the method were evaluated there.
    """
    common = method.common_steps()
    if len(common) == 0:
        raise ValueError(f"the runs of {method.label} have no evaluated step in common")
    if step is not None and step not in common:
        raise ValueError(
            f"--step {step} is no evaluation of all runs of {method.label}: choose from"
            f" {', '.join(f'{value:.0f}' for value in common)}"
        )
    return float(common[-1] if step is None else step)


def summary_table(methods: Sequence[Method], steps: Sequence[float], level: float) -> str:
    """One line per method. Intervals are 95 % stratified bootstrap ones, from three runs on."""
    header = [
        "method",
        "runs",
        "steps",
        "minutes",
        "mean success",
        "IQM",
        "best mean",
        f"steps to {level:g}",
    ]
    rows = []
    for method, step in zip(methods, steps, strict=True):
        at = np.array([step])
        scores = method.success_at(at)[:, 0]
        best = np.mean([run.mean[run.steps <= step].max() for run in method.runs])
        reached = [run.reaches(level) for run in method.runs]
        rows.append(
            [
                method.label,
                str(len(method.runs)),
                f"{step:,.0f}",
                f"{method.minutes_at(at)[0]:.0f}",
                _with_interval(scores, mean),
                _with_interval(scores, interquartile_mean),
                f"{best:.3f}",
                ", ".join("never" if value is None else f"{value:,.0f}" for value in reached),
            ]
        )
    return markdown_table(header, rows)


def task_table(methods: Sequence[Method], steps: Sequence[float]) -> str:
    """One line per run: its seed, minutes, and the success of every task."""
    tasks = methods[0].runs[0].tasks
    header = ["method", "seed", "steps", "minutes", *tasks, "mean"]
    rows = []
    for method, step in zip(methods, steps, strict=True):
        for run in method.runs:
            (index,) = np.flatnonzero(run.steps == step)
            rows.append(
                [
                    method.label,
                    str(run.settings["seed"]),
                    f"{step:,.0f}",
                    f"{run.seconds[index] / 60:.0f}",
                    *(f"{value:.2f}" for value in run.success[index]),
                    f"{run.mean[index]:.3f}",
                ]
            )
    return markdown_table(header, rows)


def _with_interval(scores: np.ndarray, aggregate: object) -> str:
    assert callable(aggregate)
    value = f"{float(aggregate(scores)):.3f}"
    if len(scores) < MIN_RUNS:
        return value
    low, high = bootstrap_interval(scores, aggregate)
    return f"{value} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
