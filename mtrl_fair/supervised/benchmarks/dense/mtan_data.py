"""Images with pixel-wise ground truth in the folders of the MTAN release."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmarks.dense.losses import UNDEFINED
from mtrl_fair.supervised.data import Samples

SCALES = (1.0, 1.2, 1.5)
CHANNELS = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
"""The axes of a file behind height and width, by key."""


class MTANFolder(Samples):
    """Reads the files `split/folder/{0, 1, …}.npy` below a root.

    A sample is (image [3, H, W], targets), targets a dict of `label` [H, W] (int64, -1 undefined),
    `depth` [1, H, W] (0 undefined) and, if there are any, `normal` [3, H, W] (0 undefined). All but
    labels are float32. Training samples go through `augment`.

    Args:
        root: the folder that the release unpacks to.
        split: "train" or "val".
        folders: the names of the folders by key: "image", "label", "depth" and maybe "normal".
        size: (height, width) of the files.
        num_classes: labels are below this.

    Raises:
        DataError: a file is missing (noticed here), or wrong (noticed when it is loaded).
    """

    def __init__(
        self,
        root: Path,
        split: str,
        folders: Mapping[str, str],
        size: tuple[int, int],
        num_classes: int,
    ):
        self.folders = {key: root / split / name for key, name in folders.items()}
        self.size = size
        self.num_classes = num_classes
        self._length = _count_samples(list(self.folders.values()))

    def __len__(self) -> int:
        return self._length

    def sample(
        self, index: int, generator: np.random.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {key: self._load(key, index) for key in self.folders}
        if generator is not None:
            parts = augment(parts, generator)
        return parts.pop("image"), parts

    def _load(self, key: str, index: int) -> Tensor:
        path = self.folders[key] / f"{index}.npy"
        array = _map(path)
        expected = (*self.size, *CHANNELS[key])
        kinds, described = ("iuf", "numbers") if key == "label" else ("f", "floating point")
        if array.shape != expected or array.dtype.kind not in kinds:
            raise DataError(
                f"{path} has shape {array.shape} and type {array.dtype}, expected {expected} and"
                f" {described}"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            numbers = array.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise DataError(f"{path} has values that are not finite, or too large for float32")
        if key == "label":
            return torch.from_numpy(self._checked_labels(path, array))
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(numbers, -1, 0)))

    def _checked_labels(self, path: Path, array: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # of a number that int64 cannot hold: it differs
            labels = array.astype(np.int64)
        wrong = (labels != array) | (labels < UNDEFINED) | (labels >= self.num_classes)
        if wrong.any():
            raise DataError(
                f"{path} has the label {array[wrong][0]}, expected whole numbers from {UNDEFINED}"
                f" (undefined) to {self.num_classes - 1}"
            )
        return labels


def augment(parts: Mapping[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
    """Scales, crops and flips a sample at random, as MTAN's successors do in training.

    The scale s is 1, 1.2 or 1.5. A crop of 1/s of each side, rounded down, is resized to the full
    size: image and normals bilinearly (normals are not brought back to unit length), labels and
    depth to the nearest. Depth is divided by s, because the scene comes nearer (the literature
    divides Cityscapes' *inverse* depth too). A flip mirrors the normals' x.

    Args:
        parts: tensors [..., H, W] by key: "image", "label", "depth", "normal"; any may be absent.
    """
    scale = SCALES[generator.integers(len(SCALES))]
    height, width = next(iter(parts.values())).shape[-2:]
    crop_height, crop_width = int(height / scale), int(width / scale)
    top = int(generator.integers(height - crop_height, endpoint=True))
    left = int(generator.integers(width - crop_width, endpoint=True))
    flipped = generator.random() < 0.5
    rows = torch.arange(height) * crop_height // height
    columns = torch.arange(width) * crop_width // width
    augmented = {}
    for key, full in parts.items():
        part = full[..., top : top + crop_height, left : left + crop_width]
        if key in ("image", "normal"):
            size = (height, width)
            part = F.interpolate(part[None], size, mode="bilinear", align_corners=True)[0]
        else:
            part = part[..., rows[:, None], columns]
        if key == "depth":
            part = part / scale
        if flipped:
            part = part.flip(-1)
            if key == "normal":
                part = torch.cat((-part[:1], part[1:]))
        augmented[key] = part
    return augmented


def _count_samples(folders: list[Path]) -> int:
    """Counts the files 0.npy, 1.npy, … of each folder; all folders must have the same."""
    names = {folder: _names(folder) for folder in folders}
    number = max(1, *(len(found) for found in names.values()))
    for index in range(number):
        for folder, found in names.items():
            if f"{index}.npy" not in found:
                siblings = ", ".join(sibling.name for sibling in folders)
                raise DataError(
                    f"{folder / f'{index}.npy'} is missing: {folder.parent} must have the folders"
                    f" {siblings}, each with the files 0.npy to {number - 1}.npy"
                )
    return number


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {name for name in os.listdir(folder) if re.fullmatch(r"[0-9]+\.npy", name)}


def _map(path: Path) -> np.ndarray:
    """Returns a file's array without reading it: whatever shape it states, nothing is allocated.

    Objects, which could execute code, are refused.
    """
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    # numpy evaluates the header as a literal of Python.
    except (ArithmeticError, OSError, RecursionError, TypeError, ValueError, TokenError) as error:
        has_objects = "Python objects" in str(error)
        reason = "Object arrays could execute code" if has_objects else error
        raise DataError(f"{path} cannot be read as a .npy file: {reason}") from error
    return np.asarray(array)
