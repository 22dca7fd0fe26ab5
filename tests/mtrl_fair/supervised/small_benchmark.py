"""A benchmark of three regression tasks that trains in milliseconds, with dropout, batch norm, an
augmentation, and a third task that half of the batches say nothing about."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from mtrl_fair.supervised.benchmark import Benchmark, Metric, Recipe, Splits, Task
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.data import Samples
from mtrl_fair.supervised.model import MultiTaskModel

CONFIG = SupervisedConfig(
    benchmark="toy",  # the trainer is given a SmallBenchmark instead
    epochs=3,
    batch_size=5,
    learning_rate=1e-2,
    max_norm=1.0,
)


def config(**changes) -> SupervisedConfig:
    return replace(CONFIG, **changes)


class Numbers(Samples):
    def __init__(self, first: int, number: int):
        generator = torch.Generator().manual_seed(first)
        self.inputs = torch.randn(number, 4, generator=generator)
        self.indices = torch.arange(first, first + number)

    def __len__(self):
        return len(self.inputs)

    def sample(self, index, generator):
        inputs = self.inputs[index]
        target = torch.stack((inputs.sum(), inputs.prod(), inputs.norm()))
        if generator is not None:
            inputs = inputs + 0.1 * torch.from_numpy(generator.normal(size=4).astype(np.float32))
        return inputs, {"y": target, "index": self.indices[index]}


class MeanError:
    def __init__(self, task):
        self.task = task
        self.errors = []

    def update(self, output, targets):
        self.errors.append((output[:, 0] - targets["y"][:, self.task]).abs())

    def compute(self):
        errors = torch.cat(self.errors)
        return float(errors.mean()), float((errors < 0.5).float().mean())


METRICS = (Metric("error", False), Metric("within", True))


class SmallBenchmark(Benchmark):
    name = "small"
    tasks = tuple(Task(name, METRICS) for name in ("sum", "product", "norm"))
    recipe = Recipe(epochs=3, batch_size=5, learning_rate=1e-2, report="best")
    plateau = False
    validated = True
    dropout = 0.3

    def splits(self):
        validation = Numbers(100, 13) if self.validated else None
        return Splits(Numbers(0, 23), validation, Numbers(200, 11))

    def model(self, tasks):
        trunk = nn.Sequential(
            # A bias before batch norm would follow Adam's rounding.
            nn.Linear(4, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(self.dropout),
        )
        return MultiTaskModel(trunk, [nn.Linear(8, 1) for _ in tasks])

    def loss(self, task, output, targets):
        return (output[:, 0] - targets["y"][:, task]).square().mean() + 1e-3

    def meter(self, task):
        return MeanError(task)

    def present(self, task, targets):
        return targets["index"][0] % 2 == 0 if task == 2 else None

    def scheduler(self, optimizer):
        if self.plateau:
            return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", 0.5, patience=0)
        return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


class LastEpochs(SmallBenchmark):
    recipe = Recipe(epochs=3, batch_size=5, learning_rate=1e-2, report="last", report_epochs=2)
    validated = False


class Plain(SmallBenchmark):
    """Nothing random, every task in every batch."""

    dropout = 0.0

    def present(self, task, targets):
        return None


class Plateau(SmallBenchmark):
    plateau = True
