"""Pools of plain numpy rows: a worker starts in a tenth of the time that Meta-World takes."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from envs.workers.memory import open_memory
from envs.workers.pool import WorkerError, WorkerPool
from tests.envs.workers.numpy_row import STEP, NumpyArrays, NumpySpec


class NumpyPool(WorkerPool):
    """A pool whose rows have the names that are given for each worker, such as "a b".

    Args:
        workers: the names of each worker's rows.
        caller: those of this process's rows.
        faults: for the row of a name, the phase in which something goes wrong, and what.
        payload: for every row, bytes that are sent with its specification.
    """

    def __init__(
        self,
        *workers: str,
        caller: str = "",
        faults: dict[str, tuple[str, str]] | None = None,
        payload: bytes = b"",
        timeout: float = 30.0,
    ):
        names = [*(rows.split() for rows in workers), caller.split()]
        numbers = iter(range(100))
        specs = [
            [
                NumpySpec(next(numbers), name, (faults or {}).get(name, ("", "")), payload)
                for name in rows
            ]
            for rows in names
        ]
        memory = open_memory()
        try:
            self.arrays = NumpyArrays(next(numbers), memory)
            self.arrays.active[:] = True
            super().__init__(specs[:-1], specs[-1], self.arrays, memory, timeout)
        finally:
            os.close(memory)

    def step(self) -> list[int]:
        """One command, from the beginning to the end; returns how many each row has carried out."""
        self.command(STEP)
        self.wait()
        return self.arrays.count.tolist()


def assert_says_so_again(pool: WorkerPool, message: str) -> None:
    """Once a worker has failed, every call says what happened."""
    for call in (pool.check, pool.wait, lambda: pool.command(STEP)):
        with pytest.raises(WorkerError, match=message) as caught:
            call()
        assert "Close this environment and make a new one." in str(caught.value)


@contextlib.contextmanager
def open_pool(*workers: str, **options) -> Iterator[NumpyPool]:
    with contextlib.closing(NumpyPool(*workers, **options)) as pool:
        yield pool
