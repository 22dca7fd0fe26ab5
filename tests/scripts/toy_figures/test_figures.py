"""The toy problem's figures and table, of trajectories by hand."""

import io

import pytest
import torch
from rich.console import Console

from mtrl_fair.supervised.benchmarks.two_losses.problem import STARTS, toy_losses
from scripts.toy_figures.descent import Trajectories, fairgrad_method
from scripts.toy_figures.drawing import draw_loss_space, draw_parameter_space
from scripts.toy_figures.tables import result_table

METHODS = [fairgrad_method(1.0), fairgrad_method(2.0)]
REACHED = torch.tensor([[20, -1, 10, -1, -1], [-1, -1, -1, -1, 20]])


@pytest.fixture
def trajectories():
    """Straight lines from the starts, recorded at four steps; some reach the front before."""
    starts = torch.tensor(STARTS, dtype=torch.float64).expand(2, 5, 2)
    points = torch.stack([starts - 0.1 * record for record in range(4)])
    return Trajectories([0, 10, 20, 30], points, toy_losses(points), REACHED)


@pytest.mark.parametrize("draw", [draw_loss_space, draw_parameter_space])
def test_a_star_is_where_the_front_was_reached_and_a_cross_elsewhere(draw, trajectories):
    figure = draw(METHODS, trajectories)
    loss_space = draw is draw_loss_space
    values = trajectories.losses if loss_space else trajectories.points
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert len(panels) == (2 if loss_space else 6)
    for index, axis in enumerate(panels):
        method = index % 2
        marks = {"o": [], "*": [], "X": []}
        for line in axis.lines:
            if line.get_marker() in marks:
                marks[line.get_marker()].append((float(line.get_xdata()[0]), line.get_ydata()[0]))
        assert marks["o"] == [tuple(start) for start in values[0, method].tolist()]
        ends = {"*": [], "X": []}
        for start, reached in enumerate(REACHED[method].tolist()):
            record = reached // 10 if reached >= 0 else 3
            end = tuple(values[record, method, start].tolist())
            ends["*" if reached >= 0 else "X"].append(end)
        assert {mark: marks[mark] for mark in ends} == ends


def test_the_table_has_a_row_for_every_method_and_start(trajectories):
    text = io.StringIO()
    Console(file=text, width=120).print(result_table(METHODS, trajectories))
    rows = [line.strip("│").split("│") for line in text.getvalue().splitlines() if "(" in line]
    rows = [[cell.strip() for cell in row] for row in rows if "gap" not in row[0]]
    assert len(rows) == 10
    assert [row[0] for row in rows] == ["alpha = 1"] * 5 + ["alpha = 2"] * 5
    assert [row[1] for row in rows[:5]] == [f"({x:g}, {y:g})" for x, y in STARTS]
    assert [row[5] for row in rows[:3]] == ["20", "not reached", "10"]
    first, second = trajectories.losses[-1, 1, 4].tolist()
    assert rows[9][2:4] == [f"{first:.3f}", f"{second:.3f}"]
