"""Which worker steps which rows: balanced by what the tasks cost."""

from __future__ import annotations

from collections.abc import Sequence

STEP_COSTS: dict[str, float] = {}
"""Microseconds of a step, under random actions on one core of a 2020s server; only their ratios
matter. Measured by `scripts/bench.py env --costs`."""


def assign_rows(names: Sequence[str], num_workers: int) -> list[list[int]]:
    """The rows of each worker: the most expensive row first, always to the least busy worker.

    Args:
        names: the task of each row.
        num_workers: at most as many as rows.
    """
    costs = [STEP_COSTS.get(name, 1.0) for name in names]
    loads = [(0.0, worker) for worker in range(num_workers)]
    rows: list[list[int]] = [[] for _ in loads]
    for row in sorted(range(len(names)), key=lambda row: -costs[row]):
        load, worker = min(loads)
        loads[worker] = (load + costs[row], worker)
        rows[worker].append(row)
    return [sorted(assigned) for assigned in rows]
