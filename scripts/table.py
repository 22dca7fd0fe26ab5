"""Tables of training runs, in Markdown.

python scripts/table.py RUN [RUN ...] [--table summary|tasks|curves|levels] [--step S] [--level L]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import tyro

from scripts.benchmarks.measure import markdown_table
from scripts.command_line import or_fail
from scripts.run_levels import DEFAULT_LEVEL, FirstTimes, times_to_level
from scripts.run_results import RunGroup, RunResults, group_runs, read_runs
from scripts.run_statistics import MIN_RUNS, bootstrap_interval, interquartile_mean, mean


@dataclass(frozen=True)
class Arguments:
    """Print how well training runs did, as a table in Markdown."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories. Runs that differ in their seed only are one group."""
    table: Literal["summary", "tasks", "curves", "levels"] = "summary"
    """summary: one line per group; tasks: one line per run with the success of each task; curves:
    one line per run with the mean success at each evaluation; levels: one line per group with the
    steps and minutes to a mean success."""
    step: int | None = None
    """The evaluation that counts; none: the last one that all runs have, or each run's own last one
    in a table of tasks (summary, tasks)."""
    level: float | None = None
    """The mean success that is waited for; none: 0.95 (levels)."""
    labels: tuple[str, ...] = ()
    """A name per run, the same for runs of one group; none: the settings in which runs differ."""


def main(words: list[str]) -> None:
    """Reads the runs and prints the table."""
    arguments = tyro.cli(Arguments, args=words)
    runs = read_runs(arguments.runs)
    print(or_fail(lambda: table(arguments, runs)))


def table(arguments: Arguments, runs: Sequence[RunResults]) -> str:
    """The table.

    Raises:
        ValueError: no such evaluation, or see `group_runs` and `times_to_level`.
    """
    for flag, value, tables in (
        ("--step", arguments.step, ("summary", "tasks")),
        ("--level", arguments.level, ("levels",)),
    ):
        if value is not None and arguments.table not in tables:
            raise ValueError(
                f"{flag} is {value}, but --table {arguments.table} has no use for it: choose"
                f" --table {' or '.join(tables)}, or leave it out"
            )
    groups = group_runs(runs, arguments.labels)
    if arguments.table == "tasks":
        return task_table(groups, arguments.step)
    if arguments.table == "curves":
        return curve_table(groups)
    if arguments.table == "levels":
        _note_unequal_intervals(runs)
        level = DEFAULT_LEVEL if arguments.level is None else arguments.level
        return level_table(groups, level)
    _note_chosen_ends(runs)
    return summary_table(groups, common_step(runs, arguments.step))


def _note_chosen_ends(runs: Sequence[RunResults]) -> None:
    """Says on standard error that a run ended at an evaluation for its success."""
    stopping = [str(run.path) for run in runs if run.settings["stop_at_success"] is not None]
    if stopping:
        print(
            f"note: {', '.join(stopping)} ran with --stop-at-success: a success at which a run ends"
            " is a high one; compare such runs with --table levels",
            file=sys.stderr,
        )


def _note_unequal_intervals(runs: Sequence[RunResults]) -> None:
    """Says on standard error that some runs had more chances to reach the level."""
    intervals = sorted({run.settings["eval_every"] for run in runs})
    if len(intervals) > 1:
        print(
            f"note: the runs were evaluated every {', '.join(map(str, intervals))} steps: those"
            " evaluated more often tend to reach a level earlier",
            file=sys.stderr,
        )


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


def summary_table(groups: Sequence[RunGroup], step: float) -> str:
    """One line per group, evaluations after the step left out. Intervals are 95 % stratified
    bootstrap ones, from three runs on."""
    header = ["", "runs", "steps", "minutes", "mean success", "IQM", "best mean"]
    rows = []
    for group in groups:
        so_far = group.steps <= step
        scores = group.success[:, so_far]
        rows.append(
            [
                group.label,
                str(len(group.runs)),
                f"{step:,.0f}",
                f"{group.minutes[so_far][-1]:.0f}",
                _with_interval(scores[:, -1], mean),
                _with_interval(scores[:, -1], interquartile_mean)
                if len(scores) >= MIN_RUNS
                else "",
                f"{scores.mean(2).max(1).mean():.3f}",
            ]
        )
    return markdown_table(header, rows)


def level_table(groups: Sequence[RunGroup], level: float) -> str:
    """One line per group, that with the soonest median first: how many of its runs had this mean
    success, and after how many steps and minutes. From three runs on that is their median, in
    brackets the least and the most that one took; > is where a run without it ended. Runs are
    listed where they have no median, see `FirstTimes.middle`."""
    header = ["", "runs", "reached", f"steps to {level:g}", f"minutes to {level:g}"]
    rows = [
        [
            times.label,
            str(len(times.steps.reached)),
            str(times.steps.reached.sum()),
            _spread(times.steps),
            _spread(times.minutes),
        ]
        for times in times_to_level(groups, level)
    ]
    return markdown_table(header, rows)


def _spread(times: FirstTimes) -> str:
    shown = [
        f"{'' if reached else '> '}{value:,.0f}"
        for value, reached in zip(times.values, times.reached, strict=True)
    ]
    if not times.middle:
        return "; ".join(shown)
    middle = dict.fromkeys(shown[index] for index in times.middle)
    return f"{' to '.join(middle)} [{shown[0]}, {shown[-1]}]"


def curve_table(groups: Sequence[RunGroup]) -> str:
    """One line per run: its seed, and its mean success at every evaluation."""
    steps = sorted({step for group in groups for run in group.runs for step in run.steps.tolist()})
    rows = []
    for group in groups:
        for run in group.runs:
            found = dict(zip(run.steps.tolist(), run.mean.tolist(), strict=True))
            values = (f"{found[step]:.3f}" if step in found else "" for step in steps)
            rows.append([group.label, str(run.settings["seed"]), *values])
    return markdown_table(["", "seed", *(f"{step:,.0f}" for step in steps)], rows)


def task_table(groups: Sequence[RunGroup], step: int | None) -> str:
    """One line per run: its commits, seed, minutes, and the success of every task."""
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
                    " ".join(run.commits),
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
