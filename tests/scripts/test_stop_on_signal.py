"""Signals that ask a command to stop."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mtrl_fair.signals import STOP_SIGNALS
from scripts.command_line import stop_on_signal
from tests.scripts.commands import restored_process

ROOT = Path(__file__).parents[2]
SCHEDULERS = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    """Else SIGHUP would redirect the output of pytest itself, where it has a terminal."""
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_is_a_request_to_stop(number):
    with restored_process():
        should_stop = stop_on_signal()
        assert not should_stop()
        signal.raise_signal(number)
        assert should_stop()


@pytest.mark.parametrize("number", SCHEDULERS)
def test_a_second_one_stays_a_request_and_a_second_ctrl_c_interrupts(number):
    with restored_process():
        stop_on_signal()
        signal.raise_signal(number)
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_nohup_ignores_stays_ignored():
    with restored_process():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        should_stop = stop_on_signal()
        signal.raise_signal(signal.SIGHUP)
        assert not should_stop()
        signal.raise_signal(signal.SIGUSR1)
        assert should_stop()


def test_in_a_thread_nothing_changes():
    found, before = [], [signal.getsignal(number) for number in STOP_SIGNALS]
    thread = threading.Thread(target=lambda: found.append(stop_on_signal()()))
    thread.start()
    thread.join()
    assert found == [False]
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


@pytest.mark.process
def test_what_is_printed_after_the_terminal_has_gone_is_no_error(tmp_path):
    """A terminal that closes sends SIGHUP, and then fails every write."""
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from scripts.command_line import stop_on_signal
should_stop = stop_on_signal()
print("ready", flush=True)
while not should_stop():
    time.sleep(0.01)
print("stopped", flush=True)
open({str(tmp_path / "saved")!r}, "w").close()
"""
    ours, theirs = os.openpty()

    def own_terminal() -> None:
        import fcntl
        import termios

        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)  # the terminal goes
    assert process.wait(60) == 0
    assert (tmp_path / "saved").exists()
