"""What a step of each task costs, so that the processes can share the tasks evenly."""

from __future__ import annotations

from collections.abc import Sequence

from envs.workers.assignment import assign_rows

STEP_COSTS = {
    "assembly-v3": 141.9,
    "basketball-v3": 98.3,
    "bin-picking-v3": 109.5,
    "box-close-v3": 149.2,
    "button-press-topdown-v3": 80.5,
    "button-press-topdown-wall-v3": 82.2,
    "button-press-v3": 78.9,
    "button-press-wall-v3": 82.3,
    "coffee-button-v3": 96.9,
    "coffee-pull-v3": 121.0,
    "coffee-push-v3": 121.9,
    "dial-turn-v3": 88.1,
    "disassemble-v3": 133.1,
    "door-close-v3": 88.2,
    "door-lock-v3": 126.6,
    "door-open-v3": 93.2,
    "door-unlock-v3": 127.1,
    "hand-insert-v3": 106.6,
    "drawer-close-v3": 96.8,
    "drawer-open-v3": 93.4,
    "faucet-open-v3": 88.8,
    "faucet-close-v3": 88.1,
    "hammer-v3": 134.6,
    "handle-press-side-v3": 83.3,
    "handle-press-v3": 88.6,
    "handle-pull-side-v3": 89.8,
    "handle-pull-v3": 88.1,
    "lever-pull-v3": 95.2,
    "pick-place-wall-v3": 117.7,
    "pick-out-of-hole-v3": 103.1,
    "pick-place-v3": 114.6,
    "plate-slide-v3": 86.6,
    "plate-slide-side-v3": 86.7,
    "plate-slide-back-v3": 88.0,
    "plate-slide-back-side-v3": 87.5,
    "peg-insert-side-v3": 111.7,
    "peg-unplug-side-v3": 121.9,
    "soccer-v3": 111.6,
    "stick-push-v3": 144.0,
    "stick-pull-v3": 141.3,
    "push-v3": 103.9,
    "push-wall-v3": 108.5,
    "push-back-v3": 113.1,
    "reach-v3": 88.6,
    "reach-wall-v3": 92.0,
    "shelf-place-v3": 113.0,
    "sweep-into-v3": 129.5,
    "sweep-v3": 114.2,
    "window-open-v3": 87.4,
    "window-close-v3": 92.5,
}
"""Microseconds of a step, under random actions on one core of a 2020s server; only their ratios
matter. Measured by `scripts/bench.py env --costs`."""

CALLER_COST = 30.0
"""Microseconds that the calling process needs in a step besides its rows."""


def assign_tasks(
    names: Sequence[str], num_workers: int, *, caller_steps: bool = False
) -> list[list[int]]:
    """Returns the rows of each worker, given the task of each row; see `assign_rows`.

    Args:
        names: the task of each row.
        num_workers: at most as many as rows.
        caller_steps: the last worker is the calling process, which has other work as well.
    """
    return assign_rows(
        [STEP_COSTS[name] for name in names],
        num_workers,
        last_worker_cost=CALLER_COST if caller_steps else 0.0,
    )
