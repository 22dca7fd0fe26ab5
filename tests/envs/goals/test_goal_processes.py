"""Processes that use the goal cache at once, or are killed while they write."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.envs.goals.cache_files import REACH, only_file

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[3]


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_at_once_all_get_the_goals(folder, tmp_path, load, package):
    """They draw and write together; then each writes and reads the same file again and again."""
    code = f"""
import hashlib, os, time
from pathlib import Path
from envs import goals
started = Path({str(tmp_path)!r})
(started / f"ready-{{os.getpid()}}").touch()
while not (started / "go").exists():
    time.sleep(0.001)
drawn = goals.load_or_draw({REACH!r}, [{REACH!r}], 0, lambda: goals.draw_goals([{REACH!r}], 0))
(path,) = goals.cache_folder().glob("*.json")
for _ in range(30):
    goals._store(path, path.stem, [{REACH!r}], drawn)
    assert goals._load(path, path.stem, [{REACH!r}]) == drawn
print(hashlib.sha256(repr(drawn).encode()).hexdigest())
"""
    processes = [python(code) for _ in range(3)]
    while len(list(tmp_path.glob("ready-*"))) < 3:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=60) for process in processes]
    digest = hashlib.sha256(repr(package.train_tasks).encode()).hexdigest()
    assert outputs == [(f"{digest}\n", "")] * 3
    assert load() == package.train_tasks
    assert load.draws == 0
    assert only_file(folder)


def test_a_kill_while_writing_leaves_no_half_file(folder, load, package):
    code = f"""
import os, signal
from envs import goals
def kill(descriptor):
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = kill
goals.load_or_draw({REACH!r}, [{REACH!r}], 0, lambda: goals.draw_goals([{REACH!r}], 0))
"""
    process = python(code)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGKILL
    half = only_file(folder)
    assert half.suffix == ".tmp"
    assert half.stat().st_size > 0
    assert load() == load() == package.train_tasks
    assert load.draws == 1
    assert {path.suffix for path in folder.iterdir()} == {".tmp", ".json"}
