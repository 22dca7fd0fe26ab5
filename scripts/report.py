"""A run on the terminal: a live display, or plain lines when the output is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from envs import Evaluation


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """Success, standard error, return and episode length per task, and their means."""
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    for heading in ("success", "± s.e.", "return", "episode length"):
        table.add_column(heading, justify="right")
    rows = zip(
        evaluation.task_names,
        evaluation.success,
        evaluation.standard_error,
        evaluation.returns.mean(1),
        evaluation.lengths.mean(1),
        strict=True,
    )
    for name, success, error, returned, length in rows:
        table.add_row(name, f"{success:.2f}", f"{error:.2f}", f"{returned:.0f}", f"{length:.0f}")
    table.add_section()
    table.add_row(
        "mean",
        f"{evaluation.mean_success:.2f}",
        "",
        f"{evaluation.returns.mean():.0f}",
        f"{evaluation.lengths.mean():.0f}",
        style="bold",
    )
    return table


class PlainReporter:
    """One line per report, for logs."""

    def __init__(self, console: Console, total_steps: int):
        self.console = console
        self.total_steps = total_steps
        self.success: float | None = None

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        parts = [f"step {step}/{self.total_steps}", _pace(step, self.total_steps, metrics)]
        if self.success is not None:
            parts.append(f"success {self.success:.2f}")
        for label in ("critic", "actor"):
            if f"losses/{label}" in metrics:
                parts.append(f"{label} loss {metrics[f'losses/{label}']:.3g}")
        self._line("  ".join(parts))

    def evaluating(self, step: int) -> None:
        self._line(f"step {step}/{self.total_steps}  evaluating …")

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.success = evaluation.mean_success
        self.console.print(evaluation_table(evaluation, f"evaluation at step {step}"))

    def _line(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)


class LiveReporter:
    """A table that stays in place: progress, and per task the latest success and weights."""

    def __init__(self, console: Console, total_steps: int, task_names: tuple[str, ...]):
        self.total_steps = total_steps
        self.task_names = task_names
        self.step = 0
        self.latest: dict[str, float] = {}
        self.status = "collecting random transitions"
        self.evaluated: tuple[int, Evaluation] | None = None
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=2)

    def __enter__(self) -> LiveReporter:
        self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.live.stop()

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.step = step
        self.latest = self.latest | metrics
        self.status = _pace(step, self.total_steps, metrics)

    def evaluating(self, step: int) -> None:
        self.step = step
        self.status = f"evaluating since {time.strftime('%H:%M:%S')} …"

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.evaluated = (step, evaluation)

    def render(self) -> Group:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            f"step {self.step}/{self.total_steps}",
            ProgressBar(self.total_steps, self.step, width=30),
            self.status,
        )
        table = Table()
        table.add_column("task")
        headings = ("success", "critic loss", "actor loss", "critic weight", "actor weight")
        for heading in headings:
            table.add_column(heading, justify="right")
        for row, name in enumerate(self.task_names):
            success = "–"
            if self.evaluated is not None:
                success = f"{self.evaluated[1].success[row]:.2f}"
            keys = (
                f"losses/critic/{name}",
                f"losses/actor/{name}",
                f"fairness/weight/{name}/critic",
                f"fairness/weight/{name}/actor",
            )
            table.add_row(name, success, *(self._number(key) for key in keys))
        foot = Text("no evaluation yet")
        if self.evaluated is not None:
            step, evaluation = self.evaluated
            foot = Text(f"mean success {evaluation.mean_success:.2f} at step {step}", style="bold")
        return Group(head, table, foot)

    def _number(self, key: str) -> str:
        return f"{self.latest[key]:.3g}" if key in self.latest else "–"


def make_reporter(
    console: Console, total_steps: int, task_names: tuple[str, ...]
) -> PlainReporter | LiveReporter:
    """A live display on a terminal, plain lines elsewhere."""
    if console.is_terminal:
        return LiveReporter(console, total_steps, task_names)
    return PlainReporter(console, total_steps)


def _pace(step: int, total_steps: int, metrics: dict[str, float]) -> str:
    speed = metrics["charts/steps_per_second"]
    minutes, seconds = divmod(round((total_steps - step) / speed), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{speed:.1f} steps/s  {hours}:{minutes:02}:{seconds:02} left"
