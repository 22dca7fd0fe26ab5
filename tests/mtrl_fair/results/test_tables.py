"""What tables say of runs whose numbers say which they are."""

import json

import pytest

from mtrl_fair.results.groups import group_runs
from mtrl_fair.results.markdown import markdown_table
from mtrl_fair.results.runs import until_step
from mtrl_fair.results.tables import (
    common_step,
    curve_table,
    residual_table,
    summary_table,
    task_table,
)
from mtrl_fair.runs import RunDirectory
from tests.mtrl_fair.results.written_runs import TASKS, cells, make_run, read_all


def rows(table: str) -> list[list[str]]:
    """The header, then the lines below the rule."""
    header, rule, *lines = table.splitlines()
    assert set(rule) <= set("|-: ")
    return [cells(line) for line in (header, *lines)]


def test_a_table_in_markdown_has_numbers_to_the_right_and_no_cell_too_many():
    assert markdown_table(["", "n"], [["a|b", "1"]]) == "|  | n |\n| --- | ---: |\n| a\\|b | 1 |"


def test_a_summary_is_of_the_last_evaluation(tmp_path):
    paths = [make_run(tmp_path, f"run{seed}", seed=seed) for seed in range(3)]
    longer = make_run(tmp_path, "longer", combiner="ls", steps=(1000, 2000, 3000, 4000))
    runs = read_all([*paths, longer])
    assert common_step(runs, None) == 3000
    header, fairgrad, ls = rows(summary_table(group_runs(until_step(runs, 3000))))
    assert header[1:] == ["runs", "steps", "minutes", "mean success", "IQM", "best mean"]
    assert fairgrad[:4] == ["fairgrad", "3", "3,000", "3.0"]
    assert fairgrad[4].startswith("0.045 [0.0")
    assert fairgrad[6:] == ["0.045"]
    assert ls == ["ls", "1", "3,000", "3.0", "0.035", "", "0.035"]


def test_the_best_mean_is_that_of_each_run_s_own_best_evaluation(tmp_path):
    paths = [make_run(tmp_path, f"run{seed}", seed=seed, steps=()) for seed in range(2)]
    for path, rates in zip(paths, [(0.2, 0.8, 0.4), (0.6, 0.0, 0.2)], strict=True):
        for step, rate in zip((1000, 2000, 3000), rates, strict=True):
            evaluated = [(task, rate, 50, 1.0, 2.0) for task in TASKS]
            RunDirectory.open(path).add_evaluation(step, evaluated)
        with open(f"{path}/metrics.jsonl", "a") as file:
            for step in (1000, 2000, 3000):
                file.write(json.dumps({"step": step, "charts/seconds": 1.0}) + "\n")
    _, found = rows(summary_table(group_runs(read_all(paths))))
    assert found[4:] == ["0.300", "", "0.700"]


def test_a_table_of_tasks_has_one_line_per_run(tmp_path):
    paths = [
        make_run(tmp_path, "one", steps=(9500, 12000)),
        make_run(tmp_path, "two", seed=7, combiner="ls"),
    ]
    groups = group_runs(read_all(paths))
    header, one, two = rows(task_table(groups, None))
    assert header[1:] == ["seed", "commit", "steps", "minutes", *TASKS, "mean"]
    assert one[:5] == ["fairgrad", "0", "c0ffee1", "12,000", "12"]
    assert two == ["ls", "7", "c0ffee1", "3,000", "3.1", "0.10", "0.11", "0.105"]
    _, one = rows(task_table(groups[:1], 9500))
    assert one[3:5] == ["9,500", "9.5"]


def test_a_table_of_curves_has_every_evaluation(tmp_path):
    paths = [make_run(tmp_path, "one"), make_run(tmp_path, "two", combiner="ls", steps=(500, 2000))]
    assert rows(curve_table(group_runs(read_all(paths)))) == [
        ["", "seed", "500", "1,000", "2,000", "3,000"],
        ["fairgrad", "0", "", "0.015", "0.025", "0.035"],
        ["ls", "0", "0.010", "", "0.025", ""],
    ]


def test_a_table_of_residuals_counts_the_infinite_ones(tmp_path):
    longer = make_run(tmp_path, "one", combining={"actor": "ls"})
    shorter = make_run(tmp_path, "two", seed=7, combiner="nash_mtl", steps=(500,))
    others = [make_run(tmp_path, name, combiner=name) for name in ("ls", "pcgrad")]
    path = f"{shorter}/metrics.jsonl"
    with open(path) as file:
        lines = [line for line in file if json.loads(line)["step"] <= 1200]
    with open(path, "w") as file:
        file.writelines(lines)
    header, *found = rows(residual_table(read_all([longer, *others]), ["a", "b", "c"], None))
    assert header[1:5] == ["seed", "critic: residual, median", "critic: 90 %", "critic: infinite"]
    assert [name.partition(":")[0] for name in header[5:]] == ["actor"] * 3
    # 28 of them, 300, 400, … and three infinite; the 15th is 1800 and the 26th the first of these.
    assert found[0] == ["a", "0", "0.0018", "inf", "0.11", "", "", ""]
    assert found[1:] == [["b", "0", *[""] * 6], ["c", "0", *[""] * 6]]
    # 10 of them until 1200: the sixth is 800, the last one infinite.
    for step in (None, 1200):
        _, first, second = rows(residual_table(read_all([longer, shorter]), ["a", "b"], step))
        assert first[2:5] == second[2:5] == second[5:] == ["0.0008", "inf", "0.10"]


@pytest.mark.parametrize("step", [500, 1000])
def test_a_step_that_not_all_runs_have_is_refused(tmp_path, step):
    paths = [make_run(tmp_path, "one"), make_run(tmp_path, "two", combiner="ls", steps=(500, 2000))]
    with pytest.raises(ValueError, match=rf"{step} is not one at which all.*: choose from 2000$"):
        common_step(read_all(paths), step)
