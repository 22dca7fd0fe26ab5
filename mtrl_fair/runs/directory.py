"""Run directories: a run owns a new folder and says there what it is before its first step."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrl_fair.errors import RunError
from mtrl_fair.machine import describe_machine
from mtrl_fair.runs.checkpoints import load_checkpoint, save_checkpoint

EVALUATION_COLUMNS = ("step", "task", "success", "episodes", "return", "episode_length")

MAY_CHANGE = frozenset(
    {
        "total_steps",
        "stop_at_success",
        "device",
        "cuda_graph",
        "threads",
        "environment.num_workers",
        "data",
        "loader_workers",
    }
)
"""Settings that a resumed run may change: a run may be prolonged, and moved, after which rounding
may differ."""


class RunDirectory:
    """A folder with `config.json`, `metadata.json`, `metrics.jsonl`, `evaluations.csv`, TensorBoard
    events and `checkpoints/`. Make one with `create` or `open`.

    Args:
        columns: of `evaluations.csv`; the first is the step.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        columns: Sequence[str] = EVALUATION_COLUMNS,
    ):
        self.path = path
        self.config = dict(config)
        self.columns = tuple(columns)
        self._lock: int | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        columns: Sequence[str] = EVALUATION_COLUMNS,
    ) -> RunDirectory:
        """A new folder with its configuration, versions, commit and machine.

        Raises:
            RunError: the folder exists.
        """
        path = Path(path)
        if path.exists():
            is_run = (path / "config.json").is_file()
            resume = f", or continue that run with --resume {path}" if is_run else ""
            raise RunError(
                f"the run directory {path} exists: choose another with --run-dir{resume}"
            )
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RunError(
                f"the run directory {path} cannot be made ({error.strerror}): choose another with"
                " --run-dir"
            ) from error
        run = cls(path, config, columns)
        run.lock()
        (path / "checkpoints").mkdir()
        run.write_config(config)
        write_json(path / "metadata.json", describe_machine() | {"resumed": []})
        run.write_evaluations([])
        return run

    @classmethod
    def open(cls, path: str | Path, columns: Sequence[str] = EVALUATION_COLUMNS) -> RunDirectory:
        """An existing run.

        Raises:
            RunError: there is no run, or its configuration cannot be read.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise RunError(
                f"there is no run at {path}: expected a folder that train.py or supervised.py made,"
                " with config.json"
            )
        config = _parse((path / "config.json").read_text(errors="replace"), path / "config.json")
        return cls(path, config, columns)

    def continue_from(
        self, step: int, config: Mapping[str, Any], kept_until: int | None = None
    ) -> None:
        """For a run whose state was loaded: drops the metrics and evaluations that a killed run
        left after the step, adds to `metadata.json` what continues the run, and from which step,
        and replaces `config.json`.

        Args:
            kept_until: the last step whose metrics and evaluations are kept; None: `step`.

        Raises:
            RunError: a file cannot be read; nothing has changed then.
        """
        metadata = self.metadata()
        self.rewind(step if kept_until is None else kept_until)
        resumed = [*metadata.get("resumed", []), {"step": step} | describe_machine()]
        write_json(self.path / "metadata.json", metadata | {"resumed": resumed})
        self.write_config(config)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replaces `config.json`."""
        self.config = dict(config)
        write_json(self.path / "config.json", self.config)

    def metadata(self) -> dict[str, Any]:
        """What `metadata.json` holds; nothing if there is none.

        Raises:
            RunError: it cannot be read.
        """
        path = self.path / "metadata.json"
        return _parse(path.read_text(errors="replace"), path) if path.exists() else {}

    def lock(self) -> None:
        """Keeps others from writing to this run, until `unlock` or the end of the process.

        Raises:
            RunError: another process has the lock.
        """
        self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is training in {self.path}: wait for it, or stop it first"
            ) from None
        except OSError:
            pass  # a file system without locks

    def unlock(self) -> None:
        """Lets others write to this run again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def checkpoint_path(self, name: str) -> Path:
        return self.path / "checkpoints" / f"{name}.pt"

    def save_checkpoint(self, name: str, state: Mapping[str, Any]) -> None:
        """Replaces `checkpoints/{name}.pt`, whole or not at all."""
        save_checkpoint(self.checkpoint_path(name), {"config": json.dumps(self.config), **state})

    def load_checkpoint(
        self, name: str, needs: Collection[str] = (), *, mmap: bool = False
    ) -> dict[str, Any]:
        """The state that `save_checkpoint` was given.

        Args:
            needs: keys that must be there.
            mmap: read tensors from the file only when they are used.

        Raises:
            RunError: the checkpoint is missing, truncated, foreign, or of another configuration, or
                lacks what is needed.
        """
        path = self.checkpoint_path(name)
        try:
            state = load_checkpoint(path, mmap=mmap)
        except (FileNotFoundError, ValueError) as error:
            raise RunError(str(error)) from error
        missing = [key for key in ("config", *needs) if key not in state]
        if missing:
            raise RunError(
                f"the checkpoint {path} lacks {', '.join(missing)}: it was saved for another"
                " purpose (best.pt holds a policy, only latest.pt can be resumed); restore the file"
            )
        saved = flatten(json.loads(state.pop("config")))
        here = flatten(self.config)
        # A setting that only config.json has is newer than the checkpoint.
        keys = sorted(saved.keys() - MAY_CHANGE)
        different = [key for key in keys if saved.get(key) != here.get(key)]
        if different:
            key = different[0]
            raise RunError(
                f"{self.path / 'config.json'} does not match {path}: {key} is"
                f" {here.get(key)!r} there and {saved.get(key)!r} in the checkpoint;"
                " restore config.json"
            )
        return state

    def add_evaluation(self, step: int, rows: Iterable[Sequence[str | int | float]]) -> None:
        """Appends rows to `evaluations.csv`, given without their first column, the step."""
        with (self.path / "evaluations.csv").open("a", newline="") as file:
            csv.writer(file).writerows((step, *row) for row in rows)

    def evaluations(self) -> list[dict[str, str]]:
        """The rows of `evaluations.csv` that are whole: a run may be writing, or have been killed.

        Raises:
            RunError: the file has other columns, or a row of another length.
        """
        path = self.path / "evaluations.csv"
        rows = list(csv.reader(_whole_lines(path)))
        if rows and tuple(rows[0]) != self.columns:
            raise RunError(
                f"{path} has the columns {','.join(rows[0])}, expected {','.join(self.columns)}: it"
                " is of another version (metadata.json names the commit), or of another kind of run"
            )
        for number, row in enumerate(rows, 1):
            if len(row) != len(self.columns):
                raise RunError(
                    f"line {number} of {path} has {len(row)} values, expected {len(self.columns)}:"
                    " restore it"
                )
        return [dict(zip(self.columns, row, strict=True)) for row in rows[1:]]

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` that are whole.

        Raises:
            RunError: one cannot be read.
        """
        path = self.path / "metrics.jsonl"
        return [_parse(line, path, number) for number, line in enumerate(_whole_lines(path), 1)]

    def write_evaluations(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Replaces `evaluations.csv`, whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "evaluations.csv", text.getvalue())

    def rewind(self, step: int) -> None:
        """Drops the metrics and evaluations after a step, which a killed run leaves behind.

        Raises:
            RunError: as `evaluations` and `metrics`; nothing has changed then.
        """
        kept = [row for row in self.evaluations() if int(row[self.columns[0]]) <= step]
        metrics = self.path / "metrics.jsonl"
        lines = zip(_whole_lines(metrics), self.metrics(), strict=True)
        kept_lines = [line for line, found in lines if found["step"] <= step]
        self.write_evaluations(kept)
        if metrics.exists():
            write_text(metrics, "".join(kept_lines))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _whole_lines(path: Path) -> list[str]:
    """The lines that end, with their ends; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        return [line for line in file if line.endswith("\n")]


def _parse(text: str, path: Path, line: int | None = None) -> dict[str, Any]:
    """The object that a JSON file, or a line of one, holds."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        place = path if line is None else f"line {line} of {path}"
        raise RunError(f"{place} cannot be read ({error}): restore it") from error
    return found


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces a file, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file, whole or not at all. Line ends are written as they are."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
