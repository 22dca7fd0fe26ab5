"""Draws the toy problem's trajectories, in loss space and in parameter space."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from mtrl_fair.supervised.benchmarks.two_losses.problem import FRONT_END, toy_front, toy_losses
from scripts.toy_figures.descent import Method, Trajectories

LIMIT = 11.0
TIME_COLOURS = "plasma"
COLOUR_EVERY = 4  # records: a path for each would make SVGs of many megabytes


def draw_loss_space(methods: Sequence[Method], trajectories: Trajectories) -> Figure:
    """Draws one panel per method: the front, the starts, the trajectories coloured by time."""
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
    front = toy_losses(_front_curve())
    for i, (axis, method) in enumerate(zip(axes[0], methods, strict=True)):
        axis.plot(*front.T, color="0.72", linewidth=7, solid_capstyle="round", zorder=1)
        _draw_trajectories(axis, trajectories, trajectories.losses[:, i], i)
        axis.set_title(method.title)
        axis.set_xlabel(r"$\ell_1$")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(r"$\ell_2$")
    _add_legend(figure)
    _add_time_bar(figure, list(axes[0]), trajectories)
    return figure


def draw_parameter_space(methods: Sequence[Method], trajectories: Trajectories) -> Figure:
    """Draws the trajectories over the contours of both losses and of their mean, per method."""
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
    front = _front_curve()
    for i, method in enumerate(methods):
        panels = axes[:, i] if len(methods) > 1 else axes[0]
        for axis, (name, surface) in zip(panels, surfaces.items(), strict=True):
            axis.contour(
                x1, x2, surface, levels=20, cmap="Greys_r", alpha=0.6, linewidths=0.7, zorder=0
            )
            axis.plot(*front.T, color="0.6", linewidth=5, solid_capstyle="round", zorder=1)
            _draw_trajectories(axis, trajectories, trajectories.points[:, i], i)
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
    _add_legend(figure)
    _add_time_bar(figure, list(axes.flat), trajectories)
    return figure


def _front_curve() -> Tensor:
    """Returns points of the front in parameter space, [201, 2]."""
    return toy_front(torch.linspace(-FRONT_END, FRONT_END, 201))


def _draw_trajectories(axis: Axes, trajectories: Trajectories, curves: Tensor, method: int) -> None:
    """Draws curves [record, start, 2], from a dot to a star on the front or a cross elsewhere."""
    for start, records in enumerate(curves.unbind(1)):
        reached = int(trajectories.reached[method, start])
        arrived = reached >= 0
        curve = records[: trajectories.steps.index(reached) + 1] if arrived else records
        begins = range(0, len(curve) - 1, COLOUR_EVERY)
        axis.add_collection(
            LineCollection(
                [curve[begin : begin + COLOUR_EVERY + 1].numpy() for begin in begins],
                array=[trajectories.steps[begin] for begin in begins],
                cmap=TIME_COLOURS,
                norm=_time_scale(trajectories),
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


def _time_scale(trajectories: Trajectories) -> Normalize:
    """Returns a logarithmic scale, because methods that get stuck take far longer than others."""
    return LogNorm(max(1, trajectories.steps[-1] // 500), trajectories.steps[-1], clip=True)


def _add_legend(figure: Figure) -> None:
    """Adds a legend of the marks."""
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


def _add_time_bar(figure: Figure, axes: Sequence[Axes], trajectories: Trajectories) -> None:
    """Adds the colour bar of time."""
    mappable = plt.cm.ScalarMappable(_time_scale(trajectories), TIME_COLOURS)
    figure.colorbar(mappable, ax=axes, label="step", pad=0.01, aspect=35)
