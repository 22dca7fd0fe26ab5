"""Task sets by name, and their goals, are the package's own."""

import pickle

import metaworld
import pytest
from metaworld.env_dict import MT25_V3_ARGS_KWARGS

from envs import TaskSet, make_vec, tasks
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


def test_named_tasks_may_have_the_goals_of_a_benchmark(mt10):
    names = ("pick-place-v3", "reach-v3")
    subset = TaskSet.make(names, 0, "mt10")
    assert subset.names == names
    for name, goals in zip(names, subset.goals, strict=True):
        assert goals == mt10.goals[mt10.names.index(name)]
    assert TaskSet.make("mt10", 0, "mt10").goals == mt10.goals
    assert TaskSet.make("reach-v3", 0, "mt10").goals == subset.goals[1:]


def test_goals_of_named_tasks_are_one_set_of_positions_and_not_the_benchmark_s(mt10):
    """What the documentation warns of."""

    def positions(task_set: TaskSet, row: int) -> set[tuple[float, ...]]:
        return {tuple(pickle.loads(goal.data)["rand_vec"]) for goal in task_set.goals[row]}

    named = TaskSet.make(("reach-v3", "pick-place-v3"), 0)
    assert positions(named, 0) == positions(named, 1)
    assert positions(named, 0) == positions(mt10, mt10.names.index("reach-v3"))
    assert not positions(named, 1) & positions(mt10, mt10.names.index("pick-place-v3"))


@pytest.mark.parametrize(
    ("names", "goals_of", "message"),
    [
        (PAIR, "mt11", "unknown benchmark 'mt11': did you mean mt10"),
        (
            ("reach-v3", "push-wall-v3"),
            "mt10",
            "goals_of is mt10, which has no push-wall-v3: choose",
        ),
        ("mt25", "mt10", "goals_of is mt10, but mt25 has goals of its own"),
    ],
)
def test_goals_that_a_benchmark_does_not_have_are_refused(names, goals_of, message):
    with pytest.raises(ValueError, match=message):
        TaskSet.make(names, 0, goals_of)


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
