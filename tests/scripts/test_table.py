"""What tables say of runs whose numbers say which they are."""

import json

from mtrl_fair.runs import RunDirectory
from scripts import table
from scripts.run_results import read_run
from tests.scripts.written_runs import TASKS, cells, make_run


def test_a_summary_counts_what_all_runs_have(tmp_path, capsys):
    paths = [make_run(tmp_path, f"run{seed}", seed=seed) for seed in range(3)]
    longer = make_run(tmp_path, "longer", combiner="ls", steps=(1000, 2000, 3000, 4000))
    table.main([*paths, longer])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["runs", "steps", "minutes", "mean success", "IQM", "best mean"]
    found = cells(lines[2])
    assert found[:4] == ["fairgrad", "3", "3,000", "3"]
    assert found[4].startswith("0.045 [0.0")
    assert found[6:] == ["0.045"]
    assert cells(lines[3]) == ["ls", "1", "3,000", "3", "0.035", "", "0.035"]
    table.main([paths[0], "--step", "2000", "--labels", "mine"])
    found = cells(capsys.readouterr().out.splitlines()[2])
    assert found[:5] == ["mine", "1", "2,000", "2", "0.025"]


def test_the_best_mean_is_that_of_each_run_s_own_best_evaluation(tmp_path, capsys):
    paths = [make_run(tmp_path, f"run{seed}", seed=seed, steps=()) for seed in range(2)]
    for path, rates in zip(paths, [(0.2, 0.8, 0.4), (0.6, 0.0, 0.2)], strict=True):
        for step, rate in zip((1000, 2000, 3000), rates, strict=True):
            rows = [(task, rate, 50, 1.0, 2.0) for task in TASKS]
            RunDirectory.open(path).add_evaluation(step, rows)
        with open(f"{path}/metrics.jsonl", "a") as file:
            for step in (1000, 2000, 3000):
                file.write(json.dumps({"step": step, "charts/seconds": 1.0}) + "\n")
    table.main(paths)
    found = cells(capsys.readouterr().out.splitlines()[2])
    assert found[4:] == ["0.300", "", "0.700"]


def test_a_table_of_tasks_has_one_line_per_run(tmp_path, capsys):
    runs = [make_run(tmp_path, "one"), make_run(tmp_path, "two", seed=7, combiner="ls")]
    table.main([*runs, "--table", "tasks"])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["seed", "commit", "steps", "minutes", *TASKS, "mean"]
    (commit,) = read_run(runs[0]).commits
    assert cells(lines[3]) == ["ls", "7", commit, "3,000", "3", "0.10", "0.11", "0.105"]


def test_a_table_of_curves_has_every_evaluation(tmp_path, capsys):
    runs = [make_run(tmp_path, "one"), make_run(tmp_path, "two", combiner="ls", steps=(500, 2000))]
    table.main([*runs, "--table", "curves"])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["seed", "500", "1,000", "2,000", "3,000"]
    assert cells(lines[2]) == ["fairgrad", "0", "", "0.015", "0.025", "0.035"]
    assert cells(lines[3]) == ["ls", "0", "0.010", "", "0.025", ""]


def test_a_table_of_residuals_counts_the_infinite_ones(tmp_path, capsys):
    runs = [
        make_run(tmp_path, "one", networks=("critic",)),
        make_run(tmp_path, "two", seed=7, combiner="ls"),
    ]
    table.main([*runs, "--table", "residuals"])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == [
        *("seed", "critic: median", "critic: infinite", "actor: median", "actor: infinite")
    ]
    # 300, 400, …, 3000, in the middle 1700 and 1800 because 3 of 28 are infinite.
    assert cells(lines[2]) == ["fairgrad", "0", "0.00175", "0.11", "", ""]
    assert cells(lines[3]) == ["ls", "7", "", "", "", ""]
