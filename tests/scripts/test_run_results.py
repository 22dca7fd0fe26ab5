"""Runs read back, grouped, drawn, tabled, archived; their numbers say which they are."""

import csv
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mtrl_fair.runs import RunDirectory, RunError
from scripts import archive, plot, table
from scripts.figures import success_figure, task_figure, weight_figure
from scripts.run_results import group_runs, read_metrics, read_run

TASKS = ("reach-v3", "push-v3")


def success(task: int, step: int, seed: int) -> float:
    return (step / 1000 + task + seed) / 100


def make_run(folder, name, seed=0, combiner="fairgrad", steps=(1000, 2000, 3000), tasks=TASKS):
    """Success at step s of task k with seed n: (s / 1000 + k + n) / 100; 60 s per 1,000 steps."""
    config = {"seed": seed, "combiner": combiner, "total_steps": 5000, "agent": {"discount": 0.99}}
    run = RunDirectory.create(folder / name, config)
    for step in steps:
        rows = [(60 * step / 1000 + seed, task, success(k, step, seed), 50, 1.0, 2.0)
                for k, task in enumerate(tasks)]  # fmt: skip
        run.add_evaluation(step, rows)
    with (run.path / "metrics.jsonl").open("w") as file:
        for step in range(100, 3001, 100):
            line = {"step": step, "losses/critic": 1.0}
            if step > 200:
                for k, task in enumerate(tasks):
                    for network in ("critic", "actor"):
                        line[f"fairness/weight/{task}/{network}"] = 10.0**-k
                        line[f"fairness/gradient_norm/{task}/{network}"] = 3.0 * 10**k * (1 + k)
                line["fairness/residual/critic"] = None
            file.write(json.dumps(line) + "\n")
    run.unlock()
    return str(run.path)


@pytest.fixture(autouse=True)
def _no_open_figures():
    yield
    plt.close("all")


def test_a_run_is_read_back(tmp_path):
    run = read_run(make_run(tmp_path, "run", seed=2))
    assert run.tasks == TASKS
    assert run.steps.tolist() == [1000, 2000, 3000]
    assert run.seconds.tolist() == [62, 122, 182]
    assert run.success.tolist() == [
        [success(k, step, 2) for k in range(2)] for step in (1000, 2000, 3000)
    ]
    assert run.settings["agent.discount"] == 0.99
    assert run.reaches(0.045) == 2000  # its mean: (2 + 0.5 + 2) / 100
    assert run.reaches(0.5) is None


def test_an_evaluation_that_is_half_written_is_left_out(tmp_path):
    path = make_run(tmp_path, "run")
    with open(f"{path}/evaluations.csv", "a") as file:
        file.write("4000,240.0,reach-v3,1.0,50,1.0,2.0\r\n")
    assert read_run(path).steps.tolist() == [1000, 2000, 3000]


def test_runs_that_differ_in_their_seed_are_one_method(tmp_path):
    paths = [
        make_run(tmp_path, "a", seed=0),
        make_run(tmp_path, "b", seed=1, combiner="ls"),
        make_run(tmp_path, "c", seed=5, steps=(2000, 3000, 4000)),
    ]
    methods = group_runs([read_run(path) for path in paths])
    assert [method.label for method in methods] == ["fairgrad", "ls"]
    fairgrad = methods[0]
    assert [run.path.name for run in fairgrad.runs] == ["a", "c"]
    assert fairgrad.common_steps().tolist() == [2000, 3000]
    found = fairgrad.success_at(np.array([3000]))
    assert found.tolist() == [[[success(k, 3000, seed) for k in range(2)]] for seed in (0, 5)]
    assert fairgrad.minutes_at(np.array([2000])).tolist() == pytest.approx([122.5 / 60])


def test_labels_decide_where_they_are_given(tmp_path):
    runs = [read_run(make_run(tmp_path, name, seed=i)) for i, name in enumerate("abc")]
    assert [m.label for m in group_runs(runs)] == ["fairgrad"]
    methods = group_runs(runs, ["x", "y", "x"])
    assert [(m.label, len(m.runs)) for m in methods] == [("x", 2), ("y", 1)]
    with pytest.raises(ValueError, match="2 labels were given for 3 runs"):
        group_runs(runs, ["x", "y"])
    other = read_run(make_run(tmp_path, "other", tasks=("reach-v3",)))
    with pytest.raises(ValueError, match="other has the tasks reach-v3, but"):
        group_runs([*runs, other])


def test_what_is_no_run_of_this_version_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no run"):
        read_run(str(tmp_path))
    path = make_run(tmp_path, "run")
    with open(f"{path}/evaluations.csv", newline="") as file:
        rows = list(csv.reader(file))
    with open(f"{path}/evaluations.csv", "w", newline="") as file:
        csv.writer(file).writerows([[*row[:1], *row[2:]] for row in rows])
    with pytest.raises(ValueError, match="has no column seconds"):
        read_run(path)


def test_the_success_figure_shows_means_over_steps_and_minutes(tmp_path):
    paths = [make_run(tmp_path, name, seed=i) for i, name in enumerate("abc")]
    (method,) = group_runs([read_run(path) for path in paths])
    over_steps, over_minutes = success_figure([method]).axes
    line, *single = over_steps.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(line.get_ydata(), [(step + 0.5 + 1) / 100 for step in (1, 2, 3)])
    assert len(single) == 3  # one thin line per run
    np.testing.assert_allclose(
        over_minutes.lines[0].get_xdata(), [1 + 1 / 60, 2 + 1 / 60, 3 + 1 / 60]
    )
    assert len(over_steps.collections) == 1  # the band, from three runs on
    (method,) = group_runs([read_run(path) for path in paths[:2]])
    assert not success_figure([method]).axes[0].collections


def test_the_task_figure_has_one_panel_per_task(tmp_path):
    methods = group_runs([read_run(make_run(tmp_path, c, combiner=c)) for c in ("ls", "pcgrad")])
    axes = task_figure(methods).axes
    assert [axis.get_title() for axis in axes] == list(TASKS)
    for k, axis in enumerate(axes):
        assert len(axis.lines) == 2
        np.testing.assert_allclose(
            axis.lines[1].get_ydata(), [success(k, step, 0) for step in (1000, 2000, 3000)]
        )


def test_the_weight_figure_shows_weights_norms_and_shares(tmp_path):
    axes = weight_figure(read_run(make_run(tmp_path, "run")), "title").axes
    weight, actor_weight, norm, _, share, actor_share = axes
    np.testing.assert_allclose(weight.lines[1].get_ydata(), 0.1)
    np.testing.assert_allclose(norm.lines[1].get_ydata(), 60)
    # 1 x 3 and 0.1 x 60
    np.testing.assert_allclose(share.lines[0].get_ydata(), 1 / 3)
    np.testing.assert_allclose(actor_share.lines[1].get_ydata(), 2 / 3)
    assert weight.get_title() == "critic"
    assert actor_weight.get_title() == "actor"


def test_a_run_without_gradient_norms_has_no_weight_figure(tmp_path):
    path = make_run(tmp_path, "run")
    lines = [json.dumps({"step": 100, "fairness/weight/reach-v3/critic": 1.0})]
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="has no fairness/weight/push-v3/critic"):
        weight_figure(read_run(path), "title")
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps({"step": 100}))
    with pytest.raises(ValueError, match="has no fairness/ metrics"):
        weight_figure(read_run(path), "title")


@pytest.mark.parametrize("figure", ["success", "tasks", "runs", "weights"])
def test_figures_are_written_in_every_format_asked_for(tmp_path, figure, capsys):
    outputs = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    plot.main([make_run(tmp_path, "run"), "--figure", figure, "--output", *map(str, outputs)])
    assert outputs[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in outputs[1].read_text()
    assert capsys.readouterr().out.count("written to") == 2


def test_a_summary_counts_one_evaluation_of_every_run(tmp_path, capsys):
    runs = [make_run(tmp_path, f"run{seed}", seed=seed) for seed in range(3)]
    table.main([*runs, "--level", "0.045"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| method | runs | steps | minutes | mean success | IQM |")
    assert lines[0].endswith("steps to 0.045 |")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:4] == ["fairgrad", "3", "3,000", "3"]
    assert cells[4].startswith("0.045 [0.0")
    assert cells[6:] == ["0.045", "never, 3,000, 2,000"]
    table.main([runs[0], "--step", "2000", "--labels", "mine"])
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[2].strip("|").split("|")]
    assert cells[:5] == ["mine", "1", "2,000", "2", "0.025"]


def test_a_table_of_tasks_has_one_line_per_run(tmp_path, capsys):
    runs = [make_run(tmp_path, "one"), make_run(tmp_path, "two", seed=7, combiner="ls")]
    table.main([*runs, "--table", "tasks"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| method | seed | steps | minutes | reach-v3 | push-v3 | mean |"
    assert lines[3] == "| ls | 7 | 3,000 | 3 | 0.10 | 0.11 | 0.105 |"


def test_an_archive_is_a_run_without_checkpoints_and_folders(tmp_path, capsys):
    path = make_run(tmp_path, "run")
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    command = ["/home/me/train.py", "mt10-small", "--run-dir=/home/me/x", "--seed", "1"]
    metadata["command"] = command
    metadata["resumed"] = [{"step": 5, "command": ["train.py", "--resume", "/home/me/x"]}]
    (tmp_path / "run" / "metadata.json").write_text(json.dumps(metadata))
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "9"])
    copy = tmp_path / "kept" / "run"
    assert {p.name for p in copy.iterdir()} == {
        "config.json", "metadata.json", "evaluations.csv", "metrics.jsonl"
    }  # fmt: skip
    kept = json.loads((copy / "metadata.json").read_text())
    assert kept["command"] == ["train.py", "mt10-small", "--run-dir=x", "--seed", "1"]
    assert kept["resumed"][0]["command"] == ["train.py", "--resume", "x"]
    assert kept["versions"] == metadata["versions"]
    found = read_run(str(copy))
    assert found.success.tolist() == read_run(path).success.tolist()
    lines = read_metrics(copy, "fairness/")
    assert [line["step"] for line in lines] == [300, 700, 1100, 1500, 1900, 2300, 2700]
    assert set(lines[0]) == {"step"} | {
        f"fairness/{kind}/{task}/{network}"
        for kind in ("weight", "gradient_norm")
        for task in TASKS
        for network in ("critic", "actor")
    }
    plot.main([str(copy), "--figure", "weights", "--output", str(tmp_path / "w.png")])
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "0"])  # over the first
    assert not (copy / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (plot, [], "no runs"),
        (table, [], "no runs"),
        (archive, ["--output", "x"], "no runs"),
        (plot, ["nowhere"], "there is no run at nowhere"),
        (plot, ["RUN", "--output", "no/such/x.png"], "there is no folder no/such"),
        (plot, ["RUN", "--output", "x.foo"], "unknown format 'foo'"),
        (plot, ["RUN", "--figure", "runs", "--labels", "a", "b"], "2 labels were given for 1 runs"),
        (plot, ["RUN", "RUN", "--figure", "weights"], "shows one run, but 2 were given"),
        (table, ["RUN", "--step", "7"], "--step 7 is no evaluation of all runs of fairgrad"),
        (table, ["RUN", "--level", "0"], "--level is 0"),
        (archive, ["RUN", "RUN", "--output", "x"], "two runs have the same name"),
        (archive, ["RUN", "--output", "x", "--lines", "-1"], "--lines is -1"),
    ],
)
def test_bad_input_exits_with_2(script, words, message, tmp_path, capsys):
    path = make_run(tmp_path, "run")
    with pytest.raises(SystemExit) as stopped:
        script.main([path if word == "RUN" else word for word in words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
