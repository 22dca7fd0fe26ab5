"""What tables say of runs whose numbers say which they are."""

import json

import pytest

from mtrl_fair.results.runs import read_run
from mtrl_fair.runs import RunDirectory
from scripts import archive, table
from tests.mtrl_fair.results.written_runs import TASKS, cells, make_run


def test_a_summary_counts_what_all_runs_have(tmp_path, capsys):
    paths = [make_run(tmp_path, f"run{seed}", seed=seed) for seed in range(3)]
    longer = make_run(tmp_path, "longer", combiner="ls", steps=(1000, 2000, 3000, 4000))
    table.main([*paths, longer])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["runs", "steps", "minutes", "mean success", "IQM", "best mean"]
    found = cells(lines[2])
    assert found[:4] == ["fairgrad", "3", "3,000", "3.0"]
    assert found[4].startswith("0.045 [0.0")
    assert found[6:] == ["0.045"]
    assert cells(lines[3]) == ["ls", "1", "3,000", "3.0", "0.035", "", "0.035"]
    table.main([paths[0], "--step", "2000", "--labels", "mine"])
    found = cells(capsys.readouterr().out.splitlines()[2])
    assert found == ["mine", "1", "2,000", "2.0", "0.025", "", "0.025"]


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
    runs = [
        make_run(tmp_path, "one", steps=(9500, 12000)),
        make_run(tmp_path, "two", seed=7, combiner="ls"),
    ]
    table.main([*runs, "--table", "tasks"])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["seed", "commit", "steps", "minutes", *TASKS, "mean"]
    (commit,) = read_run(runs[0]).commits
    assert cells(lines[2])[:5] == ["fairgrad", "0", commit, "12,000", "12"]
    assert cells(lines[3]) == ["ls", "7", commit, "3,000", "3.1", "0.10", "0.11", "0.105"]


def test_a_table_of_curves_has_every_evaluation(tmp_path, capsys):
    runs = [make_run(tmp_path, "one"), make_run(tmp_path, "two", combiner="ls", steps=(500, 2000))]
    table.main([*runs, "--table", "curves"])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["seed", "500", "1,000", "2,000", "3,000"]
    assert cells(lines[2]) == ["fairgrad", "0", "", "0.015", "0.025", "0.035"]
    assert cells(lines[3]) == ["ls", "0", "0.010", "", "0.025", ""]
    table.main([*runs, "--table", "curves", "--labels", "a|b", "c"])
    assert capsys.readouterr().out.splitlines()[2].startswith(r"| a\|b | 0 |")
    table.main([*runs, "--table", "curves", "--until", "2000"])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[1:] == ["seed", "500", "1,000", "2,000"]
    assert cells(lines[2]) == ["fairgrad", "0", "", "0.015", "0.025"]


def test_a_table_of_residuals_counts_the_infinite_ones(tmp_path, capsys):
    longer = make_run(tmp_path, "one", combining={"actor": "ls"})
    shorter = make_run(tmp_path, "two", seed=7, combiner="nash_mtl", steps=(500,))
    others = [make_run(tmp_path, name, combiner=name) for name in ("ls", "pcgrad")]
    path = f"{shorter}/metrics.jsonl"
    with open(path) as file:
        lines = [line for line in file if json.loads(line)["step"] <= 1200]
    with open(path, "w") as file:
        file.writelines(lines)
    table.main([longer, *others, "--table", "residuals", "--labels", "a", "b", "c"])
    header, _, *rows = map(cells, capsys.readouterr().out.splitlines())
    assert header[1:5] == ["seed", "critic: residual, median", "critic: 90 %", "critic: infinite"]
    assert [name.partition(":")[0] for name in header[5:]] == ["actor"] * 3
    # 28 of them, 300, 400, … and three infinite; the 15th is 1800 and the 26th the first of these.
    assert rows[0] == ["a", "0", "0.0018", "inf", "0.11", "", "", ""]
    assert rows[1:] == [["b", "0", *[""] * 6], ["c", "0", *[""] * 6]]
    # 10 of them until 1200: the sixth is 800, the last one infinite.
    for step in ([], ["--step", "1200"]):
        table.main([longer, shorter, "--table", "residuals", "--labels", "a", "b", *step])
        first, second = map(cells, capsys.readouterr().out.splitlines()[2:])
        assert first[2:5] == second[2:5] == second[5:] == ["0.0008", "inf", "0.10"]


def test_residuals_that_were_not_kept_are_no_blank(tmp_path, capsys):
    path = make_run(tmp_path, "run")
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "0"])
    for words, message in (
        ([str(tmp_path / "kept" / "run")], "has no fairness/residual/critic, which fairgrad logs"),
        (
            [path, "--step", "299"],
            f"{path} has no residual up to step 299, its first one is of step 300",
        ),
        ([make_run(tmp_path, "other", combiner="ls")], "no run has residuals"),
    ):
        with pytest.raises(SystemExit):
            table.main([*words, "--table", "residuals"])
        assert message in capsys.readouterr().err


def test_a_table_of_tasks_offers_steps_that_all_runs_have(tmp_path, capsys):
    runs = [make_run(tmp_path, "one"), make_run(tmp_path, "two", combiner="ls", steps=(500, 2000))]
    for step in ("500", "1000"):
        with pytest.raises(SystemExit):
            table.main([*runs, "--table", "tasks", "--step", step])
        assert f"--step {step} is not one at which all runs were evaluated: choose from 2000" in (
            capsys.readouterr().err
        )
