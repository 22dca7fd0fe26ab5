"""Tables of training runs, in Markdown.

python scripts/table.py RUN [RUN ...] [--table summary|tasks|curves|levels|task-levels|residuals]
    [--step S] [--until S] [--level L]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import tyro

from mtrl_fair.results.levels import DEFAULT_LEVEL, FirstTimes, task_steps_to_level, times_to_level
from mtrl_fair.results.runs import (
    RunGroup,
    RunResults,
    group_runs,
    label_runs,
    note_chosen_ends,
    note_unequal_intervals,
    read_runs,
    up_to,
)
from mtrl_fair.results.statistics import MIN_RUNS, bootstrap_interval, interquartile_mean, mean
from mtrl_fair.results.weights import NETWORKS, Residuals, read_residuals
from scripts.benchmarks.measure import markdown_table
from scripts.command_line import check_use, or_fail


@dataclass(frozen=True)
class Arguments:
    """Print how well training runs did, as a table in Markdown."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories. Runs that differ in their seed only are one group."""
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
    arguments = tyro.cli(Arguments, args=words)
    runs = read_runs(arguments.runs)
    print(or_fail(lambda: table(arguments, runs)))


def table(arguments: Arguments, runs: Sequence[RunResults]) -> str:
    """The table.

    Raises:
        ValueError: no such evaluation, or see `group_runs`, `times_to_level` and `up_to`.
    """
    for flag, value, tables in (
        ("--step", arguments.step, ("summary", "tasks", "residuals")),
        ("--until", arguments.until, ("curves",)),
        ("--level", arguments.level, ("levels", "task-levels")),
    ):
        check_use(flag, value, "--table", arguments.table, tables)
    if arguments.table == "residuals":
        return residual_table(runs, label_runs(runs, arguments.labels), arguments.step)
    summary = arguments.table == "summary"
    last = common_step(runs, arguments.step) if summary else arguments.until
    groups = group_runs(up_to(runs, last), arguments.labels)
    if arguments.table in ("levels", "task-levels"):
        note_unequal_intervals(runs)
        level = DEFAULT_LEVEL if arguments.level is None else arguments.level
        make = level_table if arguments.table == "levels" else task_level_table
        return make(groups, level)
    note_chosen_ends(runs)
    if arguments.table == "tasks":
        if arguments.step is not None:
            common_step(runs, arguments.step)
        return task_table(groups, arguments.step)
    if arguments.table == "curves":
        return curve_table(groups)
    if len(groups) > 1:
        note_unequal_intervals(runs)
    return summary_table(groups)


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


def summary_table(groups: Sequence[RunGroup]) -> str:
    """One line per group, of the last evaluation, which is the same one in all groups. Intervals
    are 95 % stratified bootstrap ones, from three runs on."""
    header = ["", "runs", "steps", "minutes", "mean success", "IQM", "best mean"]
    rows = []
    for group in groups:
        scores = group.success
        rows.append(
            [
                group.label,
                str(len(group.runs)),
                f"{group.steps[-1]:,.0f}",
                _minutes(group.minutes[-1]),
                _with_interval(scores[:, -1], mean),
                _with_interval(scores[:, -1], interquartile_mean)
                if len(scores) >= MIN_RUNS
                else "",
                f"{scores.mean(2).max(1).mean():.3f}",
            ]
        )
    return markdown_table(header, rows)


def level_table(groups: Sequence[RunGroup], level: float) -> str:
    """One line per group, that with the soonest median first: how many of its runs reached this
    mean success, and after how many steps and minutes. From three runs on that is their median, in
    brackets the least and the most that one took; > is where a run without it ended. Runs are
    listed where they have no median, see `FirstTimes.median`."""
    header = ["", "runs", "reached", f"steps to {level:g}", f"minutes to {level:g}"]
    rows = [
        [
            times.label,
            str(len(times.steps.reached)),
            str(times.steps.reached.sum()),
            _spread(times.steps, _steps),
            _spread(times.minutes, _minutes),
        ]
        for times in times_to_level(groups, level)
    ]
    return markdown_table(header, rows)


def _spread(times: FirstTimes, show: Callable[[float], str]) -> str:
    shown = [_time(*time, show) for time in zip(times.values, times.reached, strict=True)]
    if times.median is None:
        return "; ".join(shown)
    return f"{shown[times.median]} [{shown[0]}, {shown[-1]}]"


def _time(value: float, reached: bool, show: Callable[[float], str]) -> str:
    return f"{'' if reached else '> '}{show(value)}"


def _steps(value: float) -> str:
    return f"{value:,.0f}"


def _minutes(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def task_level_table(groups: Sequence[RunGroup], level: float) -> str:
    """One line per run: its seed, and the steps to its first evaluation with this success of each
    task; > is where it ended without it."""
    rows = [
        [
            group.label,
            str(run.settings["seed"]),
            *(_time(*time, _steps) for time in task_steps_to_level(run, level)),
        ]
        for group in groups
        for run in group.runs
    ]
    return markdown_table(["", "seed", *groups[0].runs[0].tasks], rows)


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
                    _minutes(run.seconds[index] / 60),
                    *(f"{value:.2f}" for value in run.success[index]),
                    f"{run.mean[index]:.3f}",
                ]
            )
    return markdown_table(header, rows)


def residual_table(runs: Sequence[RunResults], labels: Sequence[str], step: float | None) -> str:
    """One line per run: its seed, and of the residuals (docs/metrics.md) that it logged until a
    step the median, the 90th percentile and the share of those that are not finite, for critic
    and actor; nothing for a network whose combiner solves no equation.

    Raises:
        ValueError: there are no residuals, or none until this step, or a run ends before it, or see
            `read_residuals`.
    """
    logged = [read_residuals(run) for run in runs]
    ends = [steps[-1] for residuals in logged for steps, _ in residuals.values()]
    if not ends:
        raise ValueError("no run has residuals: only those with fairgrad or nash_mtl have")
    for run, residuals in zip(runs, logged, strict=True):
        end = max([run.steps[-1], *(steps[-1] for steps, _ in residuals.values())])
        if step is not None and residuals and step > end:
            raise ValueError(
                f"--step is {step:.0f}, but {run.path} ends at step {end:.0f}: choose an earlier"
                " one"
            )
    last = min(ends) if step is None else step
    rows = [
        [
            label,
            str(run.settings["seed"]),
            *(cell for network in NETWORKS for cell in _residuals(run, residuals, network, last)),
        ]
        for run, label, residuals in zip(runs, labels, logged, strict=True)
    ]
    shown = ("residual, median", "90 %", "infinite")
    return markdown_table(["", "seed", *(f"{n}: {of}" for n in NETWORKS for of in shown)], rows)


def _residuals(run: RunResults, logged: Residuals, network: str, last: float) -> list[str]:
    if network not in logged:
        return ["", "", ""]
    steps, values = logged[network]
    if last < steps[0]:
        raise ValueError(
            f"{run.path} has no residual up to step {last:.0f}, its first one is of step"
            f" {steps[0]:.0f}: choose a later --step, or leave it or a shorter run out"
        )
    values = values[steps <= last]
    quantiles = np.quantile(values, [0.5, 0.9], method="higher")  # no means of infinite ones
    return [*(f"{value:.2g}" for value in quantiles), f"{np.isinf(values).mean():.2f}"]


def _with_interval(scores: np.ndarray, aggregate: Callable[[np.ndarray], np.ndarray]) -> str:
    value = f"{float(aggregate(scores)):.3f}"
    if len(scores) < MIN_RUNS:
        return value
    low, high = bootstrap_interval(scores, aggregate)
    return f"{value} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
