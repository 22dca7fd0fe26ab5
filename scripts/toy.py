"""The toy problem of the FairGrad paper (Figure 1): trajectories to the Pareto front.

python scripts/toy.py [--alphas 0 1 2 10] [--output DIR]
python scripts/toy.py --combiner NAME

Gradient descent with directions of norm 1 at most follows the combined direction. The paper takes
Adam (--optimizer adam), which scales each coordinate by itself and so turns the directions: from
(-8.5, 7.5) and (-7.5, -0.5) larger alphas then end with a larger first loss.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mtrl_fair import check_alpha
from mtrl_fair.checks import check_name
from mtrl_fair.supervised.benchmarks.toy_problem import (
    FRONT_END,
    STARTS,
    toy_front,
    toy_front_gap,
    toy_losses,
)
from scripts.command_line import or_fail
from scripts.toy_figures.descent import (
    OPTIMIZERS,
    Method,
    Optimizer,
    Trajectories,
    combiner_method,
    descend,
    fairgrad_method,
)

ALPHAS = (0.0, 1.0, 2.0, 10.0)
LIMIT = 11.0
TIME_COLOURS = "plasma"
COLOUR_EVERY = 4  # records: a path for each would make SVGs of many megabytes


@dataclass(frozen=True)
class Arguments:
    """Descend from the paper's five starts until the Pareto front is reached, draw the trajectories
    in loss space and in parameter space, and print where they end.

    A trajectory has reached the front, and stops, when its losses are within 1e-5 of it.
    """

    alphas: tuple[float, ...] = ALPHAS
    """FairGrad's fairness exponents, one panel each; 0 is the sum of the losses."""
    combiner: str | None = None
    """Another method by its name, in place of the alphas."""
    min_loss: float | None = None
    """With --combiner si, dwa, uw or famo, which need a lower bound of the losses: -21 will do."""
    optimizer: str = "sgd"
    """sgd: gradient descent with directions of norm 1 at most; adam: as in the paper, slower."""
    steps: int | None = None
    """Steps at most; None: 16,000 with sgd and 40,000 with adam."""
    learning_rate: float | None = None
    """The optimiser's; None: 0.02 for sgd and 0.001 for adam."""
    seed: int = 0
    """For combiners that draw random numbers."""
    output: Path = Path("toy")
    """A folder for the figures, made if it is not there."""


def main(words: list[str]) -> None:
    """Checks, descends, draws, prints."""
    arguments = tyro.cli(Arguments, args=words)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)  # for tensors this small, more would wait for each other
    methods = or_fail(lambda: make_methods(arguments))
    optimizer = or_fail(lambda: make_optimizer(arguments))
    or_fail(lambda: make_output(arguments.output))
    trajectories = or_fail(lambda: descend(methods, optimizer))
    Console().print(result_table(methods, trajectories))
    prefix = f"toy_{arguments.combiner}" if arguments.combiner else "toy"
    for space, draw in {"loss": draw_loss_space, "parameter": draw_parameter_space}.items():
        figure = draw(methods, trajectories)
        for ending in ("png", "svg"):
            path = arguments.output / f"{prefix}_{space}_space.{ending}"
            figure.savefig(path, dpi=200)
            print(f"written to {path}")
        plt.close(figure)


def make_methods(arguments: Arguments) -> list[Method]:
    """One method per alpha, or the one that is named.

    Raises:
        ValueError: arguments that make no sense.
    """
    if arguments.combiner is not None:
        if arguments.alphas != ALPHAS:
            raise ValueError("--alphas belongs to FairGrad: leave it or --combiner out")
        return [combiner_method(arguments.combiner, arguments.min_loss)]
    if arguments.min_loss is not None:
        raise ValueError("--min-loss belongs to a combiner: name it with --combiner")
    if not arguments.alphas:
        raise ValueError("--alphas is empty: give at least one fairness exponent")
    for alpha in arguments.alphas:
        check_alpha(alpha)
    return [fairgrad_method(alpha) for alpha in arguments.alphas]


def make_optimizer(arguments: Arguments) -> Optimizer:
    """The optimiser that is named, with the flags in place of its own numbers.

    Raises:
        ValueError: arguments that make no sense.
    """
    check_name("optimizer", arguments.optimizer, OPTIMIZERS)
    optimizer = OPTIMIZERS[arguments.optimizer]
    if arguments.steps is not None:
        optimizer = optimizer._replace(steps=arguments.steps)
    if arguments.learning_rate is not None:
        optimizer = optimizer._replace(learning_rate=arguments.learning_rate)
    if optimizer.steps < 1:
        raise ValueError(f"--steps is {optimizer.steps}, expected at least 1")
    if not 0 < optimizer.learning_rate < float("inf"):
        raise ValueError(
            f"--learning-rate is {optimizer.learning_rate}, expected a positive number"
        )
    return optimizer


def make_output(path: Path) -> None:
    """Makes the folder.

    Raises:
        ValueError: it cannot be made, or no file can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"--output {path}: {error.strerror}: give a folder that can be written"
        ) from error


def result_table(methods: Sequence[Method], trajectories: Trajectories) -> Table:
    """Where every trajectory ended."""
    table = Table(
        title="final losses and their distance to the Pareto front (gap)", title_justify="left"
    )
    table.add_column("method")
    for heading in ("start", "loss 1", "loss 2", "gap", "steps to the front"):
        table.add_column(heading, justify="right")
    final = trajectories.losses[-1]
    gaps = toy_front_gap(final)
    for i, method in enumerate(methods):
        for j, start in enumerate(STARTS):
            loss_1, loss_2 = final[i, j].tolist()
            step = int(trajectories.reached[i, j])
            table.add_row(
                method.name,
                f"({start[0]:g}, {start[1]:g})",
                f"{loss_1:.3f}",
                f"{loss_2:.3f}",
                f"{float(gaps[i, j]):.1e}",
                f"{step}" if step >= 0 else "not reached",
            )
        table.add_section()
    return table


def draw_loss_space(methods: Sequence[Method], trajectories: Trajectories) -> Figure:
    """One panel per method: the front, the starts, the trajectories coloured by time."""
    columns = len(methods)
    figure, axes = plt.subplots(
        1,
        columns,
        figsize=(2.7 * columns + 1.0, 3.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    front = toy_losses(front_curve())
    for i, (axis, method) in enumerate(zip(axes[0], methods, strict=True)):
        axis.plot(*front.T, color="0.72", linewidth=7, solid_capstyle="round", zorder=1)
        draw_trajectories(axis, trajectories, trajectories.losses[:, i], i)
        axis.set_title(method.title)
        axis.set_xlabel(r"$\ell_1$")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(r"$\ell_2$")
    add_legend(figure)
    add_time_bar(figure, list(axes[0]), trajectories)
    return figure


def draw_parameter_space(methods: Sequence[Method], trajectories: Trajectories) -> Figure:
    """The trajectories over the contours of both losses and of their mean, per method."""
    shape = (3, len(methods)) if len(methods) > 1 else (1, 3)
    figure, axes = plt.subplots(
        *shape,
        figsize=(2.6 * shape[1] + 1.0, 2.6 * shape[0] + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    grid = torch.linspace(-LIMIT, LIMIT, 301, dtype=torch.float64)
    x1, x2 = torch.meshgrid(grid, grid, indexing="xy")
    losses = toy_losses(torch.stack((x1, x2), -1))
    surfaces = {
        r"$\ell_1$": losses[..., 0],
        r"$\ell_2$": losses[..., 1],
        r"$(\ell_1 + \ell_2)/2$": losses.mean(-1),
    }
    front = front_curve()
    for i, method in enumerate(methods):
        panels = axes[:, i] if len(methods) > 1 else axes[0]
        for axis, (name, surface) in zip(panels, surfaces.items(), strict=True):
            axis.contour(
                x1, x2, surface, levels=20, cmap="Greys_r", alpha=0.6, linewidths=0.7, zorder=0
            )
            axis.plot(*front.T, color="0.6", linewidth=5, solid_capstyle="round", zorder=1)
            draw_trajectories(axis, trajectories, trajectories.points[:, i], i)
            axis.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
            axis.set_xticks([-10, -5, 0, 5, 10])
            axis.set_yticks([-10, -5, 0, 5, 10])
            axis.text(
                *(0.5, 0.95, name),
                transform=axis.transAxes,
                ha="center",
                va="top",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 2.0},
            )
        panels[0].set_title(method.title)
    for axis in axes[-1]:
        axis.set_xlabel(r"$x_1$")
    for axis in axes[:, 0]:
        axis.set_ylabel(r"$x_2$")
    add_legend(figure)
    add_time_bar(figure, list(axes.flat), trajectories)
    return figure


def front_curve() -> Tensor:
    """[201, 2], the front in parameter space."""
    return toy_front(torch.linspace(-FRONT_END, FRONT_END, 201))


def draw_trajectories(axis: Axes, trajectories: Trajectories, curves: Tensor, method: int) -> None:
    """Curves [record, start, 2]: a dot at the start, a star on the front, a cross elsewhere."""
    for start, whole in enumerate(curves.unbind(1)):
        reached = int(trajectories.reached[method, start])
        arrived = reached >= 0
        curve = whole[: trajectories.steps.index(reached) + 1] if arrived else whole
        begins = range(0, len(curve) - 1, COLOUR_EVERY)
        axis.add_collection(
            LineCollection(
                [curve[begin : begin + COLOUR_EVERY + 1].numpy() for begin in begins],
                array=[trajectories.steps[begin] for begin in begins],
                cmap=TIME_COLOURS,
                norm=time_scale(trajectories),
                linewidths=2.0,
                capstyle="round",
                zorder=2,
            )
        )
        axis.plot(*curve[0], "o", color="black", markersize=5, zorder=3)
        axis.plot(
            *curve[-1],
            "*" if arrived else "X",
            markersize=10 if arrived else 7,
            markerfacecolor="white",
            markeredgecolor="black",
            zorder=4,
        )


def time_scale(trajectories: Trajectories) -> Normalize:
    """Logarithmic colours, because methods that get stuck take far longer than the others."""
    return LogNorm(max(1, trajectories.steps[-1] // 500), trajectories.steps[-1], clip=True)


def add_legend(figure: Figure) -> None:
    """What the marks mean."""
    marks = {
        "start": ("o", "black"),
        "front reached": ("*", "white"),
        "not reached": ("X", "white"),
    }
    handles = [
        Line2D(
            *([], []),
            linestyle="none",
            marker=marker,
            markersize=9,
            markerfacecolor=colour,
            markeredgecolor="black",
            label=label,
        )
        for label, (marker, colour) in marks.items()
    ]
    front = Line2D([], [], color="0.7", linewidth=6, label="Pareto front")
    figure.legend(handles=[*handles, front], loc="outside lower center", ncols=4, frameon=False)


def add_time_bar(figure: Figure, axes: Sequence[Axes], trajectories: Trajectories) -> None:
    """The colour bar of time."""
    mappable = plt.cm.ScalarMappable(time_scale(trajectories), TIME_COLOURS)
    figure.colorbar(mappable, ax=axes, label="step", pad=0.01, aspect=35)


if __name__ == "__main__":
    main(sys.argv[1:])
