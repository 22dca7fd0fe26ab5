"""How processes wait for each other."""

import socket
import threading

import pytest

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
