"""How commands read the runs of train.py."""

import numpy as np

from configs import FAIRGRAD_SETTINGS, TrainConfig
from envs.tasks import task_names
from mtrl_fair.results.groups import group_runs
from scripts.comparing.training_runs import RULES, read_training_runs
from tests.mtrl_fair.results.written_runs import TASKS, make_run


def test_a_setting_that_a_run_does_not_have_is_at_its_default(tmp_path):
    paths = [
        make_run(tmp_path, "old"),
        make_run(tmp_path, "new", seed=1, alpha=TrainConfig().alpha),
    ]
    (group,) = group_runs(read_training_runs(paths))
    assert len(group.runs) == 2
    assert group.runs[0].settings["agent.critic.width"] == TrainConfig().agent.critic.width


def test_settings_of_how_and_how_often_make_no_group(tmp_path):
    changes = ({}, {"eval_every": 500}, {"log_every": 1}, {"threads": 2}, {"device": "cuda"})
    paths = [make_run(tmp_path, str(seed), seed, **more) for seed, more in enumerate(changes)]
    (group,) = group_runs(read_training_runs(paths))
    assert group.label == "fairgrad"


def test_fairgrad_s_settings_name_no_run_of_another_method(tmp_path):
    assert set(RULES.needs_combiner) == set(FAIRGRAD_SETTINGS.values())
    runs = read_training_runs(
        [
            make_run(tmp_path, name, combiner=name, solver=solver)
            for name, solver in (("fairgrad", "newton"), ("nash_mtl", "sgd"))
        ]
    )
    assert [group.label for group in group_runs(runs)] == ["fairgrad solver=newton", "nash_mtl"]


def test_a_benchmark_stands_for_its_tasks(tmp_path):
    names = task_names("mt10")
    path = make_run(tmp_path, "run", tasks=names)
    for tasks in (["mt10"], list(names)):
        assert RULES.task_names(tasks) == names
    assert RULES.task_names(["reach-v3"]) == ("reach-v3",)
    (run,) = read_training_runs([path])
    assert run.tasks == names
    (run,) = read_training_runs([make_run(tmp_path, "other")])
    assert run.tasks == TASKS


def test_training_ends_at_the_success_that_tables_call_reached():
    mean = float(np.mean((1, 1, 1, 0.82, 0.9, 1, 1, 1, 1, 0.78)))
    assert mean < 0.95  # though it is 475 of 500
    assert TrainConfig(stop_at_success=0.95).limits_reached(3000, mean)
