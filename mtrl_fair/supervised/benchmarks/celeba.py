"""CelebA: 40 attributes of a face, each a binary task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import Benchmark, Metric, Recipe, Splits, Task
from mtrl_fair.supervised.benchmarks.classification.meters import F1Meter
from mtrl_fair.supervised.benchmarks.faces.attributes import (
    IMAGES,
    LABELS,
    PARTITION,
    Faces,
    read_listing,
)
from mtrl_fair.supervised.model import MultiTaskModel

ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)


class CelebA(Benchmark):
    """Asks which of 40 attributes a face has (Liu et al. 2015), with the official splits.

    Raises:
        DataError: a text file is missing or wrong, or an image is missing. An image that cannot be
            read is noticed when it is loaded.
    """

    name = "celeba"
    tasks = tuple(Task(name, (Metric("F1", higher_is_better=True),)) for name in ATTRIBUTES)
    recipe = Recipe(epochs=15, batch_size=256, learning_rate=3e-4, report="best", loader_workers=8)
    layout = (
        f"FOLDER/{IMAGES}/000001.jpg to 202599.jpg (img_align_celeba.zip, unpacked),"
        f" FOLDER/{LABELS} and FOLDER/{PARTITION}, from"
        " https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    )

    def __init__(self, folder: Path | None = None, pooling: str = "batch"):
        super().__init__(folder, pooling)
        if folder is None:
            raise DataError(f"celeba needs its files: --data FOLDER with {self.layout}")
        try:
            self._listing = read_listing(folder, ATTRIBUTES)
        except DataError as error:
            raise DataError(f"{error}. CelebA must be laid out as {self.layout}") from error
        self._images = folder / IMAGES

    def splits(self) -> Splits:
        """Returns inputs [B, 3, 64, 64] (0 to 1) and targets [B, 40] (float32, 0 or 1)."""
        return Splits(self._part(0), self._part(1), self._part(2))

    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        """Makes seven convolutions, two fully connected layers, and a linear head for each task."""
        trunk = nn.Sequential(
            *_convolution(3, 64),
            nn.MaxPool2d(2),
            *_convolution(64, 128),
            *_convolution(128, 128),
            nn.MaxPool2d(2),
            *_convolution(128, 256),
            *_convolution(256, 256),
            nn.MaxPool2d(2),
            *_convolution(256, 512),
            *_convolution(512, 512),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            *_fully_connected(512, 512),
            *_fully_connected(512, 512),
        )
        return MultiTaskModel(trunk, [nn.Linear(512, 1) for _ in tasks])

    def loss(self, task: int, output: Tensor, targets: Tensor) -> Tensor:
        """Computes the binary cross-entropy of the logits [B, 1], the mean over the batch."""
        return functional.binary_cross_entropy_with_logits(output.squeeze(1), targets[:, task])

    def meter(self, task: int) -> F1Meter:
        """Makes a meter of F1 at a probability of 0.5."""
        return F1Meter(task)

    def _part(self, number: int) -> Faces:
        chosen = np.flatnonzero(self._listing.parts == number)
        names = [self._listing.names[index] for index in chosen]
        return Faces(self._images, names, self._listing.labels[chosen])


def _convolution(channels: int, width: int) -> tuple[nn.Module, ...]:
    # Padded: without, the last block's 4 x 4 pixels would be used up by its two convolutions.
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


def _fully_connected(features: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()
