"""The matrix products of an update, alone: what no learner of these networks can do without."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from agents import NetworkConfig
from configs import TrainConfig
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE

TWINS = 2


class Product(NamedTuple):
    """left [stack, rows, inner] @ right [stack, inner, columns]."""

    stack: int
    rows: int
    inner: int
    columns: int
    transposed: str = ""
    """Which of the two is stored the other way round: "left", "right" or neither."""


def update_products(config: TrainConfig, num_tasks: int) -> list[Product]:
    """Those of one multi-head update with summed losses, in the order in which it needs them.

    Target: actor and twin target critics forward. Critic: forward, and backward to the weights.
    Actor: actor and critics forward, backward through the critics to the action, and through the
    actor to its weights.
    """
    if config.architecture != "multi_head":
        raise ValueError(f"architecture {config.architecture} has no floor here: use multi_head")
    batch = config.agent.batch_size
    actor = Perceptron(config.agent.actor, 1, num_tasks, OBSERVATION_SIZE, 2 * ACTION_SIZE, batch)
    critic = Perceptron(
        config.agent.critic, TWINS, num_tasks, OBSERVATION_SIZE + ACTION_SIZE, 1, batch
    )
    return [
        *actor.forward(),
        *critic.forward(),
        *critic.forward(),
        *critic.backward(weights=True, inputs=False),
        *actor.forward(),
        *critic.forward(),
        *critic.backward(weights=False, inputs=True),
        *actor.backward(weights=True, inputs=False),
    ]


class Perceptron:
    """A multi-head network as the sizes of its products."""

    def __init__(
        self,
        network: NetworkConfig,
        stack: int,
        num_tasks: int,
        in_size: int,
        out_size: int,
        batch: int,
    ):
        sizes = [in_size + num_tasks, *[network.width] * network.depth]
        self.layers = [
            Product(stack, num_tasks * batch, inner, columns)
            for inner, columns in itertools.pairwise(sizes)
        ]
        self.layers.append(Product(stack * num_tasks, batch, network.width, out_size))

    def forward(self) -> list[Product]:
        """One product per layer."""
        return self.layers

    def backward(self, weights: bool, inputs: bool) -> Iterator[Product]:
        """Gradients of the weights, and of every layer's input; of the first one's if wanted."""
        for index, (stack, rows, inner, columns, _) in reversed(list(enumerate(self.layers))):
            if index or inputs:
                yield Product(stack, rows, columns, inner, "right")
            if weights:
                yield Product(stack, inner, rows, columns, "left")


def flops(products: list[Product]) -> int:
    """Floating-point operations, two per multiplication and addition."""
    return sum(2 * p.stack * p.rows * p.inner * p.columns for p in products)


def make_floor(
    products: list[Product], dtype: torch.dtype, device: torch.device
) -> Callable[[], None]:
    """Runs the products one after the other, each into memory of its own."""
    operands = []
    for stack, rows, inner, columns, transposed in products:
        left = _random((stack, rows, inner), transposed == "left", dtype, device)
        right = _random((stack, inner, columns), transposed == "right", dtype, device)
        out = torch.empty(stack, rows, columns, dtype=dtype, device=device)
        operands.append((left, right, out))

    def run() -> None:
        for left, right, out in operands:
            torch.bmm(left, right, out=out)

    return run


def _random(
    shape: tuple[int, int, int], transposed: bool, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    count, rows, columns = shape
    stored = (count, columns, rows) if transposed else shape
    values = torch.randn(stored, device=device).to(dtype)
    return values.mT if transposed else values
