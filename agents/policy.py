"""The squashed Gaussian policy."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def split_policy_output(
    output: Float[Tensor, "task batch two_act"], log_std_min: float, log_std_max: float
) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task batch act"]]:
    """Mean and log standard deviation of the Gaussian before the tanh."""
    mean, log_std = output.chunk(2, dim=-1)
    return mean, log_std.clamp(log_std_min, log_std_max)


def squashed_sample(
    mean: Float[Tensor, "task batch act"],
    log_std: Float[Tensor, "task batch act"],
    noise: Float[Tensor, "task batch act"],
) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task batch"]]:
    """Action tanh(mean + std * noise) and its log probability.

    log(1 - tanh(u)^2) is evaluated as 2 (log 2 - u - softplus(-2u)), which does not overflow.
    """
    pre_tanh = mean + log_std.exp() * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    log_derivative = 2 * (math.log(2) - pre_tanh - functional.softplus(-2 * pre_tanh))
    return torch.tanh(pre_tanh), (gaussian - log_derivative).sum(-1)
