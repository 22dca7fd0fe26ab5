"""The squashed Gaussian policy: its samples, its loss, its update and its running average."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from agents.checks import check_ranks
from agents.combined_optimizer import (
    CombinedOptimizer,
    Metrics,
    check_learner_state,
    load_adam_state,
)
from agents.config import SACConfig
from agents.critic import Critic
from agents.finite_guard import NonFiniteGuard
from agents.flat_parameters import FlatParameters
from agents.networks import TaskNetwork
from mtrl_fair import Combiner, NonFiniteError


class Actor:
    """Holds the policy of K tasks and, with `policy_average_rate`, its running average.

    Args:
        network: gives the mean and the log standard deviation of each action entry.
        combiner: makes one direction of the task gradients.
        config: hyperparameters of the agent.
        guard: is told of numbers that are not finite.
        dtype: what the network computes in during updates. Actions are computed in float32.
    """

    def __init__(
        self,
        network: TaskNetwork,
        combiner: Combiner,
        config: SACConfig,
        guard: NonFiniteGuard,
        dtype: torch.dtype,
    ):
        self.network = network
        self.dtype = dtype
        self.log_std_bounds = config.log_std_min, config.log_std_max
        network.requires_grad_(False)  # gradients are taken with respect to leaves of each step
        self.optimizer = CombinedOptimizer(
            "actor", network, combiner, config.actor_learning_rate, config.max_grad_norm, guard
        )
        self.average_rate = config.policy_average_rate
        self.average_network: TaskNetwork | None = None
        if self.average_rate is not None:
            self.average_network = copy.deepcopy(network)
            self.average_parameters = FlatParameters(self.average_network)
        # Bias correction as in Adam: 1 - (1 - rate)^updates.
        device = self.optimizer.parameters.vector.device
        self.average_weight = torch.zeros((), dtype=torch.float64, device=device)

    def act(
        self, observation: Float[Tensor, "task obs"], noise: Float[Tensor, "task 1 act"] | None
    ) -> Float[np.ndarray, "task act"]:
        """Returns one action per task, on the host.

        Args:
            observation: of every task.
            noise: standard normal, for a sample of the policy. None: the tanh of the mean, of the
                averaged policy if there is one.

        Raises:
            NonFiniteError: the policy's output is not finite; it names the tasks.
        """
        network = self.average_network if noise is None and self.average_network else self.network
        mean, log_std = split_policy_output(network(observation.unsqueeze(1)), *self.log_std_bounds)
        action = torch.tanh(mean) if noise is None else squashed_sample(mean, log_std, noise)[0]
        on_host: np.ndarray = action.squeeze(1).cpu().numpy()  # where the environment needs it
        if not np.isfinite(on_host).all():
            raise NonFiniteError("action", np.flatnonzero(~np.isfinite(on_host).all(1)).tolist())
        return on_host

    def sample(
        self,
        observation: Float[Tensor, "task batch obs"],
        noise: Float[Tensor, "task batch act"],
        parameters: dict[str, Tensor] | None = None,
    ) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task batch"]]:
        """Returns actions and their log probabilities, with other parameters if given."""
        inputs = observation, self.dtype
        if parameters:
            output = functional_call(self.network, parameters, inputs)
        else:
            output = self.network(*inputs)
        return squashed_sample(*split_policy_output(output, *self.log_std_bounds), noise)

    def update(
        self,
        observation: Float[Tensor, "task batch obs"],
        noise: Float[Tensor, "task batch act"],
        critic: Critic,
        temperature: Float[Tensor, "#task 1"],
        buffer: Tensor,
    ) -> tuple[Metrics, Float[Tensor, "task batch"]]:
        """Takes one step towards actions of high value and entropy.

        Args:
            observation: of sampled transitions.
            noise: standard normal.
            critic: gives the values; it stays as it is.
            temperature: the entropy coefficient of each task.
            buffer: see `CombinedOptimizer.step`.

        Returns:
            metrics, and the log probabilities, which the temperature's loss needs.
        """

        def task_losses(parameters: dict[str, Tensor], data: Any) -> tuple[Tensor, Tensor]:
            observation, noise = data
            action, log_prob = self.sample(observation, noise, parameters)
            return actor_loss(critic(observation, action), log_prob, temperature), log_prob

        metrics, log_prob = self.optimizer.step(task_losses, (observation, noise), buffer)
        return {**metrics, "policy/entropy/{task}": -log_prob.mean(-1)}, log_prob

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the averaged policy, if there is one, towards the policy by the share
        `policy_average_rate`, corrected for its start: the untrained policy has no share in it."""
        if (rate := self.average_rate) is not None:
            policy, average = self.optimizer.parameters.vector, self.average_parameters.vector
            self.average_weight.mul_(1 - rate).add_(rate)
            average.add_((policy - average) * (rate / self.average_weight).to(policy.dtype))

    @property
    def combiner(self) -> Combiner:
        """The optimiser's, which a benchmark may replace."""
        return self.optimizer.combiner

    def state_dict(self) -> dict[str, Any]:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.adam.state_dict(),
            "combiner": self.combiner.state_dict(),
            "average_weight": self.average_weight.clone(),
        }
        if self.average_network is not None:
            state["average_network"] = self.average_network.state_dict()
        return state

    def check_state(self, state: dict[str, Any]) -> None:
        """Raises ValueError if a state cannot be loaded."""
        check_learner_state("actor", self.optimizer.adam, self.combiner, state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_adam_state(self.optimizer.adam, state["optimizer"])
        self.combiner.load_state_dict(state["combiner"])
        self.average_weight.copy_(state["average_weight"])
        if self.average_network is not None:
            self.average_network.load_state_dict(state["average_network"])


def split_policy_output(
    output: Float[Tensor, "task batch two_act"], log_std_min: float, log_std_max: float
) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task batch act"]]:
    """Returns mean and log standard deviation of the Gaussian before the tanh."""
    mean, log_std = output.chunk(2, dim=-1)
    return mean, log_std.clamp(log_std_min, log_std_max)


def squashed_sample(
    mean: Float[Tensor, "task batch act"],
    log_std: Float[Tensor, "task batch act"],
    noise: Float[Tensor, "task batch act"],
) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task batch"]]:
    """Returns the action tanh(mean + std * noise) and its log probability."""
    pre_tanh = mean + log_std.exp() * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), which would be log 0 for |u| > 9 if it were written like that.
    log_derivative = 2 * (math.log(2) - pre_tanh - functional.softplus(-2 * pre_tanh))
    return torch.tanh(pre_tanh), (gaussian - log_derivative).sum(-1)


def actor_loss(
    q: Float[Tensor, "task twin batch"],
    log_prob: Float[Tensor, "task batch"],
    temperature: Float[Tensor, "#task 1"],
) -> Float[Tensor, " task"]:
    """Returns the mean of temperature log π(a|s) - min_j Q_j(s, a)."""
    check_ranks(q=(q, 3), log_prob=(log_prob, 2), temperature=(temperature, 2))
    return (temperature * log_prob - q.amin(1)).mean(-1)
