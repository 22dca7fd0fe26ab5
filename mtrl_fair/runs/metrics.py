"""Logging of metrics to TensorBoard and to `metrics.jsonl`."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from mtrl_fair.errors import WriteError
from mtrl_fair.runs.files import AppendedFile, cannot_be_written


class MetricLogger:
    """Writes scalars under a step, to TensorBoard events and as one JSON object per line.

    Args:
        path: the run directory.
        resume_step: the step a resumed run continues from; TensorBoard then hides later points of
            the interrupted run.
    """

    def __init__(self, path: Path, resume_step: int | None = None):
        self._path = path
        purge_step = None if resume_step is None else resume_step + 1
        self._writer: SummaryWriter | None = self._make_writer(purge_step)
        self._file = AppendedFile(path / "metrics.jsonl")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes metrics of one step; a value that is not finite becomes null in `metrics.jsonl`,
        because JSON has no such number.

        Raises:
            WriteError: a file cannot be written. A later call adds to `metrics.jsonl` what is
                missing there; TensorBoard's events go on without it.
        """
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self._file.append(json.dumps({"step": step, **finite}) + "\n")
        with self._events() as writer:
            for key, value in metrics.items():
                writer.add_scalar(key, value, step)

    def flush(self) -> None:
        """Writes what is still held back.

        Raises:
            WriteError: as `log`.
        """
        self._file.append()
        with self._events() as writer:
            writer.flush()

    def close(self) -> None:
        """Closes TensorBoard's file; what cannot be written then is lost, as `flush` has said."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        with contextlib.suppress(WriteError):
            self._file.append()

    @contextlib.contextmanager
    def _events(self) -> Iterator[SummaryWriter]:
        """Yields TensorBoard's writer. One that failed once fails for ever, so it is replaced."""
        try:
            if self._writer is None:
                self._writer = self._make_writer(None)
            yield self._writer
        except OSError as error:
            self._writer = None
            raise cannot_be_written(self._path / "events.out.tfevents…", error) from error

    def _make_writer(self, purge_step: int | None) -> SummaryWriter:
        return SummaryWriter(str(self._path), purge_step=purge_step, flush_secs=10)
