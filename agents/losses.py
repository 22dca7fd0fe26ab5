"""Losses of multi-task soft actor-critic (Haarnoja et al. 2018), one per task.

Pure functions of tensors. The mean is taken over a task's own samples; how tasks are added up is
the combiner's business.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def td_target(
    reward: Float[Tensor, "task batch"],
    terminated: Float[Tensor, "task batch"],
    next_q: Float[Tensor, "task twin batch"],
    next_log_prob: Float[Tensor, "task batch"],
    temperature: Float[Tensor, "task 1"],
    discount: float,
) -> Float[Tensor, "task batch"]:
    """r + gamma (1 - terminated) (min_j Q_j(s', a') - temperature log pi(a'|s')).

    Truncation by the time limit is bootstrapped: `terminated` is 0 there.
    """
    _check_ranks(reward=(reward, 2), terminated=(terminated, 2), next_q=(next_q, 3))
    _check_ranks(next_log_prob=(next_log_prob, 2), temperature=(temperature, 2))
    next_value = next_q.amin(1) - temperature * next_log_prob
    return reward + discount * (1.0 - terminated) * next_value


def critic_loss(
    q: Float[Tensor, "task twin batch"], target: Float[Tensor, "task batch"]
) -> Float[Tensor, " task"]:
    """Mean squared error of each Q function, summed over the twins."""
    _check_ranks(q=(q, 3), target=(target, 2))
    return ((q - target.unsqueeze(1)) ** 2).mean(-1).sum(-1)


def actor_loss(
    q: Float[Tensor, "task twin batch"],
    log_prob: Float[Tensor, "task batch"],
    temperature: Float[Tensor, "task 1"],
) -> Float[Tensor, " task"]:
    """Mean of temperature log pi(a|s) - min_j Q_j(s, a)."""
    _check_ranks(q=(q, 3), log_prob=(log_prob, 2), temperature=(temperature, 2))
    return (temperature * log_prob - q.amin(1)).mean(-1)


def temperature_loss(
    log_temperature: Float[Tensor, " task"],
    log_prob: Float[Tensor, "task batch"],
    target_entropy: float,
) -> Float[Tensor, " task"]:
    """-log temperature (log pi + target entropy), the common form, linear in log temperature."""
    _check_ranks(log_temperature=(log_temperature, 1), log_prob=(log_prob, 2))
    return -log_temperature * (log_prob.mean(-1) + target_entropy)


def _check_ranks(**tensors: tuple[torch.Tensor, int]) -> None:
    for name, (tensor, rank) in tensors.items():
        assert tensor.ndim == rank, f"{name} has shape {list(tensor.shape)}, expected rank {rank}"
