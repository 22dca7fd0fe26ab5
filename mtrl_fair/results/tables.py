"""Tables of training runs in Markdown: summaries, tasks, curves, levels and residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mtrl_fair.results.groups import RunGroup
from mtrl_fair.results.levels import FirstTimes, task_steps_to_level, times_to_level
from mtrl_fair.results.markdown import markdown_table
from mtrl_fair.results.runs import RunResults
from mtrl_fair.results.statistics import MIN_RUNS, interquartile_mean, run_interval
from mtrl_fair.results.weights import NETWORKS, Residuals, read_residuals


def common_step(runs: Sequence[RunResults], step: int | None) -> float:
    """Returns the given step, or the last one at which all runs were evaluated.

    Raises:
        ValueError: there is none, or it is not one of those.
    """
    common = set.intersection(*(set(run.steps.tolist()) for run in runs))
    if not common:
        raise ValueError("the runs were never evaluated at the same step: give fewer of them")
    if step is not None and step not in common:
        raise ValueError(
            f"step {step} is not one at which all runs were evaluated: choose from"
            f" {', '.join(f'{value:.0f}' for value in sorted(common))}"
        )
    return max(common) if step is None else float(step)


def summary_table(groups: Sequence[RunGroup]) -> str:
    """Makes one line per group, of its last evaluation.

    All groups must have the same last evaluation. The interval of the mean is the 95 % t interval
    over whole runs, which needs three runs.
    """
    header = ["", "runs", "steps", "minutes", "mean success", "IQM", "best mean"]
    rows = []
    for group in groups:
        scores = group.success
        rows.append(
            [
                group.label,
                str(len(group.runs)),
                _steps(group.steps[-1]),
                _minutes(group.minutes[-1]),
                _with_interval(scores[:, -1]),
                f"{interquartile_mean(scores[:, -1]):.3f}" if len(scores) >= MIN_RUNS else "",
                f"{scores.mean(2).max(1).mean():.3f}",
            ]
        )
    return markdown_table(header, rows)


def level_table(groups: Sequence[RunGroup], level: float) -> str:
    """Makes one line per group: how many runs reached this mean success, and how soon.

    From three runs on, times are the median, with the least and the most in brackets. `>` marks
    where a run ended without the level. Groups without a median list all their runs, see
    `FirstTimes.median`. The group with the soonest median comes first.

    Raises:
        ValueError: see `times_to_level`.
    """
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


def task_level_table(groups: Sequence[RunGroup], level: float) -> str:
    """Makes one line per run: the steps to its first evaluation with this success of each task.

    `>` marks where the run ended without it.

    Raises:
        ValueError: see `task_steps_to_level`.
    """
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
    """Makes one line per run: its mean success at every evaluation."""
    steps = sorted({step for group in groups for run in group.runs for step in run.steps.tolist()})
    rows = []
    for group in groups:
        for run in group.runs:
            found = dict(zip(run.steps.tolist(), run.mean.tolist(), strict=True))
            values = (f"{found[step]:.3f}" if step in found else "" for step in steps)
            rows.append([group.label, str(run.settings["seed"]), *values])
    return markdown_table(["", "seed", *map(_steps, steps)], rows)


def task_table(groups: Sequence[RunGroup], step: int | None) -> str:
    """Makes one line per run: its commits, its minutes, and the success of every task.

    Args:
        step: the evaluation shown; None: the last one of each run.
    """
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
                    _steps(at),
                    _minutes(run.seconds[index] / 60),
                    *(f"{value:.2f}" for value in run.success[index]),
                    f"{run.mean[index]:.3f}",
                ]
            )
    return markdown_table(header, rows)


def residual_table(runs: Sequence[RunResults], labels: Sequence[str], step: float | None) -> str:
    """Makes one line per run: how well its task weights solved their equation, for each network.

    The values are the median and the 90th percentile of the residuals (docs/metrics.md) that the
    run logged until a step, and the share of residuals that are not finite. They are empty for a
    network whose combiner solves no equation.

    Args:
        step: the last step that counts; None: the last one that all runs logged.

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
                f"the step is {step:.0f}, but {run.path} ends at step {end:.0f}: choose an earlier"
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
            f" {steps[0]:.0f}: choose a later step, or leave it or a shorter run out"
        )
    values = values[steps <= last]
    # "higher" takes a value that was logged; interpolation would make NaN between infinite ones.
    quantiles = np.quantile(values, [0.5, 0.9], method="higher")
    return [*(f"{value:.2g}" for value in quantiles), f"{np.isinf(values).mean():.2f}"]


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
    # 9.95 and more would be shown as 10.0 with one digit after the point.
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _with_interval(scores: np.ndarray) -> str:
    value = f"{scores.mean():.3f}"
    if len(scores) < MIN_RUNS:
        return value
    low, high = run_interval(scores)
    return f"{value} [{low:.3f}, {high:.3f}]"
