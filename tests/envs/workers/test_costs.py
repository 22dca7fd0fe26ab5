"""Which worker steps which rows."""

from itertools import product

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs.workers import costs
from envs.workers.costs import STEP_COSTS, assign_rows


@pytest.fixture
def random_costs(monkeypatch):
    """Of tasks "0", "1", ..."""

    def random_costs(number: int, seed: int) -> dict[str, float]:
        drawn = np.random.default_rng(seed).exponential(100, number) + 1
        by_name = {str(task): float(cost) for task, cost in enumerate(drawn)}
        monkeypatch.setattr(costs, "STEP_COSTS", by_name)
        return by_name

    return random_costs


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("seed", range(5))
def test_every_row_has_one_worker_and_every_worker_a_row(random_costs, workers, seed):
    names = [*random_costs(8, seed), "0", "3"]  # tasks may come twice
    rows = assign_rows(names, workers)
    assert len(rows) == workers
    assert all(rows)
    assert sorted(row for assigned in rows for row in assigned) == list(range(10))
    assert all(assigned == sorted(assigned) for assigned in rows)
    assert assign_rows(names, workers) == rows


@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_loads_differ_by_one_row_at_most(random_costs, workers, seed):
    by_name = random_costs(50, seed)
    rows = assign_rows(list(by_name), workers)
    loads = [[by_name[str(row)] for row in assigned] for assigned in rows]
    busiest = max(loads, key=sum)
    assert sum(busiest) - min(map(sum, loads)) <= min(busiest) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_no_more_than_a_third_above_the_best_assignment(random_costs, seed):
    """Graham's bound for the longest first: 4/3 - 1/(3 workers)."""
    by_name, workers = random_costs(6, seed), 2 + seed % 2
    step = np.array(list(by_name.values()))

    def slowest(workers_of_rows) -> float:
        return np.bincount(workers_of_rows, step, workers).max()

    best = min(slowest(np.array(each)) for each in product(range(workers), repeat=6))
    ours = np.zeros(6, int)
    for worker, assigned in enumerate(assign_rows(list(by_name), workers)):
        ours[assigned] = worker
    assert slowest(ours) <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9


def test_the_dearest_row_has_a_worker_of_its_own(monkeypatch):
    monkeypatch.setattr(costs, "STEP_COSTS", {"dear": 3.0, "cheap": 1.0})
    assert assign_rows(["cheap", "cheap", "dear", "cheap"], 2) == [[2], [0, 1, 3]]


def test_rows_of_equal_cost_are_dealt_out():
    assert assign_rows(["reach-v3"] * 5, 2) == [[0, 2, 4], [1, 3]]


def test_the_caller_has_a_little_less_to_step(monkeypatch):
    monkeypatch.setattr(costs, "STEP_COSTS", {"dear": 20.0, "cheap": 1.0})
    names = ["dear", "dear", "dear", "cheap"]
    assert assign_rows(names, 2) == [[0, 2], [1, 3]]
    assert assign_rows(names, 2, caller_steps=True) == [[0, 1, 3], [2]]


def test_costs_are_known_of_all_tasks():
    assert set(STEP_COSTS) == set(ALL_V3_ENVIRONMENTS)
    assert all(cost > 0 for cost in STEP_COSTS.values())
