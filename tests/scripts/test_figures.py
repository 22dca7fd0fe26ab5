"""What figures, tables and archives show of runs whose numbers say which they are."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from configs import TrainConfig
from envs.tasks import task_names
from mtrl_fair.runs import RunDirectory
from scripts import archive, plot, table
from scripts.figures import level_figure, run_figure, success_figure, task_figure, weight_figure
from scripts.run_levels import times_to_level
from scripts.run_results import group_runs, read_run, read_runs
from scripts.run_statistics import bootstrap_interval
from scripts.run_weights import averaged, read_weights
from tests.scripts.written_runs import TASKS, make_run, success


@pytest.fixture(autouse=True)
def _no_open_figures():
    yield
    plt.close("all")


def test_the_success_figure_shows_means_over_steps_and_minutes(tmp_path):
    paths = [make_run(tmp_path, name, seed=i) for i, name in enumerate("abc")]
    figure = success_figure(group_runs(read_runs(paths)))
    over_steps, over_minutes = figure.axes
    line, *single = over_steps.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(line.get_ydata(), [(step + 0.5 + 1) / 100 for step in (1, 2, 3)])
    np.testing.assert_allclose(
        single[2].get_ydata(), [(step + 0.5 + 2) / 100 for step in (1, 2, 3)]
    )
    # Seed n is a second behind seed n - 1; the first one ends after three minutes.
    minutes = [1 + 1 / 60, 2 + 1 / 60, 3]
    np.testing.assert_allclose(over_minutes.lines[0].get_xdata(), minutes)
    at = {
        seed: np.interp(minutes, [m + seed / 60 for m in (1, 2, 3)], [1, 2, 3]) + 0.5 + seed
        for seed in range(3)
    }
    np.testing.assert_allclose(
        over_minutes.lines[0].get_ydata(), np.mean(list(at.values()), 0) / 100
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fairgrad (3 runs)"]
    assert not success_figure(group_runs(read_runs(paths[:2]))).axes[0].collections


def test_the_band_of_three_runs_is_the_interval_at_each_evaluation(tmp_path):
    steps = (1000, 2000, 4000, 9000)
    paths = [make_run(tmp_path, f"run{seed}", seed=seed, steps=steps) for seed in (0, 1, 5)]
    (group,) = group_runs(read_runs(paths))
    axis = success_figure([group]).axes[0]
    (band,) = axis.collections
    corners = {tuple(point) for point in np.round(band.get_paths()[0].vertices, 9).tolist()}
    for index, step in enumerate(steps):
        for bound in bootstrap_interval(group.success[:, index]):
            assert (step / 1000, round(bound, 9)) in corners


def test_the_task_figure_has_one_panel_per_task(tmp_path):
    groups = group_runs(
        read_runs([make_run(tmp_path, name, combiner=name) for name in ("ls", "pcgrad")])
    )
    axes = task_figure(groups).axes
    assert [axis.get_title() for axis in axes] == list(TASKS)
    for k, axis in enumerate(axes):
        expected = [success(k, step, 0) for step in (1000, 2000, 3000)]
        np.testing.assert_allclose([line.get_ydata() for line in axis.lines], [expected] * 2)
    (group,) = group_runs(read_runs([make_run(tmp_path, f"s{i}", seed=i) for i in (0, 8)]))
    lines = [line.get_ydata()[0] for line in task_figure([group]).axes[0].lines]
    np.testing.assert_allclose(lines, [0.05, 0.01, 0.09])  # their mean, and each


def test_the_run_figure_shows_whole_runs_and_one_colour_per_task(tmp_path):
    runs = read_runs(
        [
            make_run(tmp_path, "long", steps=(1000, 9000)),
            make_run(tmp_path, "short", tasks=("push-v3", "door-open-v3")),
        ]
    )
    figure = run_figure(runs, ["one", "two"])
    long, short = figure.axes
    assert (long.get_title(), short.get_title()) == ("one", "two")
    assert long.get_xlim()[1] > 9  # though the axis is shared with the shorter run
    lines = {
        (axis.get_title(), line.get_label()): line for axis in (long, short) for line in axis.lines
    }
    push = lines["one", "push-v3"], lines["two", "push-v3"]
    assert push[0].get_color() == push[1].get_color()
    assert lines["two", "door-open-v3"].get_color() != push[0].get_color()
    np.testing.assert_allclose(push[0].get_ydata(), [success(1, step, 0) for step in (1000, 9000)])
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["reach-v3", "push-v3", "mean", "door-open-v3"]


def test_the_weight_figure_shows_weights_norms_and_shares(tmp_path):
    axes = weight_figure(read_run(make_run(tmp_path, "run")), "title").axes
    weight, actor_weight, norm, _, plain, _, share, actor_share = axes
    np.testing.assert_allclose(weight.lines[1].get_ydata(), 0.1)
    np.testing.assert_allclose(norm.lines[1].get_ydata(), 60)
    np.testing.assert_allclose(plain.lines[0].get_ydata(), 3 / 63)
    # 1 x 3 and 0.1 x 60
    np.testing.assert_allclose(share.lines[0].get_ydata(), 1 / 3)
    np.testing.assert_allclose(actor_share.lines[1].get_ydata(), 2 / 3)
    assert (weight.get_title(), actor_weight.get_title()) == ("critic", "actor")
    for axis in (plain, share, actor_share):  # comparable, and small differences look small
        assert axis.get_ylim()[0] == 0
        assert axis.get_ylim()[1] >= 0.6


def test_the_weight_figure_shows_what_there_is(tmp_path):
    run = read_run(make_run(tmp_path, "run", networks=("actor",)))
    critic, actor, *_ = weight_figure(run, "title").axes
    assert not critic.lines
    assert len(actor.lines) == 2


@pytest.mark.parametrize("figure", ["success", "tasks", "runs", "levels", "weights"])
def test_figures_are_written_in_every_format_asked_for(tmp_path, figure, capsys):
    outputs = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    words = [make_run(tmp_path, "run"), "--figure", figure, "--output", *map(str, outputs)]
    plot.main(words)
    first = [path.read_bytes() for path in outputs]
    assert first[0].startswith(b"\x89PNG")
    assert b"<svg" in first[1]
    assert capsys.readouterr().out.count("written to") == 2
    plot.main(words)
    assert [path.read_bytes() for path in outputs] == first


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


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


@pytest.fixture
def levels(tmp_path) -> list[str]:
    """Mean success is 0.015 at step 1,000 with seed 0, and 0.01 more per 1,000 steps and per seed;
    runs of five methods end when they reach 0.045, before or after."""
    steps = {
        "uw": {0: 3, 1: 2},
        "cut": {0: 4, 1: 3, 2: 1},
        "ls": {-4: 5, 0: 5, 1: 3},
        "si": {1: 3, 2: 2, 3: 1, 4: 1},
        "rlw": {-4: 4, -5: 4, 0: 4},
    }
    return [
        make_run(tmp_path, f"{name}{seed}", seed, name, tuple(range(1000, 1000 * n + 1, 1000)))
        for name, runs in steps.items()
        for seed, n in runs.items()
    ]


def test_a_table_of_levels_has_each_run_s_first_evaluation_with_it(levels, capsys):
    table.main([*levels, "--table", "levels", "--level", "0.045"])
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert cells(header)[1:] == ["runs", "reached", "steps to 0.045", "minutes to 0.045"]
    assert [cells(line) for line in lines] == [
        ["si", "4", "4", "1,000 to 2,000 [1,000, 3,000]", "1 to 2 [1, 3]"],
        ["ls", "3", "2", "4,000 [3,000, > 5,000]", "4 [3, > 5]"],
        ["rlw", "3", "1", "> 4,000 [4,000, > 4,000]", "4; > 4; > 4"],
        ["uw", "2", "0", "> 2,000; > 3,000", "> 2; > 3"],
        ["cut", "3", "2", "3,000; 4,000; > 1,000", "3; 4; > 1"],  # its third may be the first
    ]


def test_the_level_figure_has_a_line_per_group_in_the_order_of_the_table(levels):
    steps, minutes = level_figure(group_runs(read_runs(levels)), 0.045).axes
    assert [x.get_text() for x in steps.get_yticklabels()] == ["si", "ls", "rlw", "uw", "cut"]
    assert steps.get_ylim()[0] > steps.get_ylim()[1]
    shown = [(line.get_marker(), *map(list, line.get_data())) for line in steps.lines]
    found = [(marker, x, {round(height) for height in y}) for marker, x, y in shown if x]
    assert found == [
        ("o", [1, 1, 2, 3], {0}),
        ("|", [1.5], {0}),
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
        [63 / 60, 64 / 60, 122 / 60, 181 / 60]
    )
    uw = success_figure(group_runs(read_runs(levels))).axes[0].lines[0].get_color()
    assert steps.lines[-3].get_color() == uw  # the first group of all


def test_rounding_decides_no_tie(tmp_path):
    tasks = tuple(task_names("mt10"))
    path = make_run(tmp_path, "run", tasks=tasks, steps=())
    rates = (1, 1, 1, 0.82, 0.9, 1, 1, 1, 1, 0.78)
    assert np.mean(rates) < 0.95  # 475 of 500
    rows = [(task, rate, 50, 1.0, 2.0) for task, rate in zip(tasks, rates, strict=True)]
    RunDirectory.open(path).add_evaluation(3000, rows)
    with open(f"{path}/metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 3000, "charts/seconds": 1.0}) + "\n")
    (times,) = times_to_level(group_runs([read_run(path)]), 0.95)
    assert times.steps.reached.tolist() == [True]
    assert TrainConfig(stop_at_success=0.95).is_over(3000, float(np.mean(rates)))


def test_notes_say_where_a_comparison_is_not_a_fair_one(tmp_path, capsys):
    plain = make_run(tmp_path, "plain")
    stopped = make_run(tmp_path, "stopped", seed=1, stop_at_success=0.9)
    often = make_run(tmp_path, "often", seed=2, eval_every=500)
    for words, note in [
        ([plain, stopped], "stopped ran with --stop-at-success"),
        ([plain, often], ""),
        ([plain, often, "--table", "levels"], "evaluated every 500, 10000 steps"),
        ([plain, stopped, "--table", "levels"], ""),
    ]:
        table.main(words)
        errors = capsys.readouterr().err
        assert note in errors if note else errors == ""


def test_the_figure_of_an_archive_is_that_of_its_run(tmp_path):
    path = make_run(tmp_path, "run")
    lines = RunDirectory.open(path).metrics()
    draw = np.random.default_rng(0)
    for line in lines:
        for key in [key for key in line if key.startswith("fairness/")]:
            line[key] = draw.normal() if "weight" in key else draw.exponential()
    with open(f"{path}/metrics.jsonl", "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "7"])
    steps, expected = averaged(*read_weights(read_run(path)), 7)
    copied_steps, found = averaged(*read_weights(read_run(str(tmp_path / "kept" / "run"))), 60)
    np.testing.assert_allclose(copied_steps, steps)
    for network, kinds in expected.items():
        assert set(kinds) == {"weight", "gradient_norm", "norm_share", "share"}
        for kind, values in kinds.items():
            np.testing.assert_allclose(found[network][kind], values, rtol=1e-3)


def test_an_archive_is_a_run_without_checkpoints_and_folders(tmp_path):
    path = make_run(tmp_path, "run")
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    metadata["command"] = ["/home/me/train.py", "--run-dir=/home/me/x", "--seed", "1"]
    metadata["resumed"] = [{"step": 5, "command": ["train.py", "--resume", "/home/me/x"]}]
    (tmp_path / "run" / "metadata.json").write_text(json.dumps(metadata))
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "7"])
    copy = tmp_path / "kept" / "run"
    assert {p.name for p in copy.iterdir()} == {
        *("config.json", "metadata.json", "evaluations.csv", "metrics.jsonl")
    }
    kept = json.loads((copy / "metadata.json").read_text())
    assert kept["command"] == ["train.py", "--run-dir=x", "--seed", "1"]
    assert kept["resumed"][0]["command"] == ["train.py", "--resume", "x"]
    assert kept["versions"] == metadata["versions"]
    original, found = read_run(path), read_run(str(copy))
    assert found.success.tolist() == original.success.tolist()
    assert found.seconds.tolist() == original.seconds.tolist()
    steps, weights = read_weights(found)
    assert steps.tolist() == [450, 850, 1250, 1650, 2050, 2450, 2850]
    np.testing.assert_allclose(weights["actor"]["weight"], [[1, 0.1]] * 7)
    np.testing.assert_allclose(weights["critic"]["gradient_norm"], [[3, 60]] * 7)
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "0"])  # over the first
    with pytest.raises(ValueError, match="has no task weights"):
        read_weights(read_run(str(copy)))


def test_an_archive_keeps_averages_of_the_metrics_asked_for(tmp_path):
    path = make_run(tmp_path, "run")
    lines = RunDirectory.open(path).metrics()
    for line in lines:
        line["q/mean/reach-v3"] = line["step"] if line["step"] % 200 else None
        line["q/spread/reach-v3"] = 1.0
    with open(f"{path}/metrics.jsonl", "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    for words, kept in [([], {"q/mean/"}), (["--metrics", "q/", "losses"], {"q/", "losses"})]:
        archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "7", *words])
        copied = RunDirectory.open(str(tmp_path / "kept" / "run")).metrics()[3:]
        names = {key for line in copied for key in line if not key.startswith("fairness/")}
        assert names - {"step"} == {
            key
            for key in ("q/mean/reach-v3", "q/spread/reach-v3", "losses/critic")
            if key.startswith(tuple(kept))
        }
        # The steps 300 to 600; those of 400 and 600 have no Q.
        assert copied[0]["step"] == 450
        assert copied[0]["q/mean/reach-v3"] == 400


def test_an_archive_replaces_no_run(tmp_path, capsys):
    path = make_run(tmp_path, "run")
    elsewhere = make_run(tmp_path / "other", "run", seed=4)
    before = {file: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}
    with pytest.raises(SystemExit):
        archive.main([elsewhere, "--output", str(tmp_path)])
    assert f"{path} is a run, not a copy of one" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (plot, [], "no runs: give at least one run directory, before flags"),
        (table, [], "no runs"),
        (archive, ["--output", "x"], "no runs"),
        (plot, ["nowhere"], "there is no run at nowhere"),
        (table, ["nowhere"], "there is no run at nowhere"),
        (archive, ["nowhere", "--output", "x"], "there is no run at nowhere"),
        (plot, ["RUN", "--output", "no/such/x.png"], "there is no folder no/such"),
        (plot, ["RUN", "--output", "x.foo"], "unknown format 'foo'"),
        (plot, ["RUN", "--figure", "runs", "--labels", "a", "b"], "2 labels were given for 1 runs"),
        (plot, ["RUN", "RUN", "--figure", "weights"], "shows one run, but 2 were given"),
        (table, ["RUN", "--step", "7"], "--step 7 is not one at which all runs were evaluated"),
        (table, ["RUN", "--table", "levels", "--level", "0"], "--level is 0"),
        (table, ["RUN", "--level", "0.9"], "--level is 0.9, but --table summary has no use for it"),
        (table, ["RUN", "--table", "curves", "--step", "1"], "choose --table summary or tasks"),
        (plot, ["RUN", "--level", "0.9"], "--level is 0.9, but --figure success has no use"),
        (plot, ["RUN", "--figure", "levels", "--level", "95"], "--level is 95"),
        (archive, ["RUN", "RUN", "--output", "x"], "2 of the runs are named run"),
        (archive, ["RUN", "--output", "x", "--lines", "-1"], "--lines is -1"),
        (archive, ["RUN", "--output", "RUN/config.json"], "is a file or in one"),
    ],
)
def test_bad_input_exits_with_2(script, words, message, tmp_path, capsys):
    path = make_run(tmp_path, "run")
    with pytest.raises(SystemExit) as stopped:
        script.main([word.replace("RUN", path) for word in words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
