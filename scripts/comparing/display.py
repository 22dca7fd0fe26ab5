"""Shows supervised trainings: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from mtrl_fair.supervised.jobs import Ended, Job
from mtrl_fair.supervised.trainer import Progress as TrainingProgress

SECONDS_BETWEEN_LINES = 10.0
LONGEST_METRICS = 4


class PlainDisplay:
    """Prints a line for every training that ends, and now and then one for those that run."""

    def __init__(self, console: Console, jobs: Sequence[Job]):
        self.console = console
        self.number = len(jobs)
        self.ended_jobs = 0
        self.printed: dict[str, float] = {}

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def started(self, job: Job) -> None:
        self.printed[job.name] = time.monotonic()

    def progress(self, job: Job, progress: TrainingProgress) -> None:
        due = time.monotonic() - self.printed[job.name] > SECONDS_BETWEEN_LINES
        if progress.values is not None and due:
            self.printed[job.name] = time.monotonic()
            self.console.print(f"{job.name}  {_state(progress)}")

    def ended(self, job: Job, ended: Ended) -> None:
        self.ended_jobs += 1
        how = "finished" if ended.finished else "failed" if ended.error else "stopped"
        self.console.print(f"{job.name}  {how}  ({self.ended_jobs} of {self.number})")
        if ended.error is not None:
            print(f"error: {job.name}: {error_message(job, ended)}", file=sys.stderr)


class LiveDisplay:
    """Shows a bar for all trainings and one for each that runs."""

    def __init__(self, console: Console, jobs: Sequence[Job]):
        self.bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16, table_column=Column(min_width=8)),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4)),
            TimeRemainingColumn(table_column=Column(min_width=7)),
            # Where the terminal is narrow, the metrics give way.
            TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            expand=True,
        )
        self.shares = {job.name: 0.0 for job in jobs}
        self.all = self.bars.add_task("all trainings", total=max(1, len(jobs)), state="")
        self.running: dict[str, TaskID] = {}
        self.states: dict[str, str] = {}

    def __enter__(self) -> LiveDisplay:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def started(self, job: Job) -> None:
        self.running[job.name] = self.bars.add_task(job.name, total=1.0, state="starting")

    def progress(self, job: Job, progress: TrainingProgress) -> None:
        if progress.values is not None:
            self.states[job.name] = _state(progress)
        state = self.states.get(job.name, f"epoch 0/{progress.epochs}")
        self.bars.update(self.running[job.name], completed=progress.share, state=state)
        self._advance(job, progress.share)

    def ended(self, job: Job, ended: Ended) -> None:
        self.bars.remove_task(self.running.pop(job.name))
        if ended.error is not None:
            message = f"error: {job.name}: {error_message(job, ended)}"
            self.bars.console.print(message, markup=False)
        self._advance(job, 1.0 if ended.finished else self.shares[job.name])

    def _advance(self, job: Job, share: float) -> None:
        self.shares[job.name] = share
        finished = sum(share >= 1 for share in self.shares.values())
        state = f"{finished} of {len(self.shares)} finished"
        self.bars.update(self.all, completed=sum(self.shares.values()), state=state)


def make_display(
    console: Console, jobs: Sequence[Job]
) -> AbstractContextManager[PlainDisplay | LiveDisplay]:
    """Makes live bars on a terminal, plain lines elsewhere."""
    return LiveDisplay(console, jobs) if console.is_terminal else PlainDisplay(console, jobs)


def error_message(job: Job, ended: Ended) -> str:
    """Returns the error of a training, and which flags help against it."""
    if ended.cause == "out of memory":
        return f"{ended.error} Lower --batch-size or --jobs in a new run"
    if ended.cause != "not finite":
        return str(ended.error)
    ways_out = ["a lower --learning-rate"]
    if job.config.alpha_fair is not None:
        ways_out.append("no --alpha-fair, which needs positive losses")
    if job.config.combiner in ("si", "famo"):
        method = job.config.combiner
        ways_out.append(f"another method than {method}, which takes logarithms of losses")
    return f"{ended.error}: start a new run with {', or '.join(ways_out)}"


def _state(progress: TrainingProgress) -> str:
    values = progress.values or {}
    parts = [f"{name} {value:.4g}" for name, value in list(values.items())[:LONGEST_METRICS]]
    more = " …" if len(values) > LONGEST_METRICS else ""
    return f"epoch {progress.epoch}/{progress.epochs}  {'  '.join(parts)}{more}"
