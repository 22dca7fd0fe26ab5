"""The memory that a pool's processes share."""

from __future__ import annotations

import mmap
import os
import tempfile
from abc import ABC, abstractmethod

import numpy as np


class SharedArrays(ABC):
    """Arrays in an anonymous memory file, which vanishes with the last process that uses it.

    A subclass says which arrays: each field of its `layout`, and of the records in it, becomes an
    attribute. A worker makes its own instance of the same class on the same file, so the subclass
    must be importable, and all of its state must be in the arrays.

    Args:
        num_rows: of each array.
        descriptor: of a file from `open_memory`; the first process to map it gives it its size.
    """

    active: np.ndarray
    """[row] bool: the rows that the next command concerns."""

    def __init__(self, num_rows: int, descriptor: int):
        self.num_rows = num_rows
        layout = self.layout(num_rows)
        if os.fstat(descriptor).st_size < layout.itemsize:
            os.ftruncate(descriptor, layout.itemsize)
        self._mapped = mmap.mmap(descriptor, layout.itemsize)
        self._record: np.ndarray = np.ndarray((), layout, self._mapped)
        self._name_fields(self._record)

    @classmethod
    @abstractmethod
    def layout(cls, num_rows: int) -> np.dtype:
        """Returns the record of all arrays, among them `active`."""

    def bytes_of(self, field: str) -> memoryview:
        """Returns the memory of one field of the layout."""
        fields = self._record.dtype.fields
        assert fields is not None
        kind, start = fields[field][:2]
        return memoryview(self._mapped)[start : start + kind.itemsize]

    def _name_fields(self, record: np.ndarray) -> None:
        for name in record.dtype.names or ():
            setattr(self, name, record[name])
            self._name_fields(record[name])


def open_memory() -> int:
    """Returns the descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mtrl-fair")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
