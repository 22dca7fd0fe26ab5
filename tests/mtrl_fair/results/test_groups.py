"""Runs that differ in their seed, as groups with labels."""

import pytest

from mtrl_fair.results.groups import RunGroup, group_runs
from tests.mtrl_fair.results.written_runs import RULES, make_run, read, read_all, success


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path):
    paths = [
        make_run(tmp_path, "a", seed=0),
        make_run(tmp_path, "b", seed=1, combiner="ls"),
        make_run(tmp_path, "c", seed=5, steps=(2000, 3000, 4000), eval_every=500, threads=1),
    ]
    groups = group_runs(read_all(paths))
    assert [group.label for group in groups] == ["fairgrad", "ls"]
    fairgrad = groups[0]
    assert [run.path.name for run in fairgrad.runs] == ["a", "c"]
    assert fairgrad.steps.tolist() == [2000, 3000]
    assert fairgrad.success[:, 1].tolist() == [
        [success(k, 3000, seed) for k in range(2)] for seed in (0, 5)
    ]
    assert fairgrad.minutes.tolist() == pytest.approx([122.5 / 60, 182.5 / 60])


def test_a_setting_that_a_run_does_not_have_is_at_its_default(tmp_path):
    paths = [
        make_run(tmp_path, "old"),
        make_run(tmp_path, "new", seed=1, alpha=RULES.defaults["alpha"]),
    ]
    (group,) = group_runs(read_all(paths))
    assert len(group.runs) == 2


def test_groups_are_named_for_what_tells_them_apart(tmp_path):
    widths = [{"actor": {"width": 1}}, {"critic": {"width": 1}}]
    paths = [make_run(tmp_path, str(i), agent=agent) for i, agent in enumerate(widths)]
    assert [group.label for group in group_runs(read_all(paths))] == [
        "agent.actor.width=1 agent.critic.width=400",
        "agent.actor.width=400 agent.critic.width=1",
    ]
    networks = [{"actor": "ls"}, {"critic": "ls"}, {}]
    paths = [make_run(tmp_path, f"on{i}", combining=on) for i, on in enumerate(networks)]
    assert [group.label for group in group_runs(read_all(paths))] == [
        "actor=ls",
        "critic=ls",
        "fairgrad",
    ]
    only = {"combining": {"critic": "ls", "actor": "ls"}, "agent": {"combine_temperature": True}}
    paths = [make_run(tmp_path, f"alpha{alpha}", alpha=alpha, **only) for alpha in (1.0, 2.0)]
    assert [group.label for group in group_runs(read_all(paths))] == ["alpha=1.0", "alpha=2.0"]
    paths = [
        make_run(tmp_path, name, combiner=name, alpha=alpha)
        for name, alpha in (("fairgrad", 1.0), ("nash_mtl", 2.0))
    ]
    assert [group.label for group in group_runs(read_all(paths))] == [
        "fairgrad alpha=1.0",
        "nash_mtl",
    ]


def test_labels_decide_where_they_are_given(tmp_path):
    runs = read_all([make_run(tmp_path, name, seed=i) for i, name in enumerate("abc")])
    assert [group.label for group in group_runs(runs)] == ["fairgrad"]
    groups = group_runs(runs, ["x", "y", "x"])
    assert [(group.label, len(group.runs)) for group in groups] == [("x", 2), ("y", 1)]
    with pytest.raises(ValueError, match="2 labels were given for 3 runs"):
        group_runs(runs, ["x", "y"])
    other = read(make_run(tmp_path, "other", tasks=("reach-v3",)))
    with pytest.raises(ValueError, match="other has the tasks reach-v3, but"):
        group_runs([*runs, other])


def test_one_seed_does_not_count_twice(tmp_path):
    paths = [make_run(tmp_path, name, seed=3) for name in ("one", "two")]
    with pytest.raises(ValueError, match=r"one and .*two count as runs of fairgrad .* seed 3"):
        group_runs(read_all(paths))


def test_runs_without_an_evaluation_in_common_are_no_group(tmp_path):
    runs = [
        read(make_run(tmp_path, f"run{seed}", seed=seed, steps=(1000 + seed,))) for seed in (0, 1)
    ]
    with pytest.raises(ValueError, match="never evaluated at the same step"):
        RunGroup.of("mine", runs)
