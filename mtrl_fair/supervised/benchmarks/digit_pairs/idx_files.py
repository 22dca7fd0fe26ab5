"""Reads the IDX format of MNIST's files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from mtrl_fair.errors import DataError

UNSIGNED_BYTE = 8
MAX_BYTES = 1 << 28
"""The size of an array that is read; MNIST's largest has 47 MB. A small file could unpack to more
than fits in the memory."""


def read_idx(folder: Path, name: str, rank: int) -> np.ndarray:
    """Returns the array (uint8) in `name` or `name.gz`.

    Raises:
        DataError: neither file is there, or it is truncated, or it is no IDX file of that rank and
            of MNIST's size.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"there is no file {folder / name}, nor {name}.gz in that folder")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): download it again") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} holds more than {MAX_BYTES} bytes: download it again")
    header = 4 + 4 * rank
    if len(content) < header or content[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)):
        raise DataError(f"{path} is no IDX file of unsigned bytes with {rank} dimensions")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if math.prod(shape) == 0:
        raise DataError(f"{path} is empty: {list(shape)}; download it again")
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} is truncated: {len(content) - header} bytes for an array {list(shape)};"
            " download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
