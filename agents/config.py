"""Hyperparameters of the agent.

The defaults are those of the JAX Meta-World+ baselines. Three things are no settings and differ
from theirs: Adam's epsilon (1e-8, there 1e-5), the initial parameters (`networks.py`), and what
`max_grad_norm` clips (`combined_optimizer.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

ARCHITECTURES = ("multi_head", "task_encoded", "one_hot", "none")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What the networks compute in during updates."""


@dataclass(frozen=True)
class NetworkConfig:
    """Describes one multilayer perceptron."""

    width: int = 400
    """Units per hidden layer."""
    depth: int = 3
    """Number of hidden layers."""
    layer_norm: bool = False
    """Layer normalisation, without gain and bias, before every ReLU."""

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True)
class SACConfig:
    """Holds the hyperparameters of multi-task soft actor-critic."""

    actor: NetworkConfig = field(default_factory=NetworkConfig)
    """The policy network."""
    critic: NetworkConfig = field(default_factory=NetworkConfig)
    """Each of the two Q networks."""
    task_embedding_size: int = 50
    """Size of the learned task embedding (architecture task_encoded only)."""
    batch_size: int = 128
    """Samples per task and update."""
    replay_capacity: int = 100_000
    """Transitions kept per task."""
    actor_learning_rate: float = 3e-4
    """Learning rate of Adam for the policy."""
    critic_learning_rate: float = 3e-4
    """Learning rate of Adam for both Q networks."""
    temperature_learning_rate: float = 3e-4
    """Learning rate of Adam for the log temperature."""
    discount: float = 0.99
    """Gamma, per environment step."""
    target_rate: float = 0.005
    """Tau: the share of the critic that enters its target network at every update."""
    policy_average_rate: float | None = None
    """The share of the policy that enters its running average at every update, more at first, when
    there is little to average. With it, the average acts in evaluations and the policy itself in
    training. None: no average."""
    initial_temperature: float = 1.0
    """Entropy coefficient at step 0."""
    per_task_temperature: bool = True
    """One temperature per task, or a single one for all."""
    combine_temperature: bool = False
    """Whether the single temperature's task gradients are combined too, as in the paper. Once tasks
    lie on both sides of the target entropy, exact solvers stand still, up to rounding errors."""
    target_entropy: float = -4.0
    """Entropy that the temperature aims for, in nats. By convention it is minus the action size,
    here Meta-World's."""
    log_std_min: float = -20.0
    """Lower bound of the policy's log standard deviation."""
    log_std_max: float = 2.0
    """Upper bound of the policy's log standard deviation."""
    max_grad_norm: float | None = 1.0
    """Gradient clip, of the shared direction and of each task's head separately. None: off."""
    normalize_reward: bool = False
    """Divide each task's sampled rewards by their running standard deviation."""
    reward_rate: float = 1e-3
    """Step size of the running mean and variance of rewards. Until 1 / reward_rate rewards have
    been seen, they are plain averages. The normaliser of mtrl has 0.001."""

    def __post_init__(self) -> None:
        for name in ("task_embedding_size", "batch_size", "replay_capacity"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not 0 < self.reward_rate <= 1:
            raise ValueError(f"reward_rate is {self.reward_rate}, expected a number in (0, 1]")
        for name in (
            "actor_learning_rate",
            "critic_learning_rate",
            "temperature_learning_rate",
            "initial_temperature",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount is {self.discount}, expected a number from 0 to 1")
        if not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate is {self.target_rate}, expected a number in (0, 1]")
        rate = self.policy_average_rate
        if rate is not None and not 0 < rate <= 1:
            raise ValueError(f"policy_average_rate is {rate}, expected a number in (0, 1] or None")
        if not self.log_std_min < self.log_std_max:
            raise ValueError(
                f"log_std_min is {self.log_std_min}, expected less than log_std_max"
                f" {self.log_std_max}"
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(
                f"max_grad_norm is {self.max_grad_norm}, expected a positive number or None"
            )
        if self.combine_temperature and self.per_task_temperature:
            raise ValueError(
                "combine_temperature needs a single temperature: set per_task_temperature to false"
            )
