"""Task sets by name, and their goals, are the package's own."""

import metaworld
import pytest
from metaworld.env_dict import MT25_V3_ARGS_KWARGS

from envs import make_vec, tasks
from tests.envs.small_vector import PAIR


@pytest.mark.slow
def test_goals_are_the_package_s_own(mt10, package_mt10):
    goals = package_mt10.train_tasks
    assert [goal for row in mt10.goals for goal in row] == goals
    assert len(goals) == 500


@pytest.mark.slow
def test_a_list_has_the_goals_of_each_single_benchmark(pair):
    for name, goals in zip(PAIR, pair.goals, strict=True):
        assert list(goals) == metaworld.MT1(name, seed=3).train_tasks


def test_task_sets_by_name():
    assert tasks.task_names("mt10")[0] == "reach-v3"
    assert [len(tasks.task_names(name)) for name in ("mt10", "mt25", "mt50")] == [10, 25, 50]
    assert tasks.task_names("push-v3") == ("push-v3",)
    assert tasks.task_names(["push-v3", "push-v3"]) == ("push-v3", "push-v3")


def test_mt25_has_the_package_s_tasks_in_its_order():
    assert tasks.task_names("mt25") == tuple(MT25_V3_ARGS_KWARGS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("reach-v2", "unknown task 'reach-v2': did you mean reach-v3"),
        ("mt11", "unknown task 'mt11'"),
        (["reach-v3", "mt10"], "mt10 is a whole benchmark"),
        ([], "no tasks"),
    ],
)
def test_unknown_tasks_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        make_vec(names)


def test_too_few_goals_are_refused(pair):
    with pytest.raises(ValueError, match="51 goals per task were asked for, but there are 50"):
        pair.first_goals(51)
    assert [len(goals) for goals in pair.first_goals(2).goals] == [2, 2]
