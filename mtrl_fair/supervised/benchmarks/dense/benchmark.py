"""The base of NYU-v2 and Cityscapes: pixel-wise tasks on the SegNet of MTAN."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import Benchmark, Meter, Metric, Recipe, Splits, Task
from mtrl_fair.supervised.benchmarks.dense.losses import (
    depth_loss,
    normal_loss,
    segmentation_loss,
    valid_depth,
    valid_labels,
    valid_normals,
)
from mtrl_fair.supervised.benchmarks.dense.meters import (
    DepthMeter,
    NormalMeter,
    Pooling,
    SegmentationMeter,
)
from mtrl_fair.supervised.benchmarks.dense.mtan_data import MTANFolder
from mtrl_fair.supervised.benchmarks.dense.segnet_mtan import SegNetMTAN, UnitLength, dense_head
from mtrl_fair.supervised.model import MultiTaskModel


class DenseTask(NamedTuple):
    """A pixel-wise task, with its target, head, loss and meter."""

    task: Task
    target: str
    """The key of the ground truth in the targets."""
    head: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    valid: Callable[[Tensor], Tensor]
    """Maps ground truth to the pixels where it is defined (bool)."""
    meter: Callable[[Pooling], Meter]


class DenseBenchmark(Benchmark, ABC):
    """Trains on a data set of the MTAN release.

    Args:
        folder: must look as `layout` says.
        pooling: how depth and normal errors of pixels become metrics: "batch", the literature's
            mean over batches, or "pixels" (see `meters.Pooling`).

    Raises:
        DataError: there is no folder, or a file is missing or wrong (noticed here, or when a
            sample is loaded).
    """

    parts: ClassVar[tuple[DenseTask, ...]]
    folders: ClassVar[Mapping[str, str]]
    """The names of the folders, by key of a sample (see `MTANFolder`)."""
    size: ClassVar[tuple[int, int]]
    num_classes: ClassVar[int]

    poolings = get_args(Pooling)

    def __init__(self, folder: Path | None = None, pooling: Pooling = "batch"):
        super().__init__(folder, pooling)
        if folder is None or not Path(folder).is_dir():
            found = "no folder is given" if folder is None else f"{folder} is no folder"
            raise DataError(f"{self.name}: {found}. --data FOLDER: {self.layout}")
        train, test = (
            MTANFolder(Path(folder), split, self.folders, self.size, self.num_classes)
            for split in ("train", "val")
        )
        self._splits = Splits(train, None, test)

    def splits(self) -> Splits:
        return self._splits

    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        return MultiTaskModel(SegNetMTAN(len(tasks)), [self.parts[task].head() for task in tasks])

    def loss(self, task: int, output: Tensor, targets: Any) -> Tensor:
        part = self.parts[task]
        return part.loss(output, targets[part.target])

    def meter(self, task: int) -> Meter:
        return self.parts[task].meter(cast(Pooling, self.pooling))

    def present(self, task: int, targets: Any) -> Tensor | None:
        part = self.parts[task]
        return part.valid(targets[part.target]).any()

    def scheduler(
        self, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler | None:
        """Halves the rate after every 100 epochs: once, in the published 200."""
        return StepLR(optimizer, step_size=100, gamma=0.5)


def dense_recipe(batch_size: int) -> Recipe:
    """Returns the published hyperparameters, which differ in the batch size only."""
    return Recipe(
        epochs=200,
        batch_size=batch_size,
        learning_rate=1e-4,
        report="last",
        report_epochs=10,
        loader_workers=4,
    )


def segmentation(num_classes: int) -> DenseTask:
    """Returns the task to predict a class for each pixel."""
    return DenseTask(
        Task("segmentation", (Metric("mIoU", True), Metric("pixel_accuracy", True))),
        "label",
        lambda: dense_head(num_classes),
        segmentation_loss,
        valid_labels,
        lambda pooling: SegmentationMeter(num_classes),
    )


def depth(unit: str) -> DenseTask:
    """Returns the task to predict a depth for each pixel.

    Args:
        unit: the unit of the depth, for tables.
    """
    return DenseTask(
        Task("depth", (Metric("absolute_error", False, unit), Metric("relative_error", False))),
        "depth",
        lambda: dense_head(1),
        depth_loss,
        valid_depth,
        DepthMeter,
    )


def normals() -> DenseTask:
    """Returns the task to predict a surface normal for each pixel."""
    angles = (Metric("mean_angle", False, "°"), Metric("median_angle", False, "°"))
    shares = tuple(Metric(f"within_{limit}", True) for limit in ("11.25", "22.5", "30"))
    return DenseTask(
        Task("normals", angles + shares),
        "normal",
        lambda: nn.Sequential(dense_head(3), UnitLength()),
        normal_loss,
        valid_normals,
        NormalMeter,
    )
