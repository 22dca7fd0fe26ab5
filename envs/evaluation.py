"""Success rates of a policy: every goal once, success at any step of the episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from envs.vector import MetaWorldVectorEnv


class Evaluation(NamedTuple):
    """Episodes of every task, one per goal. An episode ends at its first success, as in
    Meta-World's own evaluation, so returns and lengths are those up to there."""

    task_names: tuple[str, ...]
    successes: Bool[np.ndarray, "task episode"]
    returns: Float[np.ndarray, "task episode"]
    lengths: Int[np.ndarray, "task episode"]

    @property
    def success(self) -> Float[np.ndarray, " task"]:
        """Success rate of each task."""
        return self.successes.mean(1)

    @property
    def standard_error(self) -> Float[np.ndarray, " task"]:
        """Returns the standard error of each success rate, sqrt(p (1 - p) / episodes)."""
        return np.sqrt(self.success * (1 - self.success) / self.successes.shape[1])

    @property
    def mean_success(self) -> float:
        """Returns the mean of the success rates over tasks."""
        return float(self.success.mean())


def evaluate(
    act: Callable[[Float[np.ndarray, "task obs"]], Float[np.ndarray, "task act"]],
    venv: MetaWorldVectorEnv,
    episodes: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Evaluation | None:
    """Runs the first `episodes` goals of every task once. Rows of one task share its goals.

    Args:
        act: the deterministic policy, observation [K, 39] -> action [K, 4].
        venv: made with `goal_order="sequential"` and `terminate_on_success=True`.
        episodes: per task, at most the number of goals.
        should_stop: asked at every step; None is returned if it says so.
        on_progress: told at every step the share of episodes that have ended.

    Raises:
        ValueError: another kind of environment, fewer goals than episodes, or rows of one task with
            different goals.
    """
    if venv.goal_order != "sequential" or not venv.terminate_on_success:
        raise ValueError(
            "evaluation needs an environment made with goal_order='sequential' and"
            " terminate_on_success=True"
        )
    check_episodes(episodes, int(venv.num_goals.min()))
    names = tuple(dict.fromkeys(venv.task_names))
    if len({*zip(*venv.task_set, strict=True)}) > len(names):
        raise ValueError("rows of one task have different goals: evaluate them one after the other")
    task = np.array([names.index(name) for name in venv.task_names])
    shape = (len(names), episodes)
    successes, returns, lengths = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape, np.int64)
    begun, num_ended = np.zeros(shape, bool), 0

    def begin(rows: Int[np.ndarray, " row"]) -> None:
        """Leaves these rows active if the goal of their new episode is one that is missing."""
        for row in rows:
            goal = venv.goal[row]
            venv.active[row] = goal < episodes and not begun[task[row], goal]
            if venv.active[row]:
                begun[task[row], goal] = True

    observation, _ = venv.reset()
    begin(np.arange(venv.num_envs))
    while venv.active.any():
        if should_stop():
            return None
        rows = np.flatnonzero(venv.active)
        at = task[rows], venv.goal[rows]
        observation, reward, terminated, truncated, infos = venv.step(act(observation))
        returns[at] += reward[rows]
        lengths[at] += 1
        successes[at] = infos["success"][rows]  # its last step's, once the episode has ended
        ended = np.flatnonzero(terminated | truncated)
        num_ended += len(ended)
        begin(ended)
        on_progress(num_ended / successes.size)
    return Evaluation(names, successes, returns, lengths)


def check_episodes(episodes: int, num_goals: int) -> None:
    """Raises ValueError unless there is a goal for every episode."""
    if not 1 <= episodes <= num_goals:
        raise ValueError(
            f"{episodes} evaluation episodes per task were asked for, but each goal is visited once"
            f" and there are {num_goals}: ask for 1 to {num_goals}"
        )
