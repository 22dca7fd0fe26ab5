"""Meters of pixel-wise tasks, over the batches of a split.

Their sums stay on the device of the outputs, and the host does not wait for them before `compute`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.supervised.benchmarks.dense.losses import valid_depth, valid_labels, valid_normals

Pooling = Literal["batch", "pixels"]
"""How metrics of pixels are averaged. batch: as in the literature, metrics of each batch, then
their mean over the batches that have a valid pixel; the result depends on the batch size. pixels:
over all valid pixels of the split."""

SHARES_WITHIN = (11.25, 22.5, 30.0)
BINS_PER_DEGREE = 100


class SegmentationMeter:
    """Computes (mean intersection over union, pixel accuracy), as fractions.

    Both come from one confusion matrix of all batches. The mean leaves out classes that neither
    the labels nor the predictions have. NaN without a valid pixel.
    """

    def __init__(self, num_classes: int):
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        """The number of pixels, [label, prediction]."""

    @torch.no_grad()
    def update(self, output: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Adds logits [B, C, H, W] and `label` [B, H, W]."""
        labels = targets["label"]
        valid = valid_labels(labels)
        cell = labels * len(self.confusion) + output.argmax(1)
        self.confusion = self.confusion.to(output.device)
        # Invalid pixels add 0 to some cell; picking the valid ones would make the host wait.
        self.confusion.view(-1).index_add_(
            0, cell.where(valid, 0).flatten(), valid.flatten().to(torch.int64)
        )

    def compute(self) -> tuple[float, ...]:
        confusion = self.confusion.double().cpu()
        right = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - right
        found = union > 0
        mean_iou = (right[found] / union[found]).mean()
        return mean_iou.item(), (right.sum() / confusion.sum()).item()


class DepthMeter:
    """Computes (absolute error, relative error) of depth.

    They are |p - d| in the unit of d, and |p - d| / |d| as a fraction, which is large for
    Cityscapes' inverse depths, because they come close to 0. NaN without a valid pixel.
    """

    def __init__(self, pooling: Pooling):
        self._means = _Means(2, pooling)

    @torch.no_grad()
    def update(self, output: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Adds predictions [B, 1, H, W] and `depth` [B, 1, H, W]."""
        depth = targets["depth"]
        valid = valid_depth(depth)
        error = (output - depth).abs()
        relative = error / depth.abs().where(valid, 1)
        self._means.add(torch.stack((error, relative)), valid)

    def compute(self) -> tuple[float, ...]:
        return tuple(self._means.compute())


class NormalMeter:
    """Computes (mean angle, median angle, share within 11.25°, 22.5°, 30°) of normals.

    Angles between prediction and ground truth in degrees, shares as fractions. NaN without a valid
    pixel. With `pooling="pixels"` the median comes from a histogram with 100 bins per degree: it is
    right within 0.005°.
    """

    def __init__(self, pooling: Pooling):
        self._means = _Means(1 + len(SHARES_WITHIN), pooling)
        self._median = _MeanOfMedians() if pooling == "batch" else _HistogramMedian()

    @torch.no_grad()
    def update(self, output: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Adds predictions of unit length [B, 3, H, W] and `normal` [B, 3, H, W]."""
        normals = targets["normal"]
        valid = valid_normals(normals)
        cosine = (output * normals).sum(1).float().clamp(-1, 1)
        angle = cosine.acos().rad2deg()
        within = [(angle < limit).to(angle) for limit in SHARES_WITHIN]
        self._means.add(torch.stack((angle, *within)), valid)
        self._median.add(angle.flatten(), valid.flatten())

    def compute(self) -> tuple[float, ...]:
        mean, *shares = self._means.compute()
        return (mean, self._median.compute(), *shares)


class _Means:
    """Computes means of M quantities over valid pixels."""

    def __init__(self, size: int, pooling: Pooling):
        check_name("pooling", pooling, get_args(Pooling))
        self.pooling = pooling
        self.totals = torch.zeros(size, dtype=torch.float64)
        self.count = torch.zeros((), dtype=torch.int64)

    def add(self, values: Tensor, valid: Tensor) -> None:
        """Adds values [M, …] of pixels; `valid` [...] (bool) says which ones count."""
        totals = values.double().where(valid, 0).flatten(1).sum(1)
        count = valid.sum()
        if self.pooling == "batch":
            totals, count = totals / count.clamp(min=1), (count > 0).to(count)
        self.totals = self.totals.to(totals.device) + totals
        self.count = self.count.to(count.device) + count

    def compute(self) -> list[float]:
        """Returns the M means; NaN if nothing was valid."""
        means: list[float] = (self.totals / self.count).tolist()
        return means


class _MeanOfMedians:
    """Computes the median of each batch, then the mean over batches."""

    def __init__(self) -> None:
        self.means = _Means(1, "pixels")  # of batches here: each is one value, valid or not

    def add(self, values: Tensor, valid: Tensor) -> None:
        """Adds values [N]; `valid` [N] (bool) says which ones count."""
        count = valid.sum()
        ordered = values.where(valid, torch.inf).sort().values
        middle = torch.stack(((count - 1).clamp(min=0) // 2, count // 2))
        self.means.add(ordered[middle].mean().view(1, 1), (count > 0).view(1))

    def compute(self) -> float:
        return self.means.compute()[0]


class _HistogramMedian:
    """Computes the median of the angles of all batches, from a histogram."""

    def __init__(self) -> None:
        self.counts = torch.zeros(180 * BINS_PER_DEGREE, dtype=torch.int64)

    def add(self, values: Tensor, valid: Tensor) -> None:
        """Adds values [N] from 0 to 180; `valid` [N] (bool) says which ones count."""
        cell = (values * BINS_PER_DEGREE).long().clamp(0, len(self.counts) - 1)
        self.counts = self.counts.to(values.device)
        self.counts.index_add_(0, cell, valid.to(torch.int64))

    def compute(self) -> float:
        cumulative = self.counts.cumsum(0)
        total = int(cumulative[-1])
        if total == 0:
            return float("nan")
        ranks = cumulative.new_tensor([(total - 1) // 2, total // 2])
        cells = torch.searchsorted(cumulative, ranks, right=True)
        return (cells.double().mean().item() + 0.5) / BINS_PER_DEGREE
