"""The options of a vector environment."""

from __future__ import annotations

import operator
from typing import Literal, TypeAlias, TypedDict, get_args

from envs.constants import MAX_EPISODE_STEPS
from envs.goal_order import GoalOrder

RewardVersion: TypeAlias = Literal["v1", "v2"]


class VectorOptions(TypedDict, total=False):
    """The keyword arguments of `MetaWorldVectorEnv`. `make_vec` says what they mean."""

    caller_steps: bool
    max_episode_steps: int
    stagger: bool
    goal_order: GoalOrder
    terminate_on_success: bool
    all_infos: bool
    timeout: float


def check_options(
    reward_version: str, num_workers: int | None, max_episode_steps: int, timeout: float
) -> None:
    """Raises ValueError where a value is not among those that `make_vec` lists."""
    if reward_version not in get_args(RewardVersion):
        raise ValueError(f"reward_version is {reward_version!r}, expected 'v1' or 'v2'")
    if not 1 <= operator.index(max_episode_steps) <= MAX_EPISODE_STEPS:
        raise ValueError(
            f"max_episode_steps is {max_episode_steps}, expected 1 to {MAX_EPISODE_STEPS}"
        )
    if num_workers is not None and operator.index(num_workers) < 1:
        raise ValueError(f"num_workers is {num_workers}, expected at least 1")
    if not 1e-3 <= timeout <= 1e9:
        raise ValueError(f"timeout is {timeout}, expected 0.001 to 1e9 seconds")
