"""Files of a run: written as a whole or not at all, and read although a run may be writing them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from mtrl_fair.errors import RunError, WriteError

LONGEST_NAME = 255
"""Bytes of a name that file systems take."""
MAX_JSON_BYTES = 1 << 24
"""The size of a JSON file that is read whole; the largest that mtrl-fair writes is 1000 times
smaller. Else a file could fill the memory."""
MAX_NESTING = 50
"""The levels of objects and lists in a JSON file. Python's own limit is an error that names no
file, and parts of a program meet it at other depths."""


class RecordingFile:
    """A file that keeps the error of a failed write: `torch.save` raises another one instead."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        """Writes like the file itself.

        Raises:
            OSError: the file's.
        """
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flushes the file."""
        self._file.flush()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` at the end of the block: a kill, a full disk or
    an error at any moment leaves the old file, or the new one.

    What a link points to is replaced, not the link. A device or a pipe, such as /dev/stdout, is
    written to.

    Raises:
        WriteError: it could not be written. Nothing is left of it.
    """
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as file:
                yield cast(BinaryIO, file)
        except OSError as error:
            raise cannot_be_written(path, error) from error
        return
    path = path.resolve()
    temporary = path.with_name(path.name + ".tmp")
    recording: RecordingFile | None = None
    try:
        with temporary.open("wb") as file:
            recording = RecordingFile(file)
            yield cast(BinaryIO, recording)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the rename could leave an empty file
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        cause = error if isinstance(error, OSError) else None
        if cause is None and recording is not None:
            cause = recording.error
        if cause is None:
            raise
        raise cannot_be_written(path, cause) from error


def cannot_be_written(path: Path, error: OSError) -> WriteError:
    """Returns the error of a file that is as it was, because it could not be written."""
    mend = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some of your quota",
        errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    }.get(error.errno or 0, "look at its folder and your rights there")
    return WriteError(f"{path} cannot be written ({error.strerror or error}): {mend}")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces a file, as a whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file, as a whole or not at all; line ends are written as they are."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file, as a whole or not at all."""
    with replacing(path) as file:
        file.write(content)


class AppendedFile:
    """A file to which whole texts are added, each when it is given or, if it cannot be, later.

    Args:
        path: the file, made if it is not there.
    """

    def __init__(self, path: Path):
        self.path = path
        self._pending = b""

    def append(self, text: str = "") -> None:
        """Writes a text, and before it what could not be written earlier.

        Raises:
            WriteError: it could not be written. It is kept until the next call.
        """
        self._pending += text.encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                while self._pending:  # a full disk may take a part
                    self._pending = self._pending[file.write(self._pending) :]
        except OSError as error:
            raise cannot_be_written(self.path, error) from error


def make_folder(path: Path, *, numbered: bool = False) -> Path:
    """Makes a folder that was not there, and returns it.

    Args:
        path: the folder.
        numbered: makes PATH-2, PATH-3, … where others are there already. No program gets a folder
            that another has made, even if both come at the same time.

    Raises:
        OSError: it cannot be made; FileExistsError where it is there.
    """
    number = 1
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            if not numbered:
                raise
        number += 1


def complete_lines(path: Path) -> list[str]:
    """Returns the lines that have an end, with their ends; none if there is no file.

    The last line has no end if a run is writing it, or was killed while it did.
    """
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        return [line for line in file if line.endswith("\n")]


def read_object(path: Path, mend: str = "restore it") -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Args:
        path: the file, which may be in a zip file.
        mend: what to do if it cannot be read, for the message.

    Raises:
        RunError: it cannot be read, is too large, or holds no JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror or error}): {mend}") from error
    if len(content) > MAX_JSON_BYTES:
        raise RunError(f"{path} cannot be read (it has more than {MAX_JSON_BYTES} bytes): {mend}")
    return parse_object(content.decode(errors="replace"), path, mend=mend)


def parse_object(
    text: str, path: Path, line: int | None = None, mend: str = "restore it"
) -> dict[str, Any]:
    """Returns the object that a JSON file, or one line of it, holds.

    Args:
        text: the content.
        path: the file, for the message.
        line: the number of the line, for the message; None: the text is the whole file.
        mend: what to do if it cannot be read, for the message.

    Raises:
        RunError: it holds no JSON object, or one that is nested deeper than any of ours.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
        check_nesting(found)
    except (ValueError, RecursionError) as error:
        place = path if line is None else f"line {line} of {path}"
        raise RunError(f"{place} cannot be read ({error}): {mend}") from error
    return found


def check_nesting(found: Any) -> None:
    """Raises ValueError if dicts, lists and tuples lie too deep within one another, or in
    themselves, as a checkpoint can have them."""
    level = {0: found}
    for _ in range(MAX_NESTING):
        level = {  # each object once, however often a level has it
            id(inner): inner
            for outer in level.values()
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list | tuple)
        }
        if not level:
            return
    raise ValueError(f"its values are nested in more than {MAX_NESTING} levels")


def is_name(text: object) -> bool:
    """Returns whether a text from a file may become a folder's name: it leads to no other folder,
    and file systems take it.

    >>> [is_name(text) for text in ("fairgrad-0", "..", "a/b", "", 3)]
    [True, False, False, False, False]
    """
    if not isinstance(text, str) or text in ("", "..") or not text.isprintable():
        return False
    return Path(text).name == text and len(text.encode()) <= LONGEST_NAME


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings under dotted keys.

    >>> flatten({"seed": 0, "agent": {"actor": {"width": 400}}})
    {'seed': 0, 'agent.actor.width': 400}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
