"""Cityscapes: segmentation and inverse depth of street scenes (paper table 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mtrl_fair.supervised.benchmarks.dense.benchmark import (
    DenseBenchmark,
    dense_recipe,
    depth,
    segmentation,
)


class Cityscapes(DenseBenchmark):
    """Has 2 tasks and 4 metrics on the small MTAN release of Cityscapes."""

    name = "cityscapes"
    num_classes = 7
    size = (128, 256)
    folders: ClassVar[Mapping[str, str]] = {"image": "image", "label": "label_7", "depth": "depth"}
    parts = (segmentation(num_classes), depth(""))
    tasks = tuple(part.task for part in parts)
    recipe = dense_recipe(batch_size=8)
    published_baseline: ClassVar[Mapping[str, float] | None] = {
        "segmentation/mIoU": 0.7401,
        "segmentation/pixel_accuracy": 0.9316,
        "depth/absolute_error": 0.0125,
        "depth/relative_error": 27.77,
    }
    layout = """Cityscapes as pre-processed for MTAN: unpack the 128x256 version that the README of
https://github.com/lorenmt/mtan links to. FOLDER must have train/ (2975 images) and val/ (500, the
test set), and each of the two these folders with the files 0.npy, 1.npy, …:
  image/    (128, 256, 3) float
  label_7/  (128, 256)    classes 0 to 6, -1 undefined
  depth/    (128, 256, 1) float, inverse depth (disparity / 65535), 0 undefined"""
