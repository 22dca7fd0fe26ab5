"""The twin critics: their target, their loss and their update."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from agents.checks import check_ranks
from agents.combined_optimizer import (
    CombinedOptimizer,
    Metrics,
    check_learner_state,
    load_adam_state,
)
from agents.config import SACConfig
from agents.finite_guard import NonFiniteGuard
from agents.flat_parameters import FlatParameters
from agents.networks import TaskNetwork
from agents.replay import Batch
from mtrl_fair import Combiner


class Critic:
    """Evaluates two Q functions for K tasks together, and holds their target network.

    Args:
        network: the twin network, with `stack` (2,).
        combiner: makes one direction of the task gradients.
        config: hyperparameters of the agent.
        guard: is told of numbers that are not finite.
        dtype: what the networks compute in.
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
        self.discount, self.target_rate = config.discount, config.target_rate
        # Gradients are taken with respect to leaves made for each step. The network itself stays
        # frozen, which also keeps the critic still while the actor learns through it.
        network.requires_grad_(False)
        self.optimizer = CombinedOptimizer(
            "critic", network, combiner, config.critic_learning_rate, config.max_grad_norm, guard
        )
        self.target_network = copy.deepcopy(network)
        self.target_parameters = FlatParameters(self.target_network)

    def update(
        self,
        batch: Batch,
        next_action: Float[Tensor, "task batch act"],
        next_log_prob: Float[Tensor, "task batch"],
        temperature: Float[Tensor, "#task 1"],
        buffer: Tensor,
    ) -> Metrics:
        """Takes one step on the squared error to the temporal-difference target.

        Args:
            batch: sampled transitions.
            next_action: the policy's sample in each next observation.
            next_log_prob: its log probability.
            temperature: the entropy coefficient of each task.
            buffer: see `CombinedOptimizer.step`.
        """
        with torch.no_grad():
            target = td_target(
                batch.reward,
                batch.terminated,
                q_values(self.target_network, batch.next_observation, next_action, self.dtype),
                next_log_prob,
                temperature,
                self.discount,
            )

        def task_losses(parameters: dict[str, Tensor], data: Any) -> tuple[Tensor, Tensor]:
            observation, action, target = data
            q = q_values(self.network, observation, action, self.dtype, parameters)
            return critic_loss(q, target), q.mean((1, 2))

        data = (batch.observation, batch.action, target)
        metrics, q_mean = self.optimizer.step(task_losses, data, buffer)
        return {"q/mean/{task}": q_mean, **metrics}

    @torch.no_grad()
    def update_target(self) -> None:
        """Moves the target network towards the critic by the share `target_rate`."""
        self.target_parameters.vector.lerp_(self.optimizer.parameters.vector, self.target_rate)

    def __call__(
        self, observation: Float[Tensor, "task batch obs"], action: Float[Tensor, "task batch act"]
    ) -> Float[Tensor, "task twin batch"]:
        """Returns both Q values; gradients flow to the action."""
        return q_values(self.network, observation, action, self.dtype)

    @property
    def combiner(self) -> Combiner:
        """The optimiser's, which a benchmark may replace."""
        return self.optimizer.combiner

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "target_network": self.target_network.state_dict(),
            "optimizer": self.optimizer.adam.state_dict(),
            "combiner": self.combiner.state_dict(),
        }

    def check_state(self, state: dict[str, Any]) -> None:
        """Raises ValueError if a state cannot be loaded."""
        check_learner_state("critic", self.optimizer.adam, self.combiner, state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.target_network.load_state_dict(state["target_network"])
        load_adam_state(self.optimizer.adam, state["optimizer"])
        self.combiner.load_state_dict(state["combiner"])


def td_target(
    reward: Float[Tensor, "task batch"],
    terminated: Float[Tensor, "task batch"],
    next_q: Float[Tensor, "task twin batch"],
    next_log_prob: Float[Tensor, "task batch"],
    temperature: Float[Tensor, "#task 1"],
    discount: float,
) -> Float[Tensor, "task batch"]:
    """Returns r + γ (1 - terminated) (min_j Q_j(s', a') - temperature log π(a'|s')).

    Truncation by the time limit is bootstrapped: `terminated` is 0 there.
    """
    check_ranks(reward=(reward, 2), terminated=(terminated, 2), next_q=(next_q, 3))
    check_ranks(next_log_prob=(next_log_prob, 2), temperature=(temperature, 2))
    next_value = next_q.amin(1) - temperature * next_log_prob
    return reward + discount * (1.0 - terminated) * next_value


def critic_loss(
    q: Float[Tensor, "task twin batch"], target: Float[Tensor, "task batch"]
) -> Float[Tensor, " task"]:
    """Returns the mean squared error of each Q function, summed over the twins.

    The mean is over a task's own samples. How tasks are added up is the combiner's business.
    """
    check_ranks(q=(q, 3), target=(target, 2))
    return ((q - target.unsqueeze(1)) ** 2).mean(-1).sum(-1)


def q_values(
    network: TaskNetwork,
    observation: Float[Tensor, "task batch obs"],
    action: Float[Tensor, "task batch act"],
    dtype: torch.dtype,
    parameters: dict[str, Tensor] | None = None,
) -> Float[Tensor, "task twin batch"]:
    """Returns both Q values, computed in `dtype` and with other parameters where they are given."""
    inputs = torch.cat([observation, action], dim=-1), dtype
    q = functional_call(network, parameters, inputs) if parameters else network(*inputs)
    return q.squeeze(-1).movedim(0, 1)
