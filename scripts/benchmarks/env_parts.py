"""What environments cost besides steps: construction, resets, idle workers; a step of each task."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from statistics import median

import gymnasium
import metaworld
import numpy as np
import torch
from jaxtyping import Float
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from configs import TrainConfig
from configs.build import build_agent, build_envs, build_task_set
from envs import TaskSet, make_vec
from envs.constants import ACTION_SIZE, MAX_EPISODE_STEPS
from envs.engine.environment import fast_class
from envs.engine.snapshots import SnapshotResets
from scripts.benchmarks.learner import make_update
from scripts.benchmarks.measure import Rows, median_times
from scripts.benchmarks.stepping import ASYNC, label, package_envs, warm_up

FIRST, PAIR = "mtrl-fair, goals drawn", "mtrl-fair, training and evaluation, goals cached"
WITHOUT, WITH = "no workers", "idle workers"

CPU = torch.device("cpu")

WARM_UP_UPDATES = 3
"""Not timed."""

RESET_GOALS = 10


def measure_construction(config: TrainConfig, rounds: int) -> Rows:
    """Seconds until environments are ready to be reset, worker processes included."""
    seconds: dict[str, list[float]] = {FIRST: [], PAIR: [], ASYNC: []}
    for _ in range(rounds):
        with empty_goal_cache():
            for name, evaluations in ((FIRST, (False,)), (PAIR, (False, True))):
                seconds[name].append(construct(config, evaluations))
        start = time.perf_counter()
        with package_envs(config.tasks, "async", config.seed):
            seconds[ASYNC].append(time.perf_counter() - start)
    return [
        {
            "measurement": "construction",
            "tasks": label(config.tasks),
            "environments": name,
            "seconds": median(values),
            "per_round": values,
        }
        for name, values in seconds.items()
    ]


def construct(config: TrainConfig, evaluations: Sequence[bool]) -> float:
    """The seconds that a run's environments take: the task set once, then each environment."""
    with contextlib.ExitStack() as stack:
        start = time.perf_counter()
        task_set = build_task_set(config)
        for evaluation in evaluations:
            venv = build_envs(config, task_set, CPU, evaluation=evaluation)
            stack.enter_context(contextlib.closing(venv))
        return time.perf_counter() - start


@contextlib.contextmanager
def empty_goal_cache() -> Iterator[None]:
    """Goals are cached in a new folder, and as before afterwards."""
    name = "MTRL_FAIR_CACHE"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before


def measure_resets(task_set: TaskSet, turns: int) -> Rows:
    """A row per task: a reset of the package's environment, and ours to a goal seen before."""
    rows = []
    for name, goals in zip(*task_set, strict=True):
        times = median_times(reset_candidates(name, goals[:RESET_GOALS]), turns)
        rows.append(
            {
                "measurement": "reset",
                "task": name,
                "package_milliseconds": 1e3 * times["package"],
                "milliseconds": 1e3 * times["ours"],
                "vs_package": times["package"] / times["ours"],
            }
        )
    return rows


def reset_candidates(
    name: str, goals: Sequence[metaworld.Task]
) -> dict[str, Callable[[], np.ndarray]]:
    """Each call resets to the next goal; all have been seen."""
    package = ALL_V3_ENVIRONMENTS[name]()
    fast = fast_class(name)()
    fast.set_task(goals[0])
    resets = SnapshotResets(fast)
    for index, goal in enumerate(goals):
        resets.reset(index, goal)
    package_goals, our_goals = cycle(goals), cycle(enumerate(goals))

    def reset_package() -> np.ndarray:
        package.set_task(next(package_goals))
        return package.reset()[0]

    return {"package": reset_package, "ours": lambda: resets.reset(*next(our_goals))}


def measure_updates(config: TrainConfig, task_set: TaskSet, rounds: int, updates: int) -> Rows:
    """Milliseconds of an update while no worker exists, and while workers wait for a command."""
    update = make_update(config, build_agent(config, len(task_set.names), CPU))
    milliseconds: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    for round_ in range(rounds):
        for name in (WITHOUT, WITH) if round_ % 2 == 0 else (WITH, WITHOUT):
            with contextlib.ExitStack() as stack:
                if name == WITH:
                    venv = make_vec(task_set, num_workers=config.environment.num_workers)
                    stack.enter_context(contextlib.closing(venv))
                    warm_up(venv)
                milliseconds[name].append(1e3 * time_updates(update, updates))
    return [
        {
            "measurement": "update",
            "tasks": label(config.tasks),
            "workers": name,
            "milliseconds": median(values),
            "per_round": values,
        }
        for name, values in milliseconds.items()
    ]


def time_updates(update: Callable[[], object], number: int) -> float:
    """Median seconds of an update."""
    seconds = []
    for _ in range(WARM_UP_UPDATES + number):
        start = time.perf_counter()
        update()
        seconds.append(time.perf_counter() - start)
    return median(seconds[WARM_UP_UPDATES:])


def measure_costs(task_set: TaskSet, rounds: int, steps: int, seed: int) -> Rows:
    """Microseconds of a step of each task, in this process; in each round all tasks take a turn."""
    environments = [fast_class(name)() for name in task_set.names]
    microseconds: list[list[float]] = [[] for _ in environments]
    generator = np.random.default_rng(seed)
    for turn in range(rounds):
        actions = generator.uniform(-1, 1, (steps, ACTION_SIZE)).astype(np.float32)
        for env, goals, values in zip(environments, task_set.goals, microseconds, strict=True):
            seconds = 0.0
            for start in range(0, steps, MAX_EPISODE_STEPS):
                env.set_task(goals[turn % len(goals)])
                env.reset()
                seconds += step_env(env, actions[start : start + MAX_EPISODE_STEPS])
            values.append(1e6 * seconds / steps)
    return [
        {"measurement": "cost", "task": name, "microseconds": median(values), "per_round": values}
        for name, values in zip(task_set.names, microseconds, strict=True)
    ]


def step_env(env: gymnasium.Env, actions: Float[np.ndarray, "step act"]) -> float:
    """The seconds that the steps of one environment take."""
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return time.perf_counter() - start
