"""NYU-v2: segmentation, depth and surface normals of indoor scenes (paper table 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mtrl_fair.supervised.benchmarks.dense.benchmark import (
    DenseBenchmark,
    dense_recipe,
    depth,
    normals,
    segmentation,
)


class NYUv2(DenseBenchmark):
    """Has 3 tasks and 9 metrics on the MTAN release of NYU-v2."""

    name = "nyuv2"
    num_classes = 13
    size = (288, 384)
    folders: ClassVar[Mapping[str, str]] = {
        "image": "image",
        "label": "label",
        "depth": "depth",
        "normal": "normal",
    }
    parts = (segmentation(num_classes), depth("m"), normals())
    tasks = tuple(part.task for part in parts)
    recipe = dense_recipe(batch_size=2)
    published_baseline: ClassVar[Mapping[str, float] | None] = {
        "segmentation/mIoU": 0.3830,
        "segmentation/pixel_accuracy": 0.6376,
        "depth/absolute_error": 0.6754,
        "depth/relative_error": 0.2780,
        "normals/mean_angle": 25.01,
        "normals/median_angle": 19.21,
        "normals/within_11.25": 0.3014,
        "normals/within_22.5": 0.5720,
        "normals/within_30": 0.6915,
    }
    layout = """NYU-v2 as pre-processed for MTAN: unpack the nyuv2.zip that the README of
https://github.com/lorenmt/mtan links to. FOLDER must have train/ (795 images) and val/ (654, the
test set), and each of the two these folders with the files 0.npy, 1.npy, …:
  image/   (288, 384, 3) float
  label/   (288, 384)    classes 0 to 12, -1 undefined
  depth/   (288, 384, 1) float, metres, 0 undefined
  normal/  (288, 384, 3) float, of unit length, 0 undefined"""
