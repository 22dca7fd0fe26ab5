"""How processes wait for each other."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from envs import make_vec
from envs.workers.worker import AWAKE, receive


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("awake", [0.0, AWAKE])
def test_a_look_takes_nothing(pair, awake):
    ours, theirs = pair
    theirs.send(b"ab")
    assert receive(ours, awake, socket.MSG_PEEK) == b"a"
    assert [receive(ours, awake), receive(ours, awake)] == [b"a", b"b"]


@pytest.mark.parametrize("awake", [0.0, AWAKE])
@pytest.mark.parametrize("flags", [0, socket.MSG_PEEK])
def test_what_comes_later_than_it_stays_awake_comes_too(pair, awake, flags):
    ours, theirs = pair
    timer = threading.Timer(20 * AWAKE, theirs.send, [b"a"])
    timer.start()
    assert receive(ours, awake, flags) == b"a"
    timer.join()


@pytest.mark.parametrize("awake", [0.0, AWAKE])
def test_the_other_end_s_end_is_empty(pair, awake):
    ours, theirs = pair
    theirs.close()
    assert receive(ours, awake) == b""


def test_a_worker_sleeps_while_nothing_is_asked_of_it():
    with contextlib.closing(make_vec("reach-v3", num_workers=1)) as venv:
        venv.reset()
        for _ in range(50):
            venv.step(np.zeros((1, 4)))
        time.sleep(0.1)
        (worker,) = venv._workers.processes
        before = processor_seconds(worker.pid)
        time.sleep(1)
        assert processor_seconds(worker.pid) - before < 0.1


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
