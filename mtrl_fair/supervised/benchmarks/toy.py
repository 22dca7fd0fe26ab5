"""The toy problem of the paper's Figure 1 for the supervised trainer: a point, not a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtrl_fair.supervised.benchmark import Benchmark, Metric, Recipe, Splits, Task
from mtrl_fair.supervised.benchmarks.two_losses.problem import STARTS, toy_losses, toy_starts
from mtrl_fair.supervised.data import Data, Randomness
from mtrl_fair.supervised.model import MultiTaskModel

STEPS_PER_EPOCH = 1000


class ToyBenchmark(Benchmark):
    """Moves a point from one of the paper's five starts: seed k takes the (k mod 5)th.

    Its two losses become negative, so there is no Δm%, and the α-fair transformation stops with an
    error. `scripts/toy.py` descends from all starts and draws the trajectories.
    """

    name = "toy"
    tasks = tuple(
        Task(name, (Metric("loss", higher_is_better=False),)) for name in ("first", "second")
    )
    min_loss = -21.0
    has_delta = False
    recipe = Recipe(
        epochs=40, batch_size=1, learning_rate=1e-3, report="last", max_norm=None, threads=1
    )

    def splits(self) -> Splits:
        return Splits(_Nothing(STEPS_PER_EPOCH), None, _Nothing(1))

    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        return MultiTaskModel(
            _Point(torch.initial_seed() % len(STARTS)), [nn.Identity()] * len(tasks)
        )

    def loss(self, task: int, output: Tensor, targets: Any) -> Tensor:
        return output[task]

    def meter(self, task: int) -> _LastLoss:
        return _LastLoss(task)


class _Nothing(Data):
    """Holds samples without content, one per step."""

    def __init__(self, number: int):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def batch(self, indices: Sequence[int], randomness: Randomness | None) -> tuple[Any, Any]:
        return torch.empty(0), torch.empty(0)


class _Point(nn.Module):
    """Holds the point x, and returns both losses [2] there as features."""

    def __init__(self, start: int):
        super().__init__()
        self.x = nn.Parameter(toy_starts()[start])

    def forward(self, inputs: Tensor) -> Tensor:
        return toy_losses(self.x)


class _LastLoss:
    def __init__(self, task: int):
        self.task = task
        self.value = float("nan")

    def update(self, output: Tensor, targets: Any) -> None:
        self.value = float(output[self.task])

    def compute(self) -> tuple[float, ...]:
        return (self.value,)
