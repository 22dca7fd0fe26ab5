"""Runs read back and grouped; their numbers say which they are."""

import json

import numpy as np
import pytest

from configs import TrainConfig
from mtrl_fair.results.runs import RunGroup, group_runs, read_run, read_runs
from mtrl_fair.results.weights import averaged, read_weights
from mtrl_fair.runs import RunDirectory, RunError
from tests.mtrl_fair.results.written_runs import TASKS, make_run, success


def test_a_run_is_read_back(tmp_path):
    run = read_run(make_run(tmp_path, "run", seed=2))
    assert run.tasks == TASKS
    assert run.steps.tolist() == [1000, 2000, 3000]
    assert run.seconds.tolist() == [62, 122, 182]
    assert run.success.tolist() == [
        [success(k, step, 2) for k in range(2)] for step in (1000, 2000, 3000)
    ]
    assert run.settings["agent.discount"] == 0.9
    assert run.settings["agent.batch_size"] == 128  # the default of a setting it does not have


def test_what_is_half_written_is_left_out(tmp_path):
    path = make_run(tmp_path, "run")
    with open(f"{path}/evaluations.csv", "a", newline="") as file:
        file.write("4000,reach-v3,1.0,50,1.0,2.0\r\n4000,push-v3,1.0,50,1.0,2")
    with open(f"{path}/metrics.jsonl", "a") as file:
        file.write('{"step": 4000, "charts/sec')
    assert read_run(path).steps.tolist() == [1000, 2000, 3000]
    assert read_weights(read_run(path))[0][-1] == 3000


@pytest.mark.parametrize("rows", ["", "1000,reach-v3,1.0,50,1.0,2.0\r\n1000,push-v3,1.", "1000,re"])
def test_a_run_without_a_whole_evaluation_has_none_yet(tmp_path, rows):
    path = make_run(tmp_path, "run", steps=())
    with open(f"{path}/evaluations.csv", "a", newline="") as file:
        file.write(rows)
    with pytest.raises(ValueError, match="has no evaluation yet"):
        read_run(path)


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path):
    paths = [
        make_run(tmp_path, "a", seed=0),
        make_run(tmp_path, "b", seed=1, combiner="ls"),
        make_run(tmp_path, "c", seed=5, steps=(2000, 3000, 4000), eval_every=500, threads=1),
    ]
    groups = group_runs(read_runs(paths))
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
        make_run(tmp_path, "new", seed=1, alpha=TrainConfig().alpha),
    ]
    (group,) = group_runs(read_runs(paths))
    assert len(group.runs) == 2


def test_groups_are_named_for_what_tells_them_apart(tmp_path):
    widths = [{"actor": {"width": 1}}, {"critic": {"width": 1}}]
    paths = [make_run(tmp_path, str(i), agent=agent) for i, agent in enumerate(widths)]
    assert [group.label for group in group_runs(read_runs(paths))] == [
        "agent.actor.width=1 agent.critic.width=400",
        "agent.actor.width=400 agent.critic.width=1",
    ]
    networks = [{"actor": "ls"}, {"critic": "ls"}, {}]
    paths = [make_run(tmp_path, f"on{i}", combining=on) for i, on in enumerate(networks)]
    assert [group.label for group in group_runs(read_runs(paths))] == [
        "actor=ls",
        "critic=ls",
        "fairgrad",
    ]
    only = {"combining": {"critic": "ls", "actor": "ls"}, "agent": {"combine_temperature": True}}
    paths = [make_run(tmp_path, f"alpha{alpha}", alpha=alpha, **only) for alpha in (1.0, 2.0)]
    assert [group.label for group in group_runs(read_runs(paths))] == ["alpha=1.0", "alpha=2.0"]
    paths = [
        make_run(tmp_path, name, combiner=name, alpha=alpha)
        for name, alpha in (("fairgrad", 1.0), ("nash_mtl", 2.0))
    ]
    assert [group.label for group in group_runs(read_runs(paths))] == [
        "fairgrad alpha=1.0",
        "nash_mtl",
    ]


def test_labels_decide_where_they_are_given(tmp_path):
    runs = read_runs([make_run(tmp_path, name, seed=i) for i, name in enumerate("abc")])
    assert [group.label for group in group_runs(runs)] == ["fairgrad"]
    groups = group_runs(runs, ["x", "y", "x"])
    assert [(group.label, len(group.runs)) for group in groups] == [("x", 2), ("y", 1)]
    with pytest.raises(ValueError, match="2 labels were given for 3 runs"):
        group_runs(runs, ["x", "y"])
    other = read_run(make_run(tmp_path, "other", tasks=("reach-v3",)))
    with pytest.raises(ValueError, match="other has the tasks reach-v3, but"):
        group_runs([*runs, other])


def test_a_note_names_the_commits_that_are_mixed(tmp_path, capsys):
    paths = [make_run(tmp_path, name, seed=i) for i, name in enumerate("ab")]
    group_runs(read_runs(paths))
    assert capsys.readouterr().err == ""
    metadata = json.loads((tmp_path / "b" / "metadata.json").read_text())
    (tmp_path / "b" / "metadata.json").write_text(json.dumps(metadata | {"commit": "0123456789"}))
    group_runs(read_runs(paths))
    assert "note: the runs of fairgrad are of commits 0123456, " in capsys.readouterr().err


def test_a_run_has_the_commits_that_it_was_resumed_with(tmp_path, capsys):
    path = make_run(tmp_path, "run")
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    resumed = [{"step": 1, "commit": commit} for commit in ("a" * 40, None, "a" * 40, "b" * 40)]
    changed = metadata | {"commit": "b" * 40, "resumed": resumed}
    (tmp_path / "run" / "metadata.json").write_text(json.dumps(changed))
    assert read_run(path).commits == ("bbbbbbb", "aaaaaaa", "unknown")
    group_runs(read_runs([path]))
    assert "note: the runs of fairgrad are of commits aaaaaaa, bbbbbbb" in capsys.readouterr().err


def test_one_seed_does_not_count_twice(tmp_path):
    paths = [make_run(tmp_path, name, seed=3) for name in ("one", "two")]
    with pytest.raises(ValueError, match=r"one and .*two count as runs of fairgrad .* seed 3"):
        group_runs(read_runs(paths))


def test_runs_without_an_evaluation_in_common_are_no_group(tmp_path):
    runs = [
        read_run(make_run(tmp_path, f"run{seed}", seed=seed, steps=(1000 + seed,)))
        for seed in (0, 1)
    ]
    with pytest.raises(ValueError, match="never evaluated at the same step"):
        RunGroup.of("mine", runs)


def test_what_is_no_run_of_this_version_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no run"):
        read_run(str(tmp_path))
    path = make_run(tmp_path, "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="has no charts/seconds at step 1000"):
        read_run(path)
    (tmp_path / "run" / "evaluations.csv").write_text("step,epoch\r\n1,2\r\n")
    with pytest.raises(RunError, match="has the columns step,epoch, expected step,task,success"):
        read_run(path)


def test_a_refused_rewind_leaves_the_run_alone(tmp_path):
    path = make_run(tmp_path, "run")
    (tmp_path / "run" / "evaluations.csv").write_text("step,seconds,task\r\n1,2,3\r\n")
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}
    with pytest.raises(RunError, match="of another version"):
        RunDirectory.open(path).rewind(0)
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}


def test_weights_are_averaged_over_parts_of_the_run(tmp_path):
    path = make_run(tmp_path, "run")
    weight = [[1.0, 4], [100, 4], [0, 4], [8, None]]
    norm = [[2.0, 1], [2, 1], [5, 1], [1, 1]]
    with open(f"{path}/metrics.jsonl", "w") as file:
        for step in (1000, 2000, 3000):
            file.write(json.dumps({"step": step, "charts/seconds": 1.0}) + "\n")
        for step, weights, norms in zip((10, 20, 30, 40), weight, norm, strict=True):
            line = {"step": step}
            for task, w, n in zip(TASKS, weights, norms, strict=True):
                line |= {} if w is None else {f"fairness/weight/{task}/actor": w}
                line[f"fairness/gradient_norm/{task}/actor"] = n
            file.write(json.dumps(line) + "\n")
    centres, result = averaged(*read_weights(read_run(path)), 2)
    assert centres.tolist() == [15, 35]
    # Geometric means, but the arithmetic one where a weight is zero.
    np.testing.assert_allclose(result["actor"]["weight"], [[10, 4], [4, 4]])
    np.testing.assert_allclose(result["actor"]["gradient_norm"], [[2, 1], [5**0.5, 1]])
    first = np.array([2 / 6, 4 / 6]) / 2 + np.array([200 / 204, 4 / 204]) / 2
    np.testing.assert_allclose(result["actor"]["share"], [first, [(0 + 1) / 2, 1]])
    second = np.array([5 / 6, 1 / 6]) / 2 + np.array([1, 1]) / 2 / 2
    np.testing.assert_allclose(result["actor"]["norm_share"], [[2 / 3, 1 / 3], second])
    _, only_weights = averaged(np.arange(4.0), {"actor": {"weight": np.ones((4, 2))}}, 60)
    assert set(only_weights["actor"]) == {"weight"}
    assert len(only_weights["actor"]["weight"]) == 4


def test_weights_of_one_network_are_enough(tmp_path):
    path = make_run(tmp_path, "run", networks=("actor",))
    _, weights = read_weights(read_run(path))
    assert not weights["critic"]
    assert set(weights["actor"]) == {"weight", "gradient_norm", "norm_share", "share"}
    (tmp_path / "run" / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "charts/seconds": 1.0}) + "\n" for step in (1000, 2000, 3000)
        )
    )
    with pytest.raises(ValueError, match="has no task weights"):
        read_weights(read_run(path))
