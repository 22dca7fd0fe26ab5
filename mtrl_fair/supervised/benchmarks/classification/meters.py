"""Meters of classification tasks; their counts stay on the device until `compute`."""

from __future__ import annotations

from torch import Tensor


class AccuracyMeter:
    """Computes the share of samples whose class has the highest logit; NaN without a sample.

    Args:
        column: the column of the targets that holds this task's classes.
    """

    def __init__(self, column: int):
        self.column = column
        self._samples = 0
        self._correct: Tensor | int = 0

    def update(self, output: Tensor, targets: Tensor) -> None:
        """Adds logits [B, C] and the classes of all tasks [B, K] (int64)."""
        self._samples += len(output)
        self._correct = self._correct + (output.argmax(1) == targets[:, self.column]).sum()

    def compute(self) -> tuple[float]:
        """Returns (accuracy,), in [0, 1]."""
        return (float(self._correct) / self._samples if self._samples else float("nan"),)


class F1Meter:
    """Computes the F1 score of a binary task, 2 TP / (2 TP + FP + FN).

    A probability over 0.5 is a positive prediction. The score is 0 if no sample is positive and
    none is predicted to be, and NaN without any sample.

    Args:
        column: the column of the targets that holds this task's labels.
    """

    def __init__(self, column: int):
        self.column = column
        self._samples = 0
        self._hits: Tensor | int = 0
        self._positives: Tensor | int = 0

    def update(self, output: Tensor, targets: Tensor) -> None:
        """Adds logits [B] or [B, 1] and the labels of all tasks [B, K], each 0 or 1."""
        predicted = output.reshape(len(targets)) > 0  # a probability over 0.5
        actual = targets[:, self.column] == 1
        self._samples += len(targets)
        self._hits = self._hits + (predicted & actual).sum()
        self._positives = self._positives + predicted.sum() + actual.sum()

    def compute(self) -> tuple[float]:
        """Returns (F1,), in [0, 1]."""
        if not self._samples:
            return (float("nan"),)
        positives = float(self._positives)  # 2 TP + FP + FN
        return (2 * float(self._hits) / positives if positives else 0.0,)
