"""Which process steps which rows."""

from itertools import product

import numpy as np
import pytest

from envs.workers.assignment import assign_rows


def random_costs(number: int, seed: int) -> list[float]:
    return [float(cost) for cost in np.random.default_rng(seed).exponential(100, number) + 1]


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("seed", range(5))
def test_every_row_has_one_worker_and_every_worker_a_row(workers, seed):
    costs = random_costs(8, seed)
    costs += [costs[0], costs[3]]  # rows may cost the same
    rows = assign_rows(costs, workers)
    assert len(rows) == workers
    assert all(rows)
    assert sorted(row for assigned in rows for row in assigned) == list(range(10))
    assert all(assigned == sorted(assigned) for assigned in rows)
    assert assign_rows(costs, workers) == rows


@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_loads_differ_by_one_row_at_most(workers, seed):
    costs = random_costs(50, seed)
    loads = [[costs[row] for row in assigned] for assigned in assign_rows(costs, workers)]
    busiest = max(loads, key=sum)
    assert sum(busiest) - min(map(sum, loads)) <= min(busiest) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_no_more_than_a_third_above_the_best_assignment(seed):
    """Graham's bound for the longest first: 4/3 - 1/(3 workers)."""
    costs, workers = random_costs(6, seed), 2 + seed % 2

    def slowest(workers_of_rows) -> float:
        return np.bincount(workers_of_rows, costs, workers).max()

    best = min(slowest(np.array(each)) for each in product(range(workers), repeat=6))
    ours = np.zeros(6, int)
    for worker, assigned in enumerate(assign_rows(costs, workers)):
        ours[assigned] = worker
    assert slowest(ours) <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9


def test_the_dearest_row_has_a_worker_of_its_own():
    assert assign_rows([1.0, 1.0, 3.0, 1.0], 2) == [[2], [0, 1, 3]]


def test_rows_of_equal_cost_are_dealt_out():
    assert assign_rows([5.0] * 5, 2) == [[0, 2, 4], [1, 3]]


def test_a_last_worker_that_has_other_work_gets_less():
    costs = [20.0, 20.0, 20.0, 1.0]
    assert assign_rows(costs, 2) == [[0, 2], [1, 3]]
    assert assign_rows(costs, 2, last_worker_cost=30.0) == [[0, 1, 3], [2]]
