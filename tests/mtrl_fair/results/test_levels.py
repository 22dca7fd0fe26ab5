"""When runs of known success reached a level, in tables and figures."""

import json

import numpy as np
import pytest

from mtrl_fair.results.figures import level_figure, success_figure
from mtrl_fair.results.groups import group_runs
from mtrl_fair.results.levels import reaches, times_to_level
from mtrl_fair.results.tables import level_table, task_level_table
from mtrl_fair.runs import RunDirectory
from tests.mtrl_fair.results.written_runs import TASKS, cells, make_run, read_all


@pytest.fixture
def levels(tmp_path) -> list[str]:
    """Mean success is 0.015 at step 1,000 with seed 0, and 0.01 more per 1,000 steps and per seed;
    runs of five methods end when they reach 0.095, before or after."""
    steps = {
        "uw": {5: 3, 6: 2},
        "cut": {5: 4, 6: 3, 7: 1},
        "ls": {1: 5, 5: 5, 6: 3},
        "si": {6: 3, 7: 2, 8: 1, 9: 1},
        "rlw": {1: 4, 0: 4, 5: 4},
    }
    return [
        make_run(tmp_path, f"{name}{seed}", seed, name, tuple(range(1000, 1000 * n + 1, 1000)))
        for name, runs in steps.items()
        for seed, n in runs.items()
    ]


def test_a_table_of_levels_has_each_run_s_first_evaluation_with_it(levels):
    header, _, *lines = level_table(group_runs(read_all(levels)), 0.095).splitlines()
    assert cells(header)[1:] == ["runs", "reached", "steps to 0.095", "minutes to 0.095"]
    assert [cells(line) for line in lines] == [
        # With the second, half of them had it.
        ["si", "4", "4", "1,000 [1,000, 3,000]", "1.1 [1.1, 3.1]"],
        ["ls", "3", "2", "4,000 [3,000, > 5,000]", "4.1 [3.1, > 5.0]"],
        ["rlw", "3", "1", "> 4,000 [4,000, > 4,000]", "4.1; > 4.0; > 4.0"],
        ["uw", "2", "0", "> 2,000; > 3,000", "> 2.1; > 3.1"],
        # Its third may be the first.
        ["cut", "3", "2", "3,000; 4,000; > 1,000", "3.1; 4.1; > 1.1"],
    ]


def test_a_table_of_task_levels_has_each_task_s_first_evaluation_with_it(tmp_path):
    paths = [make_run(tmp_path, f"run{seed}", seed) for seed in (0, 1)]
    header, _, *lines = task_level_table(group_runs(read_all(paths)), 0.04).splitlines()
    assert cells(header)[1:] == ["seed", *TASKS]
    assert [cells(line) for line in lines] == [
        ["fairgrad", "0", "> 3,000", "3,000"],
        ["fairgrad", "1", "3,000", "2,000"],
    ]


def test_the_level_figure_has_a_line_per_group_in_the_order_of_the_table(levels):
    steps, minutes = level_figure(group_runs(read_all(levels)), 0.095).axes
    assert [x.get_text() for x in steps.get_yticklabels()] == ["si", "ls", "rlw", "uw", "cut"]
    assert steps.get_ylim()[0] > steps.get_ylim()[1]
    shown = [(line.get_marker(), *map(list, line.get_data())) for line in steps.lines]
    found = [(marker, x, {round(height) for height in y}) for marker, x, y in shown if x]
    assert found == [
        ("o", [1, 1, 2, 3], {0}),
        ("|", [1], {0}),
        ("o", [3, 4], {1}),
        (">", [5], {1}),
        ("|", [4], {1}),
        ("o", [4], {2}),
        (">", [4, 4], {2}),
        (">", [2, 3], {3}),
        ("o", [3, 4], {4}),
        (">", [1], {4}),
    ]
    heights = [y for marker, x, y in shown if marker == "o" and x == [1, 1, 2, 3]]
    assert len(set(heights[0])) == 4  # or two would look like one
    assert minutes.lines[0].get_xdata().tolist() == pytest.approx(
        [68 / 60, 69 / 60, 127 / 60, 186 / 60]
    )
    uw = success_figure(group_runs(read_all(levels))).axes[0].lines[0].get_color()
    assert steps.lines[-3].get_color() == uw  # the first group of all


def test_rounding_decides_no_tie(tmp_path):
    tasks = tuple(f"task-{k}" for k in range(10))
    path = make_run(tmp_path, "run", tasks=tasks, steps=())
    rates = (1, 1, 1, 0.82, 0.9, 1, 1, 1, 1, 0.78)
    assert np.mean(rates) < 0.95  # 475 of 500
    rows = [(task, rate, 50, 1.0, 2.0) for task, rate in zip(tasks, rates, strict=True)]
    RunDirectory.open(path).add_evaluation(3000, rows)
    with open(f"{path}/metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 3000, "charts/seconds": 1.0}) + "\n")
    (times,) = times_to_level(group_runs(read_all([path])), 0.95)
    assert times.steps.reached.tolist() == [True]
    assert reaches(float(np.mean(rates)), 0.95)
    assert not reaches(0.9499, 0.95)
