"""Tables of training runs, in Markdown.

python scripts/table.py RUN [RUN ...] [--table summary|tasks] [--step S] [--level L] [--labels …]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import tyro

from scripts.benchmarks.measure import markdown_table
from scripts.command_line import fail, or_fail
from scripts.run_results import RunGroup, RunResults, group_runs, read_runs
from scripts.run_statistics import MIN_RUNS, bootstrap_interval, interquartile_mean, mean


@dataclass(frozen=True)
class Arguments:
    """Print how well training runs did, as a table in Markdown."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories. Runs that differ in their seed only are one group."""
    table: Literal["summary", "tasks"] = "summary"
    """summary: one line per group; tasks: one line per run with the success of each task."""
    step: int | None = None
    """The evaluation that counts; none: the last one that all runs have, or each run's own last one
    in a table of tasks."""
    level: float = 0.95
    """The mean success whose first step is asked for (summary)."""
    labels: tuple[str, ...] = ()
    """A name per run, the same for runs of one group; none: the settings in which runs differ."""


def main(words: list[str]) -> None:
    """Reads the runs and prints the table."""
    arguments = tyro.cli(Arguments, args=words)
    if not 0 < arguments.level <= 1:
        fail(f"--level is {arguments.level}, expected a success rate in (0, 1]")
    runs = read_runs(arguments.runs)
    print(or_fail(lambda: table(arguments, runs)))


def table(arguments: Arguments, runs: Sequence[RunResults]) -> str:
    """The table.

    Raises:
        ValueError: no such evaluation, or see `group_runs`.
    """
    groups = group_runs(runs, arguments.labels)
    if arguments.table == "tasks":
        return task_table(groups, arguments.step)
    return summary_table(groups, common_step(runs, arguments.step), arguments.level)


def common_step(runs: Sequence[RunResults], step: int | None) -> float:
    """The given step, or the last one at which all runs were evaluated.

    Raises:
        ValueError: there is none, or it is not one of those.
    """
    common = set.intersection(*(set(run.steps.tolist()) for run in runs))
    if not common:
        raise ValueError("the runs were never evaluated at the same step: give fewer of them")
    if step is not None and step not in common:
        raise ValueError(
            f"--step {step} is not one at which all runs were evaluated: choose from"
            f" {', '.join(f'{value:.0f}' for value in sorted(common))}"
        )
    return max(common) if step is None else float(step)


def summary_table(groups: Sequence[RunGroup], step: float, level: float) -> str:
    """One line per group, evaluations after the step left out. Intervals are 95 % stratified
    bootstrap ones, from three runs on."""
    header = [
        "",
        "runs",
        "steps",
        "minutes",
        "mean success",
        "IQM",
        "best mean",
        f"steps to {level:g}",
    ]
    rows = []
    for group in groups:
        so_far = group.steps <= step
        scores = group.success[:, so_far]
        means = scores.mean(2)
        rows.append(
            [
                group.label,
                str(len(group.runs)),
                f"{step:,.0f}",
                f"{group.minutes[so_far][-1]:.0f}",
                _with_interval(scores[:, -1], mean),
                _with_interval(scores[:, -1], interquartile_mean),
                f"{means.max(1).mean():.3f}",
                "; ".join(steps_to(level, group.steps[so_far], run) for run in means),
            ]
        )
    return markdown_table(header, rows)


def steps_to(level: float, steps: np.ndarray, success: np.ndarray) -> str:
    """The first evaluated step with at least this success, or that there was none so far."""
    reached = np.flatnonzero(success >= level)
    return f"{steps[reached[0]]:,.0f}" if len(reached) else f"> {steps[-1]:,.0f}"


def task_table(groups: Sequence[RunGroup], step: int | None) -> str:
    """One line per run: its commit, seed, minutes, and the success of every task."""
    tasks = groups[0].runs[0].tasks
    header = ["", "seed", "commit", "steps", "minutes", *tasks, "mean"]
    rows = []
    for group in groups:
        for run in group.runs:
            at = common_step([run], step)
            (index,) = np.flatnonzero(run.steps == at)
            rows.append(
                [
                    group.label,
                    str(run.settings["seed"]),
                    (run.run.metadata().get("commit") or "unknown")[:7],
                    f"{at:,.0f}",
                    f"{run.seconds[index] / 60:.0f}",
                    *(f"{value:.2f}" for value in run.success[index]),
                    f"{run.mean[index]:.3f}",
                ]
            )
    return markdown_table(header, rows)


def _with_interval(scores: np.ndarray, aggregate: Callable[[np.ndarray], np.ndarray]) -> str:
    value = f"{float(aggregate(scores)):.3f}"
    if len(scores) < MIN_RUNS:
        return value
    low, high = bootstrap_interval(scores, aggregate)
    return f"{value} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
