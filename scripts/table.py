"""Tables of training runs, in Markdown.

python scripts/table.py RUN [RUN ...] [--table summary|tasks|curves|levels|task-levels|residuals]
    [--step S] [--until S] [--level L]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from mtrl_fair.results import notes
from mtrl_fair.results.groups import group_runs, label_runs
from mtrl_fair.results.levels import DEFAULT_LEVEL
from mtrl_fair.results.runs import RunResults, until_step
from mtrl_fair.results.tables import (
    common_step,
    curve_table,
    level_table,
    residual_table,
    summary_table,
    task_level_table,
    task_table,
)
from scripts.command_line import bad_input_is_one_line, check_use, parse_class, print_notes
from scripts.comparing.training_runs import read_training_runs


@dataclass(frozen=True)
class Arguments:
    """Print how well training runs did, as a table in Markdown."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories, zip files of runs, or runs in a zip file (FILE.zip/NAME). Runs that differ
    in their seed only are one group."""
    table: Literal["summary", "tasks", "curves", "levels", "task-levels", "residuals"] = "summary"
    """summary: one line per group; tasks: one line per run with the success of each task; curves:
    one line per run with the mean success at each evaluation; levels: one line per group with the
    steps and minutes to a mean success; task-levels: one line per run with the steps to a success
    of each task; residuals: one line per run with how well its weights solved the equation of
    FairGrad or Nash-MTL."""
    step: int | None = None
    """The evaluation that counts; none: the last one that all runs have, or each run's own last one
    in a table of tasks (summary, tasks). The last step that counts; none: the last one that all
    runs logged (residuals)."""
    until: int | None = None
    """The step after which evaluations are left out; none: all are shown (curves)."""
    level: float | None = None
    """The success that is waited for; none: 0.95 (levels, task-levels)."""
    labels: tuple[str, ...] = ()
    """A name per run, the same for runs of one group; none: the settings in which runs differ."""


def main(words: list[str]) -> None:
    """Reads the runs and prints the table."""
    arguments = parse_class(Arguments, words)
    runs = read_training_runs(arguments.runs)
    with bad_input_is_one_line():
        shown, remarks = make_table(arguments, runs)
    print_notes(remarks)
    print(shown)


def make_table(arguments: Arguments, runs: Sequence[RunResults]) -> tuple[str, list[str]]:
    """Makes the table, and notes on what makes a comparison unfair.

    Raises:
        ValueError: no such evaluation, or see `group_runs`, `times_to_level` and `until_step`.
    """
    chosen = arguments.table
    for flag, value, tables in (
        ("--step", arguments.step, ("summary", "tasks", "residuals")),
        ("--until", arguments.until, ("curves",)),
        ("--level", arguments.level, ("levels", "task-levels")),
    ):
        check_use(flag, value, "--table", chosen, tables)
    if chosen == "residuals":
        return residual_table(runs, label_runs(runs, arguments.labels), arguments.step), []
    last = common_step(runs, arguments.step) if chosen == "summary" else arguments.until
    groups = group_runs(until_step(runs, last), arguments.labels)
    remarks = notes.mixed_commits(groups)
    if chosen in ("levels", "task-levels"):
        remarks += notes.unequal_intervals(runs)
        level = DEFAULT_LEVEL if arguments.level is None else arguments.level
        make = level_table if chosen == "levels" else task_level_table
        return make(groups, level), remarks
    remarks += notes.stopped_at_success(runs)
    if chosen == "tasks":
        if arguments.step is not None:
            common_step(runs, arguments.step)
        return task_table(groups, arguments.step), remarks
    if chosen == "curves":
        return curve_table(groups), remarks
    if len(groups) > 1:
        remarks += notes.unequal_intervals(runs)
    return summary_table(groups), remarks


if __name__ == "__main__":
    main(sys.argv[1:])
