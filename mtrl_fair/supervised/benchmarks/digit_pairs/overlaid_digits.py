"""Images with two overlaid handwritten digits, which are both to be recognised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from mtrl_fair.supervised.benchmark import Benchmark, Metric, Splits, Task
from mtrl_fair.supervised.benchmarks.classification.meters import AccuracyMeter
from mtrl_fair.supervised.data import Data, Randomness
from mtrl_fair.supervised.model import MultiTaskModel

CLASSES = 10
FEATURES = 50


class DigitPairs(Data):
    """Overlays pairs of digits, one at the top left and one at the bottom right of an image.

    Where the digits overlap, the image has the brighter pixel.

    Args:
        images: [N, S, S] (uint8), from 0 to `brightest`.
        labels: [N] (int64).
        pairs: [M, 2], indices of the digits at the top left and at the bottom right.
        offset: the second digit lies so many pixels below and to the right of the first.
        margin: the image has S + margin pixels a side; at least the offset.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        pairs: Tensor,
        *,
        offset: int,
        margin: int,
        brightest: int,
    ):
        self.images = images
        self.labels = labels
        self.pairs = pairs
        self.offset = offset
        self.margin = margin
        self.brightest = brightest

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: Sequence[int], randomness: Randomness | None) -> tuple[Any, Any]:
        """Returns images [B, 1, S + margin, S + margin] in [0, 1] and labels [B, 2]."""
        pairs = self.pairs[list(indices)]
        first, second = self.images[pairs[:, 0]], self.images[pairs[:, 1]]
        near, far = self.offset, self.margin - self.offset
        image = torch.maximum(
            pad(first, (0, self.margin, 0, self.margin)), pad(second, (near, far, near, far))
        )
        return image.unsqueeze(1).float() / self.brightest, self.labels[pairs]


def random_pairs(digits: Tensor, number: int, seed: int) -> Tensor:
    """Draws pairs of the given digits, [number, 2]; each is at the top left equally often.

    Args:
        digits: [N], indices.
    """
    generator = np.random.default_rng(seed)
    first = np.concatenate(
        [generator.permutation(len(digits)) for _ in range(-(-number // len(digits)))]
    )[:number]
    second = generator.integers(0, len(digits), number)
    return digits[torch.from_numpy(np.stack((first, second), 1))]


class DigitPairBenchmark(Benchmark):
    """Asks which digit is at the top left, and which at the bottom right."""

    tasks = tuple(
        Task(name, (Metric("accuracy", higher_is_better=True),)) for name in ("left", "right")
    )

    @abstractmethod
    def splits(self) -> Splits: ...

    def loss(self, task: int, output: Tensor, targets: Any) -> Tensor:
        return cross_entropy(output, targets[:, task])

    def meter(self, task: int) -> AccuracyMeter:
        return AccuracyMeter(task)


def digit_network(trunk: nn.Module, flat: int, tasks: Sequence[int]) -> MultiTaskModel:
    """Makes a network of the trunk, a shared layer of 50 units, and a head for each task.

    Args:
        trunk: convolutions, whose output has `flat` numbers per sample.
    """
    heads = [
        nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, CLASSES))
        for _ in tasks
    ]
    shared = nn.Sequential(trunk, nn.Flatten(), nn.Linear(flat, FEATURES), nn.ReLU())
    return MultiTaskModel(shared, heads)
