"""The interface of a supervised benchmark: tasks, data, model, losses, metrics, recipe."""

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
    """A number that an evaluation computes for a task."""

    name: str
    higher_is_better: bool
    unit: str = ""


class Task(NamedTuple):
    """A task and the metrics that it is judged by."""

    name: str
    metrics: tuple[Metric, ...]


class Splits(NamedTuple):
    """The parts of a data set; `validation` is None if the literature has none."""

    train: Data
    validation: Data | None
    test: Data


class Meter(Protocol):
    """Computes one task's metrics over the batches of a split."""

    def update(self, output: Tensor, targets: Any) -> None:
        """Adds what the task's head returned for a batch."""

    def compute(self) -> tuple[float, ...]:
        """Returns the metrics of all batches so far, in the order of the task's `metrics`."""


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters that were published for a benchmark; the optimiser is Adam."""

    epochs: int
    batch_size: int
    learning_rate: float
    report: Literal["best", "last"]
    """Which test metrics are the result. best: those of the epoch with the best validation score;
    last: the mean over the last `report_epochs` epochs."""
    report_epochs: int = 1
    max_norm: float | None = 1.0
    """The combined direction is clipped to this norm."""
    loader_workers: int = 0
    """The largest number of processes that load data; fewer are used if there are fewer cores."""
    threads: int | None = None
    """CPU threads of one training; None: the cores are divided among the trainings that run at a
    time."""


class Benchmark(ABC):
    """Brings what one benchmark consists of: data, model, losses, metrics, baseline, recipe.

    Args:
        folder: the folder with the data; None for benchmarks that need no files.
        pooling: how metrics are averaged that papers average over batches: "batch" does as the
            papers do, "pixels" counts all pixels alike.

    Raises:
        DataError: a file is missing or wrong (here, or when a sample is loaded).
        ValueError: the benchmark does not have the pooling, or two of its tasks have one name.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    recipe: ClassVar[Recipe]
    layout: ClassVar[str | None] = None
    """A text for users: how the folder must look and where to get it; None: no files are needed."""
    published_baseline: ClassVar[Mapping[str, float] | None] = None
    """Single-task results of the literature, by the names that `metric_names` returns."""
    min_loss: ClassVar[float] = 0.0
    """A bound below all losses, which the methods si, dwa, uw and famo subtract."""
    has_delta: ClassVar[bool] = True
    """Whether Δm% is defined, which needs a baseline whose metrics are all positive."""
    poolings: ClassVar[tuple[str, ...]] = ("batch",)
    """The values that `pooling` may have."""

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
        """Returns the data; samples may be read from files when they are used."""

    @abstractmethod
    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        """Makes a freshly initialised network with one head for each of the given tasks.

        The caller has seeded torch's generator with the training's seed.
        """

    @abstractmethod
    def loss(self, task: int, output: Tensor, targets: Any) -> Tensor:
        """Computes the task's loss [] from what its head returned for a batch, and the targets."""

    @abstractmethod
    def meter(self, task: int) -> Meter:
        """Makes an empty meter for the task's metrics."""

    def present(self, task: int, targets: Any) -> Tensor | None:
        """Returns whether the batch says anything about the task, [] (bool); None: always."""
        return None

    def scheduler(
        self, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler | None:
        """Makes the schedule of the learning rate, which steps after every epoch's evaluation."""
        return None

    def score(self, values: Mapping[str, float]) -> float:
        """Computes the score of an epoch; the epoch with the highest one is the best.

        With a published baseline it is minus Δm%. Without, it is the mean of the metrics, with a
        minus before those that are better when lower.

        Args:
            values: metrics of a validation split by `metric_names`, for some or all tasks.
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
    """Returns `task/metric` for each metric of a task."""
    return [f"{task.name}/{metric.name}" for metric in task.metrics]


def metric_labels(tasks: Sequence[Task]) -> dict[str, str]:
    """Returns labels for tables, `task/metric (unit)`, by `metric_names`."""
    return {
        name: f"{name} ({metric.unit})" if metric.unit else name
        for task in tasks
        for name, metric in zip(metric_names(task), task.metrics, strict=True)
    }


def metric_directions(tasks: Sequence[Task]) -> dict[str, bool]:
    """Returns whether higher is better, by `metric_names`, in the order of tasks."""
    return {
        name: metric.higher_is_better
        for task in tasks
        for name, metric in zip(metric_names(task), task.metrics, strict=True)
    }
