"""A worker that cannot start, or hangs at its start, is reported."""

import os
import socket
import sys
from pathlib import Path

import pytest

from envs import WorkerError, make_vec
from envs.workers import pool as processes
from tests.envs.small_vector import ZERO
from tests.envs.workers.failures import broken
from tests.live_processes import children


def test_a_missing_interpreter_is_reported(pair, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    message = "worker 0 \\(drawer-close-v3\\) could not start: .*No such file .*'/nowhere/python'"
    with pytest.raises(WorkerError, match=message):
        make_vec(pair, num_workers=2)


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("lines", ["exit 7", "sleep 0.3\nexit 7"])
def test_an_interpreter_that_fails_is_reported(pair, tmp_path, monkeypatch, lines):
    before = children(os.getpid())
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", f"#!/bin/sh\n{lines}"))
    with pytest.raises(WorkerError, match="worker [01] .* ended with exit code 7"):
        make_vec(pair, num_workers=2)
    assert children(os.getpid()) <= before


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("size", "answered"), [(1, "answered"), (10**6, "listened")])
def test_a_worker_that_hangs_at_its_start_is_given_up(
    pair, tmp_path, monkeypatch, interrupt, size, answered
):
    """It is waited for, or what it should do fits into no buffer."""
    interrupt(60)  # or a failure would take for ever
    before = children(os.getpid())
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "#!/bin/sh\nexec sleep 60"))
    monkeypatch.setattr(processes, "START_TIMEOUT", 0.3)
    with pytest.raises(WorkerError, match=f"worker 0 .* has not {answered} for 0.3 seconds"):
        make_vec(broken(pair, 0, 1, bytes(size)), num_workers=2)
    assert children(os.getpid()) <= before


@pytest.mark.parametrize("size", [1, 10**6])
def test_a_worker_that_cannot_import_says_why(pair, tmp_path, monkeypatch, size):
    """It has ended by the time that it is told what to do, and that fits into no buffer."""
    (tmp_path / "metaworld.py").write_text("raise ImportError('libGL is missing')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(WorkerError) as caught:
        make_vec(broken(pair, 0, 1, bytes(size)), num_workers=1)
    assert "reach-v3) failed while importing:\nTraceback" in str(caught.value)
    assert "ImportError: libGL is missing" in str(caught.value)


def test_sockets_with_a_default_timeout_change_nothing(make, pair):
    socket.setdefaulttimeout(1e-3)
    try:
        venv = make(pair, num_workers=1)
    finally:
        socket.setdefaulttimeout(None)
    venv.reset()
    for _ in range(20):
        venv.step(ZERO)
