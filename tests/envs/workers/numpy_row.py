"""A row of plain numpy, which stands in for an environment where workers are tested."""

import os
import time
from typing import ClassVar, NamedTuple

import numpy as np

from envs.workers.memory import SharedArrays

STEP, DOUBLE = b"s", b"d"


def fail(kind: str) -> None:
    """What goes wrong: MuJoCo may crash, an environment may raise anything, or take for ever."""
    if kind == "value":
        raise ValueError("the row is broken")
    if kind == "end of file":
        raise EOFError("a file of the row's, not the worker's pipe")
    if kind == "exit":
        os._exit(7)
    time.sleep(float(kind))


class NumpyArrays(SharedArrays):
    count: np.ndarray
    total: np.ndarray

    @classmethod
    def layout(cls, num_rows: int) -> np.dtype:
        state = [("active", np.bool_, num_rows), ("count", np.int64, num_rows)]
        return np.dtype([("state", np.dtype(state)), ("total", np.int64, num_rows)])


class NumpySpec(NamedTuple):
    row: int
    name: str
    fault: tuple[str, str] = ("", "")
    """What goes wrong, and in which phase."""
    payload: bytes = b""

    def make(self, arrays: NumpyArrays) -> "NumpyRow":
        return NumpyRow(self, arrays)


class NumpyRow:
    def __init__(self, spec: NumpySpec, arrays: NumpyArrays):
        self.spec, self.arrays = spec, arrays
        self.begin("making")

    def begin(self, phase: str) -> None:
        if self.spec.fault[0] == phase:
            fail(self.spec.fault[1])

    def increment(self) -> None:
        self.begin("counting")
        self.arrays.count[self.spec.row] += 1

    def add_up(self) -> None:
        self.arrays.total[self.spec.row] = self.arrays.count.sum()

    def double(self) -> None:
        self.begin("doubling")
        self.arrays.count[self.spec.row] *= 2

    PHASES: ClassVar = {
        STEP: [("counting", increment), ("adding", add_up)],
        DOUBLE: [("doubling", double)],
    }
