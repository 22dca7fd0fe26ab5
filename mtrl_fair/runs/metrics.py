"""Logging of metrics to TensorBoard and to `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class MetricLogger:
    """Writes scalars under a step, to TensorBoard events and as one JSON object per line.

    Args:
        path: the run directory.
        resume_step: the step a resumed run continues from; TensorBoard then hides later points of
            the interrupted run.
    """

    def __init__(self, path: Path, resume_step: int | None = None):
        purge_step = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(path), purge_step=purge_step, flush_secs=10)
        self._file = (path / "metrics.jsonl").open("a")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes metrics of one step; a value that is not finite becomes null in `metrics.jsonl`,
        because JSON has no such number."""
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def flush(self) -> None:
        """Writes what TensorBoard's writer still holds; `metrics.jsonl` is always up to date."""
        self._writer.flush()

    def close(self) -> None:
        """Closes both files."""
        self._writer.close()
        self._file.close()
