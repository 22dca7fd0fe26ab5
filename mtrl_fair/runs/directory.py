"""Run directories: a run owns a new folder and says there what it is before its first step."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_fair.errors import RunError
from mtrl_fair.machine import describe_machine
from mtrl_fair.runs.checkpoints import BEST, LATEST, load_checkpoint, save_checkpoint
from mtrl_fair.runs.files import (
    AppendedFile,
    complete_lines,
    flatten,
    make_folder,
    parse_object,
    read_object,
    write_json,
    write_text,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_DIGITS = 16
"""Digits that a step has less than: floats, which figures count with, hold no more exactly."""


@dataclass(frozen=True)
class RunKind:
    """What a trainer says of its runs, because this package knows no trainer."""

    columns: tuple[str, ...] = ()
    """The columns of `evaluations.csv`; the first is the step. (): those that the file has."""
    may_change: frozenset[str] = frozenset()
    """Dotted keys of the settings that a resumed run may change."""
    new_flag: str = ""
    """The flag that names another new folder, for messages."""
    resume_flag: str = ""
    """The flag that continues a run, for messages."""


NO_KIND = RunKind()
"""The kind of a run that is only read."""


class RunDirectory:
    """A folder with `config.json`, `metadata.json`, `metrics.jsonl`, `evaluations.csv`, TensorBoard
    events and `checkpoints/`. Make one with `create` or `open`.

    Args:
        path: the folder.
        config: the settings, as plain data for JSON.
        kind: what the run's trainer says of its runs. Who reads or writes no evaluations, and loads
            no checkpoint, need not give it.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], kind: RunKind = NO_KIND):
        self.path = path
        self.config = dict(config)
        self.kind = kind
        self._evaluations = AppendedFile(path / "evaluations.csv")
        self._lock: int | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        kind: RunKind = NO_KIND,
        *,
        numbered: bool = False,
    ) -> RunDirectory:
        """Makes a new folder, writes configuration, versions, commit and machine, and locks it.

        With `numbered`, which is for names that nobody chose, the folder is PATH-2, PATH-3, … where
        others are there already.

        Raises:
            RunError: the folder exists, or cannot be made.
        """
        path = Path(path)
        another = f"choose another with {kind.new_flag}" if kind.new_flag else "choose another"
        try:
            path = make_folder(path, numbered=numbered)
        except FileExistsError:
            is_run = (path / "config.json").is_file() and kind.resume_flag
            resume = f", or continue that run with {kind.resume_flag} {path}" if is_run else ""
            raise RunError(f"the run directory {path} exists: {another}{resume}") from None
        except OSError as error:
            raise RunError(
                f"the run directory {path} cannot be made ({error.strerror}): {another}"
            ) from error
        run = cls(path, config, kind)
        run.lock()
        (path / "checkpoints").mkdir()
        write_json(path / "metadata.json", describe_machine() | {"resumed": []})
        run.write_evaluations([])
        run.write_config(config)  # last: with it, a folder is a run, even if this is killed
        return run

    @classmethod
    def open(cls, path: str | Path, kind: RunKind = NO_KIND) -> RunDirectory:
        """Opens an existing run, without locking it.

        Raises:
            RunError: there is no run, or its configuration cannot be read.
        """
        path = Path(path)
        config = path / "config.json"
        if not config.is_file():
            raise RunError(
                f"there is no run at {path}: expected the folder that a training made, with"
                " config.json"
            )
        return cls(path, read_object(config), kind)

    def continue_from(
        self, step: int, config: Mapping[str, Any], kept_until: int | None = None
    ) -> None:
        """Makes the files those of a run at this step, once the state of a checkpoint was loaded.

        Drops the metrics and evaluations that a killed run left after the step, adds to
        `metadata.json` which program continues the run and from which step, and replaces
        `config.json`.

        Args:
            step: the step of the checkpoint.
            config: the settings from here on.
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
        """Returns what `metadata.json` holds, or nothing if there is none.

        Raises:
            RunError: it cannot be read.
        """
        path = self.path / "metadata.json"
        found = read_object(path) if path.exists() else {}
        resumed = found.get("resumed", [])
        parts = [found, *resumed] if isinstance(resumed, list) else [None]
        if not all(isinstance(part, dict) and _is_start(part) for part in parts):
            raise RunError(
                f"{path} cannot be read (it must say of the run's start, and of each time in"
                " resumed, a commit and a command in words): restore it"
            )
        return found

    def lock(self) -> None:
        """Keeps other programs from writing to this run, until `unlock` or the end of the process.

        Warns where the system or the file system has no locks.

        Raises:
            RunError: another process has the lock.
        """
        self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            if fcntl is None:
                raise OSError("the system has no flock")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise RunError(
                f"another process is training in {self.path}: wait for it, or stop it first"
            ) from None
        except OSError as error:
            warnings.warn(
                f"{self.path} cannot be locked ({error.strerror or error}): see to it that no other"
                " program trains there",
                stacklevel=2,
            )

    def unlock(self) -> None:
        """Lets others write to this run again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def checkpoint_path(self, name: str) -> Path:
        """Returns where the checkpoint of a name is, whether there is one or not."""
        return self.path / "checkpoints" / f"{name}.pt"

    def save_checkpoint(self, name: str, state: Mapping[str, Any]) -> None:
        """Replaces `checkpoints/{name}.pt`, as a whole or not at all."""
        save_checkpoint(self.checkpoint_path(name), {"config": json.dumps(self.config), **state})

    def load_checkpoint(
        self, name: str, needs: Collection[str] = (), *, mmap: bool = False
    ) -> dict[str, Any]:
        """Returns the state that `save_checkpoint` was given.

        Args:
            name: such as `LATEST` and `BEST` of `mtrl_fair.runs.checkpoints`.
            needs: keys that must be there.
            mmap: read tensors from the file only when they are used.

        Raises:
            RunError: the checkpoint is missing, truncated, foreign, of another version, of another
                configuration, or lacks what is needed.
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
                f" purpose ({BEST}.pt holds a policy, only {LATEST}.pt can be resumed); restore the"
                " file"
            )
        step = state.get("step", 0)
        if type(step) is not int or not 0 <= step < 10**MAX_DIGITS:
            raise RunError(f"the checkpoint {path} is of step {step!r}: restore the file")
        saved = flatten(parse_object(str(state.pop("config")), path))
        here = flatten(self.config)
        # A setting that only config.json has is newer than the checkpoint.
        keys = sorted(saved.keys() - self.kind.may_change)
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
        """Adds rows to `evaluations.csv`, given without their first column, the step.

        Raises:
            WriteError: it cannot be written. The next evaluation adds these rows, too.
        """
        text = io.StringIO()
        csv.writer(text).writerows((step, *row) for row in rows)
        self._evaluations.append(text.getvalue())

    def evaluations(self) -> list[dict[str, str]]:
        """Returns the complete rows of `evaluations.csv`.

        Raises:
            RunError: the file has other columns, or a row of another length.
        """
        path = self.path / "evaluations.csv"
        try:
            rows = list(csv.reader(complete_lines(path)))
        except csv.Error as error:
            raise RunError(f"{path} cannot be read ({error}): restore it") from error
        columns = self.kind.columns or tuple(rows[0] if rows else ())
        if rows and tuple(rows[0]) != columns:
            raise RunError(
                f"{path} has the columns {','.join(rows[0])}, expected {','.join(columns)}: it is"
                " of another version (metadata.json names the commit), or of another kind of run"
            )
        for number, row in enumerate(rows, 1):
            if len(row) != len(columns):
                raise RunError(
                    f"line {number} of {path} has {len(row)} values, expected {len(columns)}:"
                    " restore it"
                )
            if self.kind.columns and number > 1 and not _is_step(row[0]):
                raise RunError(
                    f"{path} is damaged (line {number} is of step {row[0]!r}, expected a whole"
                    " number): restore it"
                )
        return [dict(zip(columns, row, strict=True)) for row in rows[1:]]

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the complete lines of `metrics.jsonl`: a step, and numbers or None by name.

        Raises:
            RunError: one cannot be read, or holds something else.
        """
        path = self.path / "metrics.jsonl"
        found = []
        for number, line in enumerate(complete_lines(path), 1):
            values = parse_object(line, path, number)
            wrong = [key for key, value in values.items() if not _is_number_or_none(value)]
            if wrong or values.get("step") is None:
                key = wrong[0] if wrong else "step"
                raise RunError(
                    f"line {number} of {path} cannot be read ({key} is no finite number):"
                    " restore it"
                )
            found.append(values)
        return found

    def write_evaluations(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Replaces `evaluations.csv`, as a whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.kind.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "evaluations.csv", text.getvalue())

    def rewind(self, step: int) -> None:
        """Drops the metrics and evaluations after a step, which a killed run leaves behind.

        Raises:
            RunError: as `evaluations` and `metrics`; nothing has changed then.
        """
        kept = [row for row in self.evaluations() if int(row[self.kind.columns[0]]) <= step]
        metrics = self.path / "metrics.jsonl"
        lines = zip(complete_lines(metrics), self.metrics(), strict=True)
        kept_lines = [line for line, found in lines if found["step"] <= step]
        self.write_evaluations(kept)
        if metrics.exists():
            write_text(metrics, "".join(kept_lines))


def _is_start(part: Mapping[str, Any]) -> bool:
    """Returns whether commit and command of a part of `metadata.json`, if any, are words."""
    command = part.get("command", [])
    words = [part.get("commit") or "", *(command if isinstance(command, list) else [None])]
    return all(isinstance(word, str) for word in words)


def _is_step(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS


def _is_number_or_none(value: object) -> bool:
    """Returns whether a value of a metric is one that a float can hold and that is finite."""
    if value is None:
        return True
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max
