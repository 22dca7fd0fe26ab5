"""Learning curves of one or more runs: success per task and their mean, over steps.

python scripts/plot.py RUN [RUN ...] [--output PATH] [--labels TEXT ...]
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes

from mtrl_fair.names import check_name
from mtrl_fair.runs import RunDirectory
from scripts.command_line import check_output, fail, or_fail


@dataclass(frozen=True)
class Arguments:
    """Draw the success rates in `evaluations.csv`, one panel per run."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories."""
    output: Path = Path("learning_curves.png")
    """The figure; its ending decides the format."""
    labels: tuple[str, ...] = ()
    """A title per run; None: the folders' names."""


def main(words: list[str]) -> None:
    """Reads the runs, draws and writes the figure."""
    arguments = tyro.cli(Arguments, args=words)
    if not arguments.runs:
        fail("no runs: give at least one run directory")
    labels = arguments.labels or tuple(Path(run).name for run in arguments.runs)
    if len(labels) != len(arguments.runs):
        fail(f"{len(labels)} labels were given for {len(arguments.runs)} runs: give one per run")
    or_fail(lambda: check_output("--output", arguments.output))
    formats = plt.figure().canvas.get_supported_filetypes()
    or_fail(lambda: check_name("format", arguments.output.suffix[1:], formats))
    curves = or_fail(lambda: [read_success(run) for run in arguments.runs])
    columns = len(curves)
    figure, axes = plt.subplots(
        1, columns, figsize=(4.6 * columns, 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, label, curve in zip(axes[0], labels, curves, strict=True):
        draw(axis, label, curve)
    axes[0, 0].set_ylabel("success rate")
    figure.savefig(arguments.output, dpi=150)
    print(f"written to {arguments.output}")


def read_success(run: str) -> dict[str, dict[int, float]]:
    """Success by task and step.

    Raises:
        RunError, ValueError: no such run, or one without evaluations.
    """
    curves: dict[str, dict[int, float]] = {}
    path = RunDirectory.open(run).path / "evaluations.csv"
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                curves.setdefault(row["task"], {})[int(row["step"])] = float(row["success"])
    if not curves:
        raise ValueError(f"{run} has no evaluation yet: wait for its first one")
    return curves


def draw(axis: Axes, label: str, curves: dict[str, dict[int, float]]) -> None:
    """One thin line per task and a thick one for their mean."""
    styles = ("-", "--")  # ten colours, then the same ones dashed
    for index, (task, curve) in enumerate(curves.items()):
        steps = list(curve)
        axis.plot(
            [step / 1000 for step in steps],
            [curve[step] for step in steps],
            styles[index // 10 % 2],
            color=f"C{index % 10}",
            linewidth=1.2,
            label=task,
        )
    steps = list(next(iter(curves.values())))
    mean = [sum(curve[step] for curve in curves.values()) / len(curves) for step in steps]
    axis.plot([step / 1000 for step in steps], mean, color="black", linewidth=2.5, label="mean")
    axis.set_title(label)
    axis.set_xlabel("vector steps (thousands)")
    axis.set_ylim(-0.03, 1.03)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)


if __name__ == "__main__":
    main(sys.argv[1:])
