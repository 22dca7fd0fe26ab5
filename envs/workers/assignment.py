"""Which process steps which rows: balanced by what the rows cost."""

from __future__ import annotations

from collections.abc import Sequence


def assign_rows(
    costs: Sequence[float], num_workers: int, *, last_worker_cost: float = 0.0
) -> list[list[int]]:
    """Returns the rows of each worker: the most expensive row first, always to the least busy one.

    Args:
        costs: of a step of each row, in any unit.
        num_workers: at most as many as rows.
        last_worker_cost: what else the last worker has to do in a step, in the same unit. A calling
            process that steps rows, too, is that worker.
    """
    loads = [(0.0, worker) for worker in range(num_workers)]
    loads[-1] = (last_worker_cost, num_workers - 1)
    rows: list[list[int]] = [[] for _ in loads]
    for row in sorted(range(len(costs)), key=lambda row: -costs[row]):
        load, worker = min(loads)
        loads[worker] = (load + costs[row], worker)
        rows[worker].append(row)
    return [sorted(assigned) for assigned in rows]
