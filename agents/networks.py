"""Networks over [task, batch, feature] data: a shared trunk that may know the task."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from agents.config import ARCHITECTURES, NetworkConfig
from mtrl_fair import shared_product
from mtrl_fair.names import check_name


class Linear(nn.Module):
    """x @ W + b with one W per entry of `leading`, shared by the dimensions before those.

    x [task, *leading, batch, in] or [*leading, batch, in] -> the same with `out` for `in`.
    """

    def __init__(self, leading: tuple[int, ...], in_size: int, out_size: int):
        super().__init__()
        bound = 1.0 / math.sqrt(in_size)
        self.weight = nn.Parameter(torch.empty(*leading, in_size, out_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(*leading, 1, out_size).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        shared = x.ndim > self.weight.ndim
        return (shared_product(x, self.weight) if shared else x @ self.weight) + self.bias


class LayerNorm(nn.Module):
    """Layer normalisation with one gain and bias per entry of `leading`."""

    def __init__(self, leading: tuple[int, ...], size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*leading, 1, size))
        self.bias = nn.Parameter(torch.zeros(*leading, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class Trunk(nn.Sequential):
    """Hidden layers: linear, optionally layer norm, ReLU."""

    def __init__(self, leading: tuple[int, ...], in_size: int, config: NetworkConfig):
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers.append(Linear(leading, in_size, config.width))
            if config.layer_norm:
                layers.append(LayerNorm(leading, config.width))
            layers.append(nn.ReLU())
            in_size = config.width
        super().__init__(*layers)


class TaskNetwork(nn.Module):
    """A perceptron for K tasks: [task, batch, in] -> [task, *stack, batch, out].

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
        heads = (num_tasks,) if architecture == "multi_head" else ()
        self.head = Linear((*heads, *stack), config.width, out_size)

    def forward(self, features: Float[Tensor, "task batch in"]) -> Float[Tensor, "task ... out"]:
        x = self._with_task(features)
        for _ in self.stack:
            x = x.unsqueeze(1)
        x = x.expand(-1, *self.stack, -1, -1)
        return self.head(self.trunk(x))

    def task_parameter_names(self) -> set[str]:
        """Names of the parameters [task, …] whose row k serves task k only."""
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
