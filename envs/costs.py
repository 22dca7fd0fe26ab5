"""Which worker steps which rows: balanced by what the tasks cost."""

from __future__ import annotations

from collections.abc import Sequence

STEP_COSTS = {
    "assembly-v3": 165.4,
    "basketball-v3": 115.4,
    "bin-picking-v3": 128.0,
    "box-close-v3": 184.7,
    "button-press-topdown-v3": 89.2,
    "button-press-topdown-wall-v3": 90.8,
    "button-press-v3": 90.1,
    "button-press-wall-v3": 92.3,
    "coffee-button-v3": 108.8,
    "coffee-pull-v3": 139.2,
    "coffee-push-v3": 140.7,
    "dial-turn-v3": 100.0,
    "disassemble-v3": 162.8,
    "door-close-v3": 95.5,
    "door-lock-v3": 104.0,
    "door-open-v3": 123.7,
    "door-unlock-v3": 108.7,
    "hand-insert-v3": 120.6,
    "drawer-close-v3": 100.1,
    "drawer-open-v3": 97.0,
    "faucet-open-v3": 92.1,
    "faucet-close-v3": 92.4,
    "hammer-v3": 159.9,
    "handle-press-side-v3": 85.5,
    "handle-press-v3": 91.3,
    "handle-pull-side-v3": 101.8,
    "handle-pull-v3": 99.5,
    "lever-pull-v3": 93.7,
    "pick-place-wall-v3": 132.5,
    "pick-out-of-hole-v3": 116.6,
    "pick-place-v3": 121.6,
    "plate-slide-v3": 91.9,
    "plate-slide-side-v3": 92.4,
    "plate-slide-back-v3": 96.8,
    "plate-slide-back-side-v3": 96.9,
    "peg-insert-side-v3": 129.5,
    "peg-unplug-side-v3": 136.3,
    "soccer-v3": 122.0,
    "stick-push-v3": 157.4,
    "stick-pull-v3": 162.6,
    "push-v3": 122.4,
    "push-wall-v3": 131.9,
    "push-back-v3": 124.6,
    "reach-v3": 99.3,
    "reach-wall-v3": 101.8,
    "shelf-place-v3": 133.8,
    "sweep-into-v3": 136.0,
    "sweep-v3": 121.5,
    "window-open-v3": 95.8,
    "window-close-v3": 104.1,
}
"""Microseconds of a step, under random actions on one core of a 2020s server; only their ratios
matter. Measured by `scripts/bench.py env --costs`."""


CALLER_COST = 30.0
"""Microseconds that the calling process needs in a step besides its rows."""


def assign_rows(
    names: Sequence[str], num_workers: int, *, caller_steps: bool = False
) -> list[list[int]]:
    """The rows of each worker: the most expensive row first, always to the least busy worker.

    Args:
        names: the task of each row.
        num_workers: at most as many as rows.
        caller_steps: the last worker is the calling process, which has other work as well.
    """
    costs = [STEP_COSTS[name] for name in names]
    loads = [(0.0, worker) for worker in range(num_workers)]
    if caller_steps:
        loads[-1] = (CALLER_COST, num_workers - 1)
    rows: list[list[int]] = [[] for _ in loads]
    for row in sorted(range(len(names)), key=lambda row: -costs[row]):
        load, worker = min(loads)
        loads[worker] = (load + costs[row], worker)
        rows[worker].append(row)
    return [sorted(assigned) for assigned in rows]
