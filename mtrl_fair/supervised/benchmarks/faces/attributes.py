"""Reads faces and their binary attributes from CelebA's files."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.data import Samples

IMAGES = "img_align_celeba"
LABELS = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
SIZE = 64
MAX_DIGITS = 9
"""Digits of a number of images."""
FORMATS = ("JPEG", "PNG")
"""CelebA has images of both. Pillow knows more, and one of them, EPS, is a program that it runs."""
MAX_PIXELS = 1 << 25
"""Pixels of an image that is read; the aligned ones have 178 x 218. A small file could fill the
memory otherwise."""
_NO_IMAGE = (
    Image.DecompressionBombError,
    ArithmeticError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for a damaged image, depending on where it notices."""


class Listing(NamedTuple):
    """The content of CelebA's text files, one entry per image."""

    names: list[str]
    labels: Tensor
    """[N, attributes] (uint8), 0 or 1."""
    parts: np.ndarray
    """[N] (int64): 0 is train, 1 is validation, 2 is test."""


class Faces(Samples):
    """Loads images [3, 64, 64] (float32, RGB, 0 to 1) and labels [attributes] (float32, 0 or 1).

    Args:
        folder: the folder with the image files, which may have any size.
        names: the names of the N files.
        labels: [N, attributes] (uint8).
    """

    def __init__(self, folder: Path, names: Sequence[str], labels: Tensor):
        self.folder = folder
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int, generator: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Returns the full image, resized bilinearly, and its labels; there is no augmentation.

        Raises:
            DataError: the file is missing, cut off or no image.
        """
        path = self.folder / self.names[index]
        try:
            with Image.open(path, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise ValueError(f"it has {file.width} x {file.height} pixels")
                image = file.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        except _NO_IMAGE as error:
            raise DataError(f"{path} cannot be read as an image: {error}") from error
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels.float().div(255), self.labels[index].float()


def read_listing(folder: Path, attributes: Sequence[str]) -> Listing:
    """Reads the labels and the partition, and checks that every listed image is there.

    Raises:
        DataError: something is missing or wrong.
    """
    names, labels = _read_labels(folder / LABELS, attributes)
    parts = _read_partition(folder / PARTITION, names)
    images = folder / IMAGES
    if not images.is_dir():
        raise DataError(f"there is no folder {images}; it must hold the {len(names)} images")
    found = set(os.listdir(images))
    if missing := [name for name in names if name not in found]:
        raise DataError(
            f"{len(missing)} of the {len(names)} images that {folder / LABELS} lists are missing,"
            f" the first is {images / missing[0]}"
        )
    return Listing(names, labels, parts)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _read_labels(path: Path, attributes: Sequence[str]) -> tuple[list[str], Tensor]:
    lines = _lines(path)
    number = lines[0].strip() if lines else ""
    if len(lines) < 2 or not number.isdecimal() or len(number) > MAX_DIGITS:
        raise DataError(f"{path} must begin with a line with the number of images")
    if lines[1].split() != list(attributes):
        raise DataError(
            f"the second line of {path} must be the names of the {len(attributes)} attributes,"
            f" {attributes[0]} to {attributes[-1]}, but is {lines[1][:80]!r}"
        )
    rows = [line.split() for line in lines[2:] if line.strip()]
    if len(rows) != int(number):
        raise DataError(f"{path} announces {int(number)} images, but lists {len(rows)}")
    labels = np.zeros((len(rows), len(attributes)), np.uint8)
    for index, (name, *values) in enumerate(rows):
        if len(values) != len(attributes) or not {"1", "-1"}.issuperset(values):
            raise DataError(
                f"{path} must give {name} {len(attributes)} labels, each 1 or -1, but gives"
                f" {' '.join(values)[:80]!r}"
            )
        labels[index] = [value == "1" for value in values]
    return [row[0] for row in rows], torch.from_numpy(labels)


def _read_partition(path: Path, names: Sequence[str]) -> np.ndarray:
    rows = [line.split() for line in _lines(path) if line.strip()]
    for row in rows:
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise DataError(
                f"a line of {path} must be an image and 0, 1 or 2 (train, validation, test), but"
                f" one is {' '.join(row)[:80]!r}"
            )
    part_of = {name: int(part) for name, part in rows}
    if absent := [name for name in names if name not in part_of]:
        raise DataError(
            f"{path} does not say which split {len(absent)} images belong to, the first is"
            f" {absent[0]}"
        )
    parts = np.array([part_of[name] for name in names])
    for number, split in enumerate(("train", "validation", "test")):
        if number not in parts:
            raise DataError(f"{path} puts no image into the {split} split ({number})")
    return parts
