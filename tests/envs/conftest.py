"""Environments that the tests of this folder share, and what interrupts them."""

import contextlib
import signal

import metaworld
import pytest

from envs import TaskSet, make_vec
from tests.envs.interrupts import Interrupted
from tests.envs.small_vector import PAIR, make_here
from tests.live_processes import is_alive


@pytest.fixture(scope="session")
def package_mt10() -> metaworld.MT10:
    """The package's own benchmark, whose construction takes ten seconds."""
    return metaworld.MT10(seed=0)


@pytest.fixture(scope="module")
def pair() -> TaskSet:
    return TaskSet.make(PAIR, seed=3)


@pytest.fixture(scope="module")
def short(pair):
    """An environment with episodes of 20 steps, for tests that begin with a reset."""
    with contextlib.closing(make_here(pair, max_episode_steps=20, all_infos=True)) as venv:
        yield venv


@pytest.fixture(scope="module")
def with_workers(pair):
    """The same with two workers, for tests that are marked as processes."""
    with contextlib.closing(
        make_vec(pair, num_workers=2, max_episode_steps=20, all_infos=True)
    ) as venv:
        yield venv


@pytest.fixture
def make(request):
    """make_vec without worker processes, unless it is asked for them; when the test ends, the
    environment is closed and its processes are gone."""

    def make(*args, **kwargs):
        def close():
            venv.close()
            workers = venv._workers.processes
            assert None not in [worker.returncode for worker in workers]  # reaped: no zombies
            assert not any(is_alive(worker.pid) for worker in workers)

        venv = make_vec(*args, **kwargs) if "num_workers" in kwargs else make_here(*args, **kwargs)
        request.addfinalizer(close)
        return venv

    return make


@pytest.fixture
def interrupt():
    """Raises `Interrupted` in some seconds' time."""

    def handle(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
