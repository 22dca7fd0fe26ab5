"""Which process steps which tasks."""

from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs import costs
from envs.costs import STEP_COSTS, assign_tasks


def test_costs_are_known_of_all_tasks():
    assert set(STEP_COSTS) == set(ALL_V3_ENVIRONMENTS)
    assert all(cost > 0 for cost in STEP_COSTS.values())


def test_tasks_are_shared_by_their_costs(monkeypatch):
    monkeypatch.setattr(costs, "STEP_COSTS", {"dear": 20.0, "cheap": 1.0})
    assert assign_tasks(["cheap", "cheap", "dear", "cheap"], 2) == [[2], [0, 1, 3]]


def test_the_caller_has_a_little_less_to_step(monkeypatch):
    monkeypatch.setattr(costs, "STEP_COSTS", {"dear": 20.0, "cheap": 1.0})
    names = ["dear", "dear", "dear", "cheap"]
    assert assign_tasks(names, 2) == [[0, 2], [1, 3]]
    assert assign_tasks(names, 2, caller_steps=True) == [[0, 1, 3], [2]]
