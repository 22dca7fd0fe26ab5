"""Pools that end with their test, and how long they may take for it."""

import pytest

from envs.workers import process
from tests.envs.workers.numpy_pool import NumpyPool
from tests.live_processes import is_alive


@pytest.fixture
def start(request):
    """`NumpyPool`; when the test ends, the pool is closed and its processes are gone."""

    def start(*workers: str, **options) -> NumpyPool:
        def close():
            pool.close()
            assert None not in [
                worker.returncode for worker in pool.processes
            ]  # reaped: no zombies
            assert not any(is_alive(worker.pid) for worker in pool.processes)

        pool = NumpyPool(*workers, **options)
        request.addfinalizer(close)
        return pool

    return start


@pytest.fixture
def impatient(monkeypatch):
    """A worker that has not ended half a second after closing is killed."""
    monkeypatch.setattr(process, "CLOSE_TIMEOUT", 0.5)
