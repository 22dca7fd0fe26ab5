"""Figures of training runs.

python scripts/plot.py RUN [RUN ...] [--figure success|tasks|runs|levels|weights] [--level L]
    [--until S] [--output PATH ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import matplotlib.pyplot as plt
import tyro
from matplotlib.figure import Figure

from mtrl_fair.checks import check_name
from mtrl_fair.results import figures, notes
from mtrl_fair.results.figure_files import file_format, save_figure
from mtrl_fair.results.groups import check_labels, group_runs
from mtrl_fair.results.levels import DEFAULT_LEVEL
from mtrl_fair.results.runs import RunResults, until_step
from scripts.command_line import (
    bad_input_is_one_line,
    check_output,
    check_use,
    parse_class,
    print_notes,
    writing,
)
from scripts.comparing.training_runs import read_training_runs


@dataclass(frozen=True)
class Arguments:
    """Draw the success rates of training runs, or the weights of their tasks."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories, zip files of runs, or runs in a zip file (FILE.zip/NAME). Runs that differ
    in their seed only are one line, their mean."""
    figure: Literal["success", "tasks", "runs", "levels", "weights"] = "success"
    """success: groups of runs compared, over steps and minutes; tasks: the same over steps, one
    panel per task; runs: one panel per run, one line per task; levels: when the runs of each group
    first reached a mean success; weights: one run's weights and gradient norms."""
    output: tuple[Path, ...] = (Path("curves.png"),)
    """The files to write; their endings decide the formats: png, svg, pdf, …"""
    level: float | None = None
    """The mean success that is waited for; none: 0.95 (levels)."""
    until: int | None = None
    """The step after which evaluations are left out; none: all are shown (success, tasks, runs)."""
    labels: tuple[str, ...] = ()
    """A name per run, the same for runs of one group; none: the settings in which runs differ."""


def main(words: list[str]) -> None:
    """Reads the runs, draws and writes the figure."""
    arguments = parse_class(Arguments, words)
    plt.rcParams["svg.hashsalt"] = "mtrl-fair"  # Else names within an SVG are random.
    runs = read_training_runs(arguments.runs)
    with bad_input_is_one_line():
        check_files(arguments.output)
        figure, remarks = draw(arguments, runs)
    print_notes(remarks)
    for path in arguments.output:
        with writing("--output", path):
            save_figure(figure, path)
        print(f"written to {path}")


def check_files(paths: Sequence[Path]) -> None:
    """Raises ValueError unless figures can be written there."""
    if not paths:
        raise ValueError("--output names no file: give at least one, or leave it out")
    formats = Figure().canvas.get_supported_filetypes()
    for path in paths:
        check_output("--output", path)
        check_name(f"ending of --output {path}", file_format(path), formats)


def draw(arguments: Arguments, runs: Sequence[RunResults]) -> tuple[Figure, list[str]]:
    """Draws the figure, and collects notes on what makes a comparison unfair.

    Raises:
        ValueError: a run without what the figure shows, or see `group_runs`, `times_to_level` and
            `until_step`.
    """
    chosen = arguments.figure
    check_use("--level", arguments.level, "--figure", chosen, ("levels",))
    check_use("--until", arguments.until, "--figure", chosen, ("success", "tasks", "runs"))
    runs = until_step(runs, arguments.until)
    if chosen in ("runs", "weights"):
        check_labels(runs, arguments.labels)
        labels = arguments.labels or tuple(run.name for run in runs)
        if chosen == "runs":
            return figures.run_figure(runs, labels), []
        if len(runs) > 1:
            raise ValueError(f"--figure weights shows one run, but {len(runs)} were given")
        return figures.weight_figure(runs[0], labels[0]), []
    groups = group_runs(runs, arguments.labels)
    remarks = notes.mixed_commits(groups)
    if chosen == "levels":
        level = DEFAULT_LEVEL if arguments.level is None else arguments.level
        remarks += notes.unequal_intervals(runs)
        return figures.level_figure(groups, level), remarks
    remarks += notes.stopped_at_success(runs)
    make = figures.success_figure if chosen == "success" else figures.task_figure
    return make(groups), remarks


if __name__ == "__main__":
    main(sys.argv[1:])
