"""Copies what tables and figures need of training runs into a folder or one compressed file.

python scripts/archive.py RUN [RUN ...] --output FOLDER|FILE.zip [--lines N] [--metrics PREFIX ...]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mtrl_fair.results.copies import (
    DEFAULT_METRICS,
    check_metrics,
    check_targets,
    copied_metrics,
    write_copies,
)
from scripts.command_line import bad_input_is_one_line, fail, parse_class, writing
from scripts.comparing.training_runs import read_training_runs


@dataclass(frozen=True)
class Arguments:
    """Copy configuration, versions and evaluations of runs, averages of task weights and other
    metrics, and residuals.

    plot.py and table.py read the copies as they read runs. Copies hold no checkpoint.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories, zip files of runs, or runs in a zip file (FILE.zip/NAME)."""
    output: Path
    """The folder that receives one folder per run, under the run's name; or, if it ends with .zip,
    the file that receives them. An earlier copy of the same run is replaced, nothing else."""
    lines: int = 60
    """Parts of the run over which metrics are averaged; 0: no metrics but the times of
    evaluations."""
    metrics: tuple[str, ...] | None = None
    """Prefixes of further metrics to copy, beside task weights, gradient norms and residuals; none:
    charts/steps_per_second, q/mean/ and reward/."""


def main(words: list[str]) -> None:
    """Checks all runs and gathers what is to be written, then writes it."""
    arguments = parse_class(Arguments, words)
    if arguments.lines < 0:
        fail(f"--lines is {arguments.lines}, expected 0 or more")
    if arguments.metrics is not None and not arguments.lines:
        fail("--metrics has no effect with --lines 0, which leaves metrics out: drop one of them")
    prefixes = DEFAULT_METRICS if arguments.metrics is None else arguments.metrics
    runs = read_training_runs(arguments.runs)
    with bad_input_is_one_line():
        check_metrics(runs, arguments.metrics or ())
        targets = check_targets(runs, arguments.output)
        copies = [(run, copied_metrics(run, arguments.lines, prefixes)) for run in runs]
    with writing("--output", arguments.output):
        write_copies(copies, arguments.output)
    for target in targets:
        print(f"written to {target}")


if __name__ == "__main__":
    main(sys.argv[1:])
