"""Env-steps per second of the package's vector environments, ours, and the physics alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from jaxtyping import Float

from envs import MetaWorldVectorEnv, TaskSet, make_vec
from envs.constants import ACTION_SIZE
from envs.tasks import BENCHMARKS
from mtrl_fair.machine import usable_cores
from scripts.benchmarks.measure import Rows
from scripts.benchmarks.physics import Physics

ASYNC, SYNC = "Meta-World, async", "Meta-World, sync"
FIRST_RESETS, GOALS_SEEN = "mtrl-fair, first resets", "mtrl-fair, goals seen"
PHYSICS = "physics alone"

WARM_UP_STEPS = 20
"""Not timed."""

Turn: TypeAlias = Callable[[Float[np.ndarray, "step row act"]], float]
"""Steps an engine once with each action; returns the seconds that it took."""


def measure_speed(
    tasks: Sequence[str], seed: int, num_workers: int | None, rounds: int, steps: int
) -> Rows:
    """Env-steps per second of the package, ours and the physics: the same actions in turns."""
    task_set = TaskSet.make(tasks, seed)
    num_rows = len(task_set.names)
    generator = np.random.default_rng(seed)
    per_round: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        turns = open_engines(stack, tasks, task_set, seed, num_workers)
        for _ in range(rounds):
            actions = generator.uniform(-1, 1, (steps, num_rows, ACTION_SIZE)).astype(np.float32)
            for name, turn in turns.items():
                per_round.setdefault(name, []).append(steps * num_rows / turn(actions))
    return [
        {
            "measurement": "speed",
            "tasks": label(tasks),
            "engine": name,
            "env_steps_per_second": median(values),
            "per_round": values,
        }
        for name, values in per_round.items()
    ]


def open_engines(
    stack: contextlib.ExitStack,
    tasks: Sequence[str],
    task_set: TaskSet,
    seed: int,
    num_workers: int | None,
) -> dict[str, Turn]:
    """All candidates, ready for their first turn, and closed with the stack.

    The processes of those whose turn it is not sleep.
    """
    turns: dict[str, Turn] = {}
    for name, strategy in ((SYNC, "sync"), (ASYNC, "async")):
        package = stack.enter_context(package_envs(tasks, strategy, seed))
        warm_up(package)
        turns[name] = partial(step_through, package)
    # As a run on the CPU makes it, but in sequence, so that every reset is a goal's first.
    venv = make_vec(
        task_set, seed, num_workers=num_workers, caller_steps=True, goal_order="sequential"
    )
    stack.enter_context(contextlib.closing(venv))
    warm_up(venv)
    turns |= our_turns(venv)
    workers = min(num_workers or usable_cores(), len(task_set.names))
    physics = stack.enter_context(contextlib.closing(Physics(task_set, workers)))
    turns[PHYSICS] = physics.turn
    return turns


@contextlib.contextmanager
def package_envs(
    tasks: Sequence[str], strategy: str, seed: int
) -> Iterator[gymnasium.vector.VectorEnv]:
    """The package's vector environment, as its users make it."""
    options: dict[str, Any] = {"vector_strategy": strategy, "seed": seed}
    if tasks[0] in BENCHMARKS:
        venv = gymnasium.make_vec(f"Meta-World/{tasks[0].upper()}", **options)
    else:
        options["envs_list"] = list(tasks)
        venv = gymnasium.make_vec("Meta-World/custom-mt-envs", **options)
    try:
        yield venv
    finally:
        # By force: interrupted in a step, its processes would not answer.
        venv.close(**({"terminate": True} if strategy == "async" else {}))


def warm_up(venv: gymnasium.vector.VectorEnv) -> None:
    """Resets, steps a little and resets, so that an episode begins in every row."""
    venv.reset()
    for _ in range(WARM_UP_STEPS):
        venv.step(venv.action_space.sample())
    venv.reset()


def step_through(
    venv: gymnasium.vector.VectorEnv, actions: Float[np.ndarray, "step row act"]
) -> float:
    """The seconds that the steps take."""
    start = time.perf_counter()
    for action in actions:
        venv.step(action)
    return time.perf_counter() - start


def our_turns(venv: MetaWorldVectorEnv) -> dict[str, Turn]:
    """A turn to new goals, and a turn that repeats its episodes now that their goals are seen."""
    before: dict[str, Any] = {}

    def first_resets(actions: Float[np.ndarray, "step row act"]) -> float:
        before.update(venv.state_dict())
        return step_through(venv, actions)

    def goals_seen(actions: Float[np.ndarray, "step row act"]) -> float:
        venv.load_state_dict(before)
        return step_through(venv, actions)

    return {FIRST_RESETS: first_resets, GOALS_SEEN: goals_seen}


def label(tasks: Sequence[str]) -> str:
    """A choice of tasks in a table."""
    return ", ".join(tasks)
