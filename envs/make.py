"""Making vector environments."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from envs.constants import MAX_EPISODE_STEPS
from envs.tasks import TaskSet
from envs.vector import GoalOrder, MetaWorldVectorEnv, RewardVersion


def make_vec(
    tasks: str | Sequence[str] | TaskSet,
    seed: int = 0,
    reward_version: RewardVersion = "v2",
    num_workers: int | None = None,
    *,
    caller_steps: bool = False,
    envs_per_task: int = 1,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    stagger: bool = False,
    goal_order: GoalOrder = "random",
    terminate_on_success: bool = False,
    all_infos: bool = False,
    timeout: float = 30.0,
) -> MetaWorldVectorEnv:
    """A vector environment with a row per task, stepped by worker processes.

    Args:
        tasks: "mt10", "mt25", "mt50", a task name, a list of task names, or a `TaskSet`, so that
            several environments share goals that were drawn once.
        seed: of the goals, unless `tasks` is a `TaskSet`, and of their random order.
        reward_version: the package's `reward_function_version`; "v2" ranges from 0 to 10.
        num_workers: processes that step the rows; by default as many as usable cores, at most one
            per row.
        caller_steps: let this process be one of them: it steps its share in `step_wait`, without
            the time that processes take to wake each other. On few cores that is faster, unless
            the caller computes between `step_async` and `step_wait`. These rows have no time limit,
            a crash of MuJoCo in them ends the caller, an interrupt (KeyboardInterrupt) among them
            makes the environment unusable, and they follow the caller's floating-point mode
            (`torch.set_flush_denormal`).
        envs_per_task: rows per task, next to each other, each with goals in an order of its own.
        max_episode_steps: steps until truncation, at most 500.
        stagger: spread the ends of the first episodes evenly, so that not all rows end at once:
            of K rows, row k's first episode after a reset of all has (k + 1) / K of the steps.
        goal_order: at each reset, a random goal (training) or the next one (evaluation).
        terminate_on_success: end an episode at its first success (evaluation).
        all_infos: fill in all the package's infos (`INFO_KEYS`), not only success.
        timeout: seconds after which a worker that does not answer is given up.

    Raises:
        ValueError: a value that is not among these.
        WorkerError: a worker could not start.
    """
    if operator.index(envs_per_task) < 1:
        raise ValueError(f"envs_per_task is {envs_per_task}, expected at least 1")
    task_set = tasks if isinstance(tasks, TaskSet) else TaskSet.make(tasks, seed)
    return MetaWorldVectorEnv(
        task_set.repeated(envs_per_task),
        seed,
        reward_version,
        num_workers,
        caller_steps=caller_steps,
        max_episode_steps=max_episode_steps,
        stagger=stagger,
        goal_order=goal_order,
        terminate_on_success=terminate_on_success,
        all_infos=all_infos,
        timeout=timeout,
    )
