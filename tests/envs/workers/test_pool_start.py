"""A worker that cannot start, or hangs at its start, is reported."""

import os
import sys
from pathlib import Path

import pytest

from envs import WorkerError
from envs.workers import pool as pool_module
from tests.envs.workers.numpy_pool import NumpyPool
from tests.live_processes import children

pytestmark = pytest.mark.process


def test_a_missing_interpreter_is_reported(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    message = "worker 0 \\(a, b\\) could not start: .*No such file .*'/nowhere/python'"
    with pytest.raises(WorkerError, match=message):
        NumpyPool("a b", "c")


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("lines", ["exit 7", "sleep 0.3\nexit 7"])
def test_an_interpreter_that_fails_is_reported(tmp_path, monkeypatch, lines):
    before = children(os.getpid())
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", f"#!/bin/sh\n{lines}"))
    with pytest.raises(WorkerError, match="worker [01] .* ended with exit code 7"):
        NumpyPool("a", "b")
    assert children(os.getpid()) <= before


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("size", "answered"), [(1, "answered"), (10**6, "listened")])
def test_a_worker_that_hangs_at_its_start_is_given_up(
    tmp_path, monkeypatch, interrupt, size, answered
):
    """It is waited for, or what it should do fits into no buffer."""
    interrupt(60)  # or a failure would take for ever
    before = children(os.getpid())
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "#!/bin/sh\nexec sleep 60"))
    monkeypatch.setattr(pool_module, "START_TIMEOUT", 0.3)
    with pytest.raises(WorkerError, match=f"worker 0 .* has not {answered} for 0.3 seconds"):
        NumpyPool("a", "b", payload=bytes(size))
    assert children(os.getpid()) <= before


@pytest.mark.parametrize("size", [1, 10**6])
def test_a_worker_that_cannot_import_says_why(tmp_path, monkeypatch, size):
    """It has ended by the time that it is told what to do, and that fits into no buffer."""
    (tmp_path / "numpy.py").write_text("raise ImportError('libGL is missing')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(WorkerError) as caught:
        NumpyPool("a b", payload=bytes(size))
    message = str(caught.value)
    assert "a, b) failed while importing envs.workers.worker:\nTraceback" in message
    assert "ImportError: libGL is missing" in message


ROWS = """
from tests.envs.workers.numpy_row import NumpySpec

class Spec(NumpySpec):
    pass
"""


def test_a_worker_that_cannot_import_its_rows_says_why(tmp_path, monkeypatch):
    """As where a machine lacks a library of the simulator's."""
    file = tmp_path / "rows_of_this_test.py"
    file.write_text(ROWS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("tests.envs.workers.numpy_pool.NumpySpec", import_spec())
    NumpyPool("a").close()
    file.write_text("raise ImportError('libGL is missing')")
    with pytest.raises(WorkerError) as caught:
        NumpyPool("a b")
    message = str(caught.value)
    assert "a, b) failed while importing its rows:\nTraceback" in message
    assert "ImportError: libGL is missing" in message


def import_spec() -> type:
    from rows_of_this_test import Spec

    return Spec
