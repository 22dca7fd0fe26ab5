"""MultiMNIST: two overlaid digits of MNIST (Sabour et al. 2017; Sener & Koltun 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import Recipe, Splits
from mtrl_fair.supervised.benchmarks.digit_pairs.idx_files import read_idx
from mtrl_fair.supervised.benchmarks.digit_pairs.overlaid_digits import (
    DigitPairBenchmark,
    DigitPairs,
    digit_network,
    random_pairs,
)
from mtrl_fair.supervised.model import MultiTaskModel

SPLIT_SEED = 0
VALIDATION_SHARE = 6  # one training digit in 6 is for validation
OFFSET = 6
MARGIN = 8
SIDE = 28


class MultiMNIST(DigitPairBenchmark):
    """Overlays two 28x28 digits, 6 pixels apart, on 36x36 pixels.

    A sixth of the training digits is for validation.

    The literature has no common hyperparameters; these are Adam's usual ones.
    """

    name = "multimnist"
    recipe = Recipe(epochs=50, batch_size=256, learning_rate=1e-3, report="best")
    layout = (
        "the four files of MNIST, train-images-idx3-ubyte, train-labels-idx1-ubyte,"
        " t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, as they are or with .gz"
    )

    def __init__(self, folder: Path | None = None, pooling: str = "batch"):
        super().__init__(folder, pooling)
        if folder is None:
            raise DataError(f"multimnist needs its files: --data FOLDER with {self.layout}")
        self.train_digits = self._read(folder, "train")
        self.test_digits = self._read(folder, "t10k")

    def splits(self) -> Splits:
        order = torch.from_numpy(
            np.random.default_rng(SPLIT_SEED).permutation(len(self.train_digits[1]))
        )
        held_out = -(-len(order) // VALIDATION_SHARE)
        test = torch.arange(len(self.test_digits[1]))
        return Splits(
            self._pairs(self.train_digits, order[held_out:]),
            self._pairs(self.train_digits, order[:held_out]),
            self._pairs(self.test_digits, test),
        )

    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        trunk = nn.Sequential(
            nn.Conv2d(1, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(10, 20, 5),
            nn.Dropout2d(),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        return digit_network(trunk, 20 * 6 * 6, tasks)

    def _pairs(self, source: tuple[Tensor, Tensor], digits: Tensor) -> DigitPairs:
        """Makes as many pairs as there are digits."""
        return DigitPairs(
            *source,
            random_pairs(digits, len(digits), SPLIT_SEED),
            offset=OFFSET,
            margin=MARGIN,
            brightest=255,
        )

    def _read(self, folder: Path, part: str) -> tuple[Tensor, Tensor]:
        """Reads images [N, 28, 28] and labels [N]."""
        try:
            images = read_idx(folder, f"{part}-images-idx3-ubyte", 3)
            labels = read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
        except DataError as error:
            raise DataError(f"{error}; --data must hold {self.layout}") from error
        if images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels) or labels.max() > 9:
            raise DataError(
                f"the {part} files in {folder} hold images {list(images.shape)} and"
                f" {len(labels)} labels up to {labels.max()}: expected one label from 0 to 9 for"
                f" each image of {SIDE}x{SIDE} pixels"
            )
        return torch.from_numpy(images), torch.from_numpy(labels).long()
