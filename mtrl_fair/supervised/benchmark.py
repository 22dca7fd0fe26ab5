"""What a supervised benchmark is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.supervised.data import Data
from mtrl_fair.supervised.model import MultiTaskModel
from mtrl_fair.supervised.scores import delta_m


class Metric(NamedTuple):
    """A number that an evaluation gives for a task."""

    name: str
    higher_is_better: bool
    unit: str = ""


class Task(NamedTuple):
    """A task and what it is judged by."""

    name: str
    metrics: tuple[Metric, ...]


class Splits(NamedTuple):
    """The parts of a data set; `validation` is None where the literature has none."""

    train: Data
    validation: Data | None
    test: Data


class Meter(Protocol):
    """Gathers one task's metrics over the batches of a split."""

    def update(self, output: Tensor, targets: Any) -> None:
        """Takes in what the task's head returned for a batch."""

    def compute(self) -> tuple[float, ...]:
        """The metrics of everything taken in, in the order of the task's `metrics`."""


@dataclass(frozen=True)
class Recipe:
    """The published hyperparameters of a benchmark; the optimiser is Adam."""

    epochs: int
    batch_size: int
    learning_rate: float
    report: Literal["best", "last"]
    """best: the test metrics of the epoch with the best validation score; last: the mean of the
    last `report_epochs` epochs."""
    report_epochs: int = 1
    max_norm: float | None = 1.0
    """The combined direction is clipped to this norm."""
    loader_workers: int = 0
    """Processes that load data, at most; fewer where there are fewer cores."""
    threads: int | None = None
    """CPU threads of one training; None: the cores shared out among those that run at once."""


class Benchmark(ABC):
    """Data, model, losses, metrics, single-task baseline and hyperparameters of one benchmark.

    Args:
        folder: where the data are; None for benchmarks that need no files.
        pooling: of metrics that papers average over batches: "batch" does so, too, "pixels" takes
            all pixels alike.

    Raises:
        DataError: a file is missing or wrong (here, or when a sample is loaded).
        ValueError: a pooling that it has not, names of tasks that do not tell them apart.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    recipe: ClassVar[Recipe]
    layout: ClassVar[str | None] = None
    """How the folder must look and where its data come from, for people; None: no files needed."""
    published_baseline: ClassVar[Mapping[str, float] | None] = None
    """Single-task results of the literature, by the names of `metric_names`."""
    min_loss: ClassVar[float] = 0.0
    """A bound that no loss reaches, which si, dwa, uw and famo subtract."""
    has_delta: ClassVar[bool] = True
    """Whether Δm% makes sense: every metric of the baseline is positive."""
    poolings: ClassVar[tuple[str, ...]] = ("batch",)
    """What `pooling` may be."""

    def __init__(self, folder: Path | None = None, pooling: str = "batch"):
        check_name(f"pooling of {self.name}", pooling, self.poolings)
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names) or any("/" in name for name in names):
            raise ValueError(
                f"the tasks of {self.name} are {', '.join(names)}: each needs a name of its own,"
                " without a slash"
            )
        self.folder = folder
        self.pooling = pooling

    @abstractmethod
    def splits(self) -> Splits:
        """The data; samples may be read from files when they are asked for."""

    @abstractmethod
    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        """A freshly initialised network with one head for each of the given tasks.

        torch's generator has been seeded with the training's seed.
        """

    @abstractmethod
    def loss(self, task: int, output: Tensor, targets: Any) -> Tensor:
        """The task's loss [], of what its head returned for a batch and the batch's targets."""

    @abstractmethod
    def meter(self, task: int) -> Meter:
        """An empty meter for the task's metrics."""

    def present(self, task: int, targets: Any) -> Tensor | None:
        """[] (bool), whether the batch says anything about the task; None: it always does."""
        return None

    def scheduler(
        self, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler | None:
        """The schedule of the learning rate, stepped after every epoch's evaluation."""
        return None

    def score(self, values: Mapping[str, float]) -> float:
        """What the best epoch has the highest of: minus Δm% where there is a published baseline,
        else the mean of the metrics, those that are better when lower counted negatively.

        Args:
            values: metrics of a validation split by `metric_names`, of some or all tasks.
        """
        directions = metric_directions(self.tasks)
        if self.published_baseline is not None:
            names = list(values)
            return -delta_m(
                [values[name] for name in names],
                [self.published_baseline[name] for name in names],
                [directions[name] for name in names],
            )
        signed = [value if directions[name] else -value for name, value in values.items()]
        return sum(signed) / len(signed)


def metric_names(task: Task) -> list[str]:
    """`task/metric`, for each metric of a task."""
    return [f"{task.name}/{metric.name}" for metric in task.metrics]


def metric_labels(tasks: Sequence[Task]) -> dict[str, str]:
    """For people: `task/metric`, with its unit, by `metric_names`."""
    return {
        name: f"{name} ({metric.unit})" if metric.unit else name
        for task in tasks
        for name, metric in zip(metric_names(task), task.metrics, strict=True)
    }


def metric_directions(tasks: Sequence[Task]) -> dict[str, bool]:
    """Whether higher is better, by `metric_names`, in the order of tasks."""
    return {
        name: metric.higher_is_better
        for task in tasks
        for name, metric in zip(metric_names(task), task.metrics, strict=True)
    }
