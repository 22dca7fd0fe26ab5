"""Display of a run: live on a terminal, or as plain lines where the output is no terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from envs import Evaluation
from scripts.training.loop import Reporter


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """Returns a table of success, its standard error, return and length per task, with means."""
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
    """Prints a line per report, for logs."""

    def __init__(self, console: Console, total_steps: int):
        self.console = console
        self.total_steps = total_steps
        self.success: float | None = None
        self.announced = 0

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def advance(self, step: int) -> None:
        return

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        parts = [f"step {step}/{self.total_steps}", _pace(step, self.total_steps, metrics)]
        if self.success is not None:
            parts.append(f"success {self.success:.2f}")
        for label in ("critic", "actor"):
            if f"losses/{label}" in metrics:
                parts.append(f"{label} loss {metrics[f'losses/{label}']:.3g}")
        self.console.print("  ".join(parts))

    def evaluating(self, step: int, share: float) -> None:
        if step != self.announced:
            self.announced = step
            self.console.print(f"step {step}/{self.total_steps}  evaluating …")

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.success = evaluation.mean_success
        self.console.print(evaluation_table(evaluation, f"evaluation at step {step}"))

    def warning(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False)


class LiveReporter:
    """Shows a table that stays in place: progress, and per task the latest success and weights."""

    def __init__(self, console: Console, total_steps: int, task_names: tuple[str, ...]):
        self.console = console
        self.total_steps = total_steps
        self.task_names = task_names
        self.step = 0
        self.latest: dict[str, float] = {}
        self.status = "starting"
        self.evaluated: tuple[int, Evaluation] | None = None
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=2)

    def __enter__(self) -> LiveReporter:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()
        if self.evaluated is not None:
            step, evaluation = self.evaluated
            self.console.print(evaluation_table(evaluation, f"evaluation at step {step}"))

    def advance(self, step: int) -> None:
        self.step = step

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.latest = self.latest | metrics
        self.status = _pace(step, self.total_steps, metrics)

    def evaluating(self, step: int, share: float) -> None:
        self.step = step
        self.status = f"evaluating: {share:.0%}"

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.evaluated = (step, evaluation)
        self.status = "training"

    def warning(self, text: str) -> None:
        # It appears above what stays in place.
        self.console.print(f"warning: {text}", style="bold", markup=False)

    def render(self) -> Group:
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(self.total_steps, self.step, width=30)
        head.add_row(f"step {self.step}/{self.total_steps}", bar, self.status)
        mean = Text("no evaluation yet")
        if self.evaluated is not None:
            step, evaluation = self.evaluated
            mean = Text(f"mean success {evaluation.mean_success:.2f} at step {step}", style="bold")
        table = Table()
        table.add_column("task")
        headings = ("success", "critic loss", "actor loss", "critic weight", "actor weight")
        for heading in headings:
            table.add_column(heading, justify="right")
        for row, name in enumerate(self.task_names):
            success = "–" if self.evaluated is None else f"{self.evaluated[1].success[row]:.2f}"
            keys = (
                f"losses/critic/{name}",
                f"losses/actor/{name}",
                f"fairness/weight/{name}/critic",
                f"fairness/weight/{name}/actor",
            )
            table.add_row(name, success, *(self._number(key) for key in keys))
        return Group(head, mean, table)

    def _number(self, key: str) -> str:
        return f"{self.latest[key]:.3g}" if key in self.latest else "–"


def make_reporter(
    console: Console, total_steps: int, task_names: tuple[str, ...]
) -> AbstractContextManager[Reporter]:
    """Returns a live display on a terminal, and plain lines elsewhere."""
    if console.is_terminal:
        return LiveReporter(console, total_steps, task_names)
    return PlainReporter(console, total_steps)


def _pace(step: int, total_steps: int, metrics: dict[str, float]) -> str:
    speed = metrics["charts/steps_per_second"]
    minutes, seconds = divmod(round((total_steps - step) / speed), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{speed:.1f} steps/s  {hours}:{minutes:02}:{seconds:02} left"
