"""Where runs are kept: each in a folder, or several of them in one zip file."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from mtrl_fair.runs import RunDirectory, RunError, RunKind
from mtrl_fair.runs.files import is_name, read_object, replacing

FILES = ("config.json", "evaluations.csv", "metadata.json", "metrics.jsonl")
"""What a zip file holds of each run, in a folder with the name of the run."""
MAX_BYTES = 1 << 26
"""The size that a zip file may have, and all of its files together when they are unpacked; ours
have up to 1.4 MB. A small file could fill the memory otherwise."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The compressions that are read. Python unpacks others without a bound."""
ENCRYPTED = 1
"""The bit of a member's flags that says so."""
OLDEST_TIME = (1980, 1, 1, 0, 0, 0)
"""The time that every file in a zip has, so that the same runs make the same bytes."""


def open_runs(place: str | Path, kind: RunKind) -> list[RunDirectory]:
    """Opens a run, or all runs of a zip file.

    Args:
        place: the folder of a run, a zip file (`two_hours.zip`), or a run in a zip file
            (`two_hours.zip/fairgrad-0`).
        kind: what is in the directories of the trainer's runs.

    Raises:
        RunError: there is no such run, or its files are damaged.
    """
    place = Path(place)
    container = next((path for path in (place, *place.parents) if path.is_file()), None)
    if container is None:
        return [RunDirectory.open(place, kind)]
    archive = _read_zip(container)
    names = sorted({name.partition("/")[0] for name in archive.namelist()})
    if not names:
        raise RunError(f"{container} holds no run: write one into it with archive.py")
    if place == container:
        return [_open_member(archive, container, name, kind) for name in names]
    name = place.relative_to(container).as_posix()
    if name not in names:
        raise RunError(f"there is no run {name} in {container}: choose from {', '.join(names)}")
    return [_open_member(archive, container, name, kind)]


def is_zip(path: Path) -> bool:
    """Returns whether runs at this place are kept in one zip file."""
    return path.suffix.lower() == ".zip"


def write_zip(path: Path, runs: Mapping[str, Mapping[str, bytes]]) -> None:
    """Writes runs into a zip file, beside the others that it holds.

    The bytes depend on the runs only: not on the time, nor on the order in which runs came.

    Args:
        path: the zip file; it is replaced as a whole or not at all.
        runs: the files of each run by its name. A run of that name is replaced.

    Raises:
        RunError: the file exists and cannot be read, or there would be too much in it.
    """
    members: dict[str, bytes] = {}
    if path.exists():
        archive = _read_zip(path)
        kept = (name for name in archive.namelist() if name.partition("/")[0] not in runs)
        members = {name: _read_member(archive, path, name) for name in kept}
    for run, files in runs.items():
        members |= {f"{run}/{name}": content for name, content in files.items()}
    if sum(map(len, members.values())) > MAX_BYTES:
        raise RunError(f"{path} would hold more than {MAX_BYTES} bytes: choose another output")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, OLDEST_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever this runs: the bytes must not depend on it.
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content.getvalue())


def _read_zip(path: Path) -> zipfile.ZipFile:
    """Reads a zip file into memory, so that it may be replaced while it is used."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        _check_members(archive.infolist())
    # NotImplementedError is zipfile's for a part of the format that it does not know.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise RunError(
            f"{path} cannot be read as a zip file of runs ({error}): restore it, or give the folder"
            " of a run"
        ) from error
    archive.filename = str(path)  # zipfile.Path shows it in the paths of members.
    return archive


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    """Raises ValueError unless each member is a file in a run's folder, and all fit in memory."""
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise ValueError(f"its files have more than {MAX_BYTES} bytes when they are unpacked")
    for member in members:
        # A run's name becomes that of a folder, which must not lie elsewhere.
        if not is_name(member.filename.partition("/")[0]):
            raise ValueError(f"{member.filename!r} is no file in the folder of a run")
        if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
            raise ValueError(f"{member.filename!r} is encrypted or compressed in another way")


def _read_member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            # With its size: without one, zipfile unpacks more than the member says it holds.
            return file.read(archive.getinfo(name).file_size)
    except KeyError:
        raise RunError(f"{path} has no {name}: restore the file") from None
    # A member's own header may differ from the zip file's list: encrypted, or compressed in a way
    # that zipfile does not know (NotImplementedError).
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise RunError(f"{path} is damaged at {name} ({error}): restore the file") from error


def _open_member(archive: zipfile.ZipFile, path: Path, run: str, kind: RunKind) -> RunDirectory:
    for file in FILES:
        _read_member(archive, path, f"{run}/{file}")  # Finds damage before anything is computed.
    # A path within a zip file reads as other paths do. Only what writes needs a real one, and
    # nothing writes to a run that is read back.
    folder = cast(Path, zipfile.Path(archive, f"{run}/"))
    return RunDirectory(folder, read_object(folder / "config.json"), kind)
