"""Making vector environments."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from typing_extensions import Unpack

from envs.options import RewardVersion, VectorOptions
from envs.tasks import TaskSet
from envs.vector import MetaWorldVectorEnv


def make_vec(
    tasks: str | Sequence[str] | TaskSet,
    seed: int = 0,
    reward_version: RewardVersion = "v2",
    num_workers: int | None = None,
    *,
    envs_per_task: int = 1,
    **options: Unpack[VectorOptions],
) -> MetaWorldVectorEnv:
    """Makes a vector environment with a row per task, stepped by worker processes.

    Args:
        tasks: "mt10", "mt25", "mt50", a task name, a list of task names, or a `TaskSet`, so that
            several environments share goals that were drawn once.
        seed: of the goals, unless `tasks` is a `TaskSet`, and of their random order.
        reward_version: the package's `reward_function_version`; "v2" ranges from 0 to 10. With "v1"
            the package never reports success in the tasks `NO_SUCCESS_WITH_V1` of
            `envs.constants`.
        num_workers: processes that step the rows; by default as many as usable cores, at most one
            per row.
        envs_per_task: rows per task, next to each other, each with goals in an order of its own.
        caller_steps (bool, False): let this process be one of them: it steps its share in
            `step_wait`, without the time that processes take to wake each other. On few cores that
            is faster, unless the caller computes between `step_async` and `step_wait`. These rows
            have no time limit, a crash of MuJoCo in them ends the caller, an interrupt
            (KeyboardInterrupt) among them makes the environment unusable, and they follow the
            caller's floating-point mode (`torch.set_flush_denormal`).
        max_episode_steps (int, 500): steps until truncation, at most 500.
        stagger (bool, False): spread the ends of the first episodes evenly, so that not all rows
            end at once: of K rows, row k's first episode after a reset of all has (k + 1) / K of
            the steps.
        goal_order ("random" or "sequential", "random"): at each reset, a random goal (training) or
            the next one (evaluation). In a sequential order, rows of one task share its goals.
        terminate_on_success (bool, False): end an episode at its first success (evaluation).
        all_infos (bool, False): fill in all the package's infos (`INFO_KEYS`), not only success.
        timeout (float, 30): seconds after which a worker that does not answer is given up.

    Raises:
        ValueError: a value that is not among these.
        WorkerError: a worker could not start.
    """
    if operator.index(envs_per_task) < 1:
        raise ValueError(f"envs_per_task is {envs_per_task}, expected at least 1")
    task_set = tasks if isinstance(tasks, TaskSet) else TaskSet.make(tasks, seed)
    return MetaWorldVectorEnv(
        task_set.repeated(envs_per_task), seed, reward_version, num_workers, **options
    )
