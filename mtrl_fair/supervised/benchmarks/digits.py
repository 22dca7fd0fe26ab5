"""Overlaid digits from the data that ship with scikit-learn: nothing to download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import StepLR

from mtrl_fair.supervised.benchmark import Recipe, Splits
from mtrl_fair.supervised.benchmarks.digit_pairs.overlaid_digits import (
    DigitPairBenchmark,
    DigitPairs,
    digit_network,
    random_pairs,
)
from mtrl_fair.supervised.model import MultiTaskModel

SPLIT_SEED = 0
DIGITS = {"train": 1000, "validation": 300, "test": 497}
PAIRS = {"train": 10_000, "validation": 3_000, "test": 5_000}
OFFSET = 3
MARGIN = 4
CHANNELS = (10, 20)


class Digits(DigitPairBenchmark):
    """Overlays two of the 1,797 8x8 digits of `sklearn.datasets.load_digits` on 12x12 pixels.

    Training, validation and test pairs are made of different digits, by a fixed seed. The benchmark
    was made for this project, so the hyperparameters are not published ones.
    """

    name = "digits"
    recipe = Recipe(epochs=30, batch_size=128, learning_rate=2e-3, report="best", threads=1)

    def splits(self) -> Splits:
        digits = load_digits()
        images = torch.from_numpy(digits.images.astype(np.uint8))
        labels = torch.from_numpy(digits.target).long()
        order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(images)))
        parts = order.split(list(DIGITS.values()))
        return Splits(
            *(
                DigitPairs(
                    images,
                    labels,
                    random_pairs(part, PAIRS[name], SPLIT_SEED),
                    offset=OFFSET,
                    margin=MARGIN,
                    brightest=16,
                )
                for name, part in zip(DIGITS, parts, strict=True)
            )
        )

    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        near, far = CHANNELS
        trunk = nn.Sequential(
            nn.Conv2d(1, near, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(near, far, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        return digit_network(trunk, far * 9, tasks)

    def scheduler(self, optimizer: torch.optim.Optimizer) -> StepLR:
        """Halves the rate after every 8 epochs."""
        return StepLR(optimizer, step_size=8, gamma=0.5)
