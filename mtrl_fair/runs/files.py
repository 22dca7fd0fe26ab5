"""Files of a run: written as a whole or not at all, and read although a run may be writing them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtrl_fair.errors import RunError


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces a file, as a whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file, as a whole or not at all; line ends are written as they are."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power cut after the rename could leave an empty file
    temporary.replace(path)


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


def parse_object(text: str, path: Path, line: int | None = None) -> dict[str, Any]:
    """Returns the object that a JSON file, or one line of it, holds.

    Args:
        text: the content.
        path: the file, for the message.
        line: the number of the line, for the message; None: the text is the whole file.

    Raises:
        RunError: it holds no JSON object.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        place = path if line is None else f"line {line} of {path}"
        raise RunError(f"{place} cannot be read ({error}): restore it") from error
    return found


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
