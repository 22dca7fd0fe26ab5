"""Networks over [task, batch, feature] data: a shared trunk that may know the task."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from agents.config import ARCHITECTURES, NetworkConfig, SACConfig
from mtrl_fair import shared_linear
from mtrl_fair.checks import check_name


class Linear(nn.Module):
    """Computes x @ W + b with one W per entry of `stack`: x [*stack, task, batch, in]."""

    def __init__(self, stack: tuple[int, ...], in_size: int, out_size: int):
        super().__init__()
        self.weight, self.bias = _uniform(stack, in_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        return shared_linear(x, self.weight, self.bias)


class TaskLinear(nn.Module):
    """Computes x @ W + b with one W per task and entry of `stack`.

    x is [*stack, task, batch, in].
    """

    def __init__(self, num_tasks: int, stack: tuple[int, ...], in_size: int, out_size: int):
        super().__init__()
        self.weight, self.bias = _uniform((num_tasks, *stack), in_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        stacked = x.ndim - 3
        weight, bias = (part.to(x.dtype).movedim(0, stacked) for part in (self.weight, self.bias))
        return x @ weight + bias


def _uniform(
    leading: tuple[int, ...], in_size: int, out_size: int
) -> tuple[nn.Parameter, nn.Parameter]:
    # U(±1/√in) for weights and biases of all layers. The JAX Meta-World+ baselines have He-uniform
    # hidden layers, biases of 0, and heads of ±1e-3 (policy) and ±3e-3 (Q).
    bound = 1.0 / math.sqrt(in_size)
    weight = nn.Parameter(torch.empty(*leading, in_size, out_size).uniform_(-bound, bound))
    bias = nn.Parameter(torch.empty(*leading, 1, out_size).uniform_(-bound, bound))
    return weight, bias


class Trunk(nn.Sequential):
    """Stacks hidden layers: linear, optionally layer norm, ReLU."""

    def __init__(self, stack: tuple[int, ...], in_size: int, config: NetworkConfig):
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers.append(Linear(stack, in_size, config.width))
            if config.layer_norm:
                # A gain and a bias per unit would add a seventh to an update (width 256, CPU).
                layers.append(nn.LayerNorm(config.width, elementwise_affine=False))
            layers.append(nn.ReLU(inplace=True))  # nothing else needs what it overwrites
            in_size = config.width
        super().__init__(*layers)


class TaskNetwork(nn.Module):
    """Maps [task, batch, in] to [*stack, task, batch, out] for K tasks.

    Architectures: "multi_head" (one-hot task id in the input, one output layer per task),
    "one_hot" (the same with one output layer for all), "task_encoded" (a learned task embedding,
    encoded and appended to the input), "none" (no task id anywhere).

    Args:
        stack: () for one network, (2,) for twin networks evaluated together.
    """

    task_ids: Tensor

    def __init__(
        self,
        in_size: int,
        out_size: int,
        num_tasks: int,
        architecture: str,
        config: NetworkConfig,
        stack: tuple[int, ...] = (),
        task_embedding_size: int = 50,
    ):
        super().__init__()
        check_name("architecture", architecture, ARCHITECTURES)
        self.architecture = architecture
        self.stack = stack
        self.register_buffer("task_ids", torch.eye(num_tasks).unsqueeze(1), persistent=False)
        if architecture in ("multi_head", "one_hot"):
            in_size += num_tasks
        if architecture == "task_encoded":
            self.task_embedding = nn.Parameter(torch.randn(num_tasks, task_embedding_size))
            self.task_encoder = Linear((), task_embedding_size, task_embedding_size)
            in_size += task_embedding_size
        self.trunk = Trunk(stack, in_size, config)
        self.head: Linear | TaskLinear
        if architecture == "multi_head":
            self.head = TaskLinear(num_tasks, stack, config.width, out_size)
        else:
            self.head = Linear(stack, config.width, out_size)

    def forward(
        self, features: Float[Tensor, "task batch in"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, "... task batch out"]:
        """Returns the output, in the features' dtype, computed in `dtype` if given."""
        x = self._with_task(features).to(dtype or features.dtype)
        x = x.expand(*self.stack, *x.shape)
        return self.head(self.trunk(x)).to(features.dtype)

    def task_parameter_names(self) -> set[str]:
        """Returns the names of the parameters [task, …] whose row k serves task k only."""
        if self.architecture != "multi_head":
            return set()
        return {f"head.{name}" for name, _ in self.head.named_parameters()}

    def _with_task(self, features: Tensor) -> Tensor:
        if self.architecture == "none":
            return features
        task = self.task_ids
        if self.architecture == "task_encoded":
            task = functional.relu(self.task_encoder(task @ self.task_embedding))
        return torch.cat([features, task.expand(-1, features.shape[1], -1)], dim=-1)


def make_networks(
    observation_size: int, action_size: int, num_tasks: int, architecture: str, config: SACConfig
) -> tuple[TaskNetwork, TaskNetwork]:
    """Makes the policy and the twin critics, whose parameters are drawn in this order.

    The policy gives the mean and the log standard deviation of each action entry.
    """
    policy = TaskNetwork(
        observation_size,
        2 * action_size,
        num_tasks,
        architecture,
        config.actor,
        task_embedding_size=config.task_embedding_size,
    )
    twins = TaskNetwork(
        observation_size + action_size,
        1,
        num_tasks,
        architecture,
        config.critic,
        stack=(2,),
        task_embedding_size=config.task_embedding_size,
    )
    return policy, twins
