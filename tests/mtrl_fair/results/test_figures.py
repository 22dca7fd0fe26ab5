"""What figures show of runs whose numbers say which they are."""

import numpy as np

from mtrl_fair.results.figures import (
    level_figure,
    run_figure,
    success_figure,
    task_figure,
    weight_figure,
)
from mtrl_fair.results.groups import group_runs
from mtrl_fair.results.statistics import run_interval
from tests.mtrl_fair.results.written_runs import TASKS, make_run, read, read_all, success


def test_the_success_figure_shows_means_over_steps_and_minutes(tmp_path):
    paths = [make_run(tmp_path, name, seed=i) for i, name in enumerate("abc")]
    figure = success_figure(group_runs(read_all(paths)))
    over_steps, over_minutes = figure.axes
    line, *single = over_steps.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(line.get_ydata(), [(step + 0.5 + 1) / 100 for step in (1, 2, 3)])
    np.testing.assert_allclose(
        single[2].get_ydata(), [(step + 0.5 + 2) / 100 for step in (1, 2, 3)]
    )
    # Seed n is a second behind seed n - 1: the last begins after 62 s, the first ends after 180.
    minutes = [1 + 2 / 60, 2 + 1 / 60, 3]
    np.testing.assert_allclose(over_minutes.lines[0].get_xdata(), minutes)
    at = {
        seed: np.interp(minutes, [m + seed / 60 for m in (1, 2, 3)], [1, 2, 3]) + 0.5 + seed
        for seed in range(3)
    }
    np.testing.assert_allclose(
        over_minutes.lines[0].get_ydata(), np.mean(list(at.values()), 0) / 100
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fairgrad (3 runs)"]
    assert not success_figure(group_runs(read_all(paths[:2]))).axes[0].collections


def test_the_band_of_three_runs_is_the_interval_at_each_evaluation(tmp_path):
    steps = (1000, 2000, 4000, 9000)
    paths = [make_run(tmp_path, f"run{seed}", seed=seed, steps=steps) for seed in (0, 1, 5)]
    (group,) = group_runs(read_all(paths))
    axis = success_figure([group]).axes[0]
    (band,) = axis.collections
    corners = {tuple(point) for point in np.round(band.get_paths()[0].vertices, 9).tolist()}
    for index, step in enumerate(steps):
        for bound in run_interval(group.success[:, index]):
            assert (step / 1000, round(bound, 9)) in corners


def test_the_task_figure_has_one_panel_per_task(tmp_path):
    groups = group_runs(
        read_all([make_run(tmp_path, name, combiner=name) for name in ("ls", "pcgrad")])
    )
    axes = task_figure(groups).axes
    assert [axis.get_title() for axis in axes] == list(TASKS)
    for k, axis in enumerate(axes):
        expected = [success(k, step, 0) for step in (1000, 2000, 3000)]
        np.testing.assert_allclose([line.get_ydata() for line in axis.lines], [expected] * 2)
    (group,) = group_runs(read_all([make_run(tmp_path, f"s{i}", seed=i) for i in (0, 8)]))
    lines = [line.get_ydata()[0] for line in task_figure([group]).axes[0].lines]
    np.testing.assert_allclose(lines, [0.05, 0.01, 0.09])  # their mean, and each


def test_the_run_figure_shows_whole_runs_and_one_colour_per_task(tmp_path):
    runs = read_all(
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
    assert shown == ["mean", "reach-v3", "push-v3", "door-open-v3"]


def test_the_weight_figure_shows_weights_norms_and_shares(tmp_path):
    axes = weight_figure(read(make_run(tmp_path, "run")), "title").axes
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
    run = read(make_run(tmp_path, "run", networks=("actor",)))
    critic, actor, *_ = weight_figure(run, "title").axes
    assert not critic.lines
    assert len(actor.lines) == 2


def test_labels_are_drawn_as_they_are(tmp_path):
    labels = ["_a", "cost $x_{$", r"b\$"]
    runs = read_all([make_run(tmp_path, f"{i}$_$", combiner=f"{i}") for i in range(3)])
    groups = group_runs(runs, labels)
    ticks = level_figure(groups, 0.5).axes[0].get_yticklabels()
    legends = [figure(groups).legends[0].get_texts() for figure in (success_figure, task_figure)]
    for texts in (ticks, *legends):
        shown = [text._preprocess_math(text.get_text()) for text in texts]
        assert [(text.lstrip("\u200b"), math) for text, math in shown] == [
            (label, False) for label in labels
        ]
    (first, *_), title = run_figure(runs, labels).axes, weight_figure(runs[0], labels[1])._suptitle
    assert first.title._preprocess_math(first.get_title()) == ("\u200b_a", False)
    assert title._preprocess_math(title.get_text()) == (labels[1], False)


def test_no_mean_is_of_a_run_that_has_no_evaluation_yet(tmp_path):
    def over_minutes(paths):
        (group,) = group_runs(read_all(paths))
        return success_figure([group]).axes[1].lines[0].get_xdata().tolist()

    paths = [make_run(tmp_path, f"run{seed}", seed=seed) for seed in (0, 90)]
    assert over_minutes(paths) == [2.5, 2.75, 3]  # 60 to 180 s, and 150 to 270 s
    paths.append(make_run(tmp_path, "over", seed=1, steps=(1000,)))  # before the second's first
    assert over_minutes(paths) == []
